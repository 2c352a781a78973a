"""Where rows around peaks come from: the scores of a genome, or the store of a set of peaks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import ExportError, StoreError
from tism_scan.export.aliases import read_aliases
from tism_scan.export.reference import Reference, check_four_bases
from tism_scan.export.region_files import Format
from tism_scan.export.region_rows import BaseCounts, RowBatch, TrackRows, rows_at_once, starts_of
from tism_scan.export.scan_rows import rows_of_scan
from tism_scan.genome.alphabet import N_CODE
from tism_scan.genome.peaks import PeakSet, read_peaks
from tism_scan.genome.spans import overlaps
from tism_scan.plan.methods import HYPOTHETICAL_METHODS, Method
from tism_scan.plan.peak_plan import DEFAULT_WIDTH, check_width
from tism_scan.plan.tracks import Track
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.refined import existing_refinement
from tism_scan.store.score_store import ScoreStore

OnRows = Callable[[int], None]

_MEANT: dict[Method, str] = {
    "tism": "TISM minus its mean over the four bases, of the {space}. At the\n"
    "sequence's own base it is 3/4 of mean TISM: positive where that base supports the output.",
    "ism": "exact ISM minus its mean over the four bases, of the {space}. At\n"
    "the sequence's own base it is 3/4 of mean ISM: positive where that base supports the output.",
    "gradient": "the gradient minus its mean over the four bases, of the {space}:\n"
    "the corrected gradient, positive at the sequence's own base where that supports the output.",
    "corrected": "the gradient minus its mean over the four bases, of the {space}:\n"
    "the corrected gradient, positive at the sequence's own base where that supports the output.",
    "hypothetical": "the gradient minus its mean under the background, of the\n"
    "{space}: positive at the sequence's own base where that supports the output.",
    "deepliftshap": "that of DeepLIFT/SHAP against dinucleotide shuffles, of the\n"
    "{space}. At the sequence's own base it is the base's contribution to the output.",
}


@dataclass(frozen=True)
class RegionsRequest:
    """What is exported around peaks, and how.

    Attributes
    ----------
    format : {"modisco", "finemo", "chrombpnet-h5"}
    peaks : Path or None
        narrowPeak or BED, plain or gzipped; see `read_peaks`. A store of peaks has its own.
    width : int or None
        Length of a row, in bp; even, since the centre is the middle for every reader. By default 400, or all
        that a store of peaks has.
    tracks : str or None
        As in `tism_scan.select_tracks`; None for all tracks.
    chrom_alias : Path or None
        A table of two columns: a chrom's name in the store, and the peaks'.
    genome : Path or None
        The FASTA that was scanned: it tells the base where several have no effect. A store of peaks knows it.
    allow_incomplete : bool
        Whether blocks that are not computed are zeros.
    overwrite : bool
        Whether files of an earlier export are replaced.
    is_exact : bool
        Whether scores are exact ISM of `tism_scan.refine`, 0 at bases that were not refined: the scan's
        approximations are of another scale, and are not put beside them.
    """

    format: Format
    peaks: Path | None = None
    width: int | None = None
    tracks: str | None = None
    chrom_alias: Path | None = None
    genome: Path | None = None
    allow_incomplete: bool = False
    overwrite: bool = False
    is_exact: bool = False


_ZEROS = "Bases that are N, past a chrom's end, or without a score are zeros."


class Described(NamedTuple):
    """What a README says of the scores: what they are, which bases have none, and what made them."""

    title: str
    meant: str
    zeros: str
    model: str
    digest: str


class RowSource(ABC):
    """What rows of scores are read from.

    Attributes
    ----------
    store : ScoreStore or PeakStore
    peaks : PeakSet
        Each has a row.
    width : int
        Length of a row, in bp.
    """

    store: ScoreStore | PeakStore
    peaks: PeakSet
    width: int

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The store's tracks."""
        return self.store.plan.scoring.tracks

    @property
    def chroms(self) -> Mapping[str, int]:
        """Every chrom of the genome and its length."""
        return self.store.plan.chroms

    @abstractmethod
    def described(self, counts: BaseCounts) -> Described:
        """Return what the scores are, of whose bases some are zeros."""

    def read(self, i_track: int, folder: Path, on_rows: OnRows) -> TrackRows:
        """Return the rows of one track, kept in a folder until they are closed."""
        batches = partial(self._batches, i_track)
        return TrackRows.filled(folder, (len(self.peaks), self.width), batches, on_rows)

    @abstractmethod
    def _batches(self, i_track: int, counts: BaseCounts) -> Iterator[RowBatch]:
        """Yield the rows of one track, and count the bases that are zeros."""


def row_source(store: ScoreStore | PeakStore, request: RegionsRequest) -> RowSource:
    """Return what the rows of a request are read from; `export_regions` lists its errors."""
    if request.width is not None:
        check_width(request.width)
    if isinstance(store, PeakStore):
        return _peak_rows(store, request)
    return _scan_rows(store, request)


@dataclass(frozen=True)
class _ScanRows(RowSource):
    """Rows out of the scores of a genome."""

    store: ScoreStore
    refined: ScoreStore | None
    peaks: PeakSet
    width: int
    reference: Reference

    def described(self, counts: BaseCounts) -> Described:
        plan, title, zeros = self.store.plan, "Scores of a scan by tism-scan", _ZEROS
        method: Method = "tism"
        if self.refined is not None:
            method, title = "ism", "Exact ISM of a scan by tism-scan refine"
            selection, n_bases = self.refined.plan.selection, len(self.peaks) * self.width
            n_exact = n_bases - counts.n_zeros
            zeros = (
                "Bases that were not refined have their letters, and scores of 0;\n"
                f"{n_exact:,} of the {n_bases:,} bases ({n_exact / n_bases:.1%}) were refined: "
                f"{selection.rule if selection else ''}."
            )
        meant = _MEANT[method].format(space=plan.scoring.output_space)
        return Described(title, meant, zeros, plan.model, plan.digest())

    def _batches(self, i_track: int, counts: BaseCounts) -> Iterator[RowBatch]:
        around = self.peaks, self.width
        return rows_of_scan(self.store, self.refined, i_track, around, self.reference, counts)


def _scan_rows(store: ScoreStore, request: RegionsRequest) -> _ScanRows:
    plan = store.plan
    refined = _refinement(store, request)
    if request.peaks is None:
        raise ExportError(
            f"--format {request.format} needs --peaks X.narrowPeak: rows are made around its peaks"
        )
    peaks = read_peaks(request.peaks, plan.chroms, read_aliases(request.chrom_alias, plan.chroms))
    for each in (store, refined):
        if each is not None and not request.allow_incomplete:
            each.check_complete([chrom for chrom in peaks.chroms if chrom in each.plan.wanted])
    width = request.width or DEFAULT_WIDTH
    if refined is not None and not _has_any(refined, peaks, width):
        raise StoreError(
            f"no base around the peaks of {request.peaks} has exact ISM in {store.path}; expected some; "
            "refine them with `tism-scan refine --bed`, or leave --values ism out"
        )
    return _ScanRows(store, refined, peaks, width, Reference(plan.chroms, request.genome))


def _refinement(store: ScoreStore, request: RegionsRequest) -> ScoreStore | None:
    """Return the store of exact ISM if that is asked for; raise unless there is what the rows are made of."""
    if not request.is_exact:
        check_four_bases(store, f"export --format {request.format}")
        return None
    refined = existing_refinement(store)
    if request.genome is None and store.plan.scoring.values != "tism":
        raise StoreError(
            f"{store.path} holds mean TISM, which does not tell the bases that were not refined; expected "
            "the FASTA that was scanned; add --genome"
        )
    return refined


def _has_any(refined: ScoreStore, peaks: PeakSet, width: int) -> bool:
    """Return whether any row around peaks has a base that was refined."""
    rows = zip(peaks.i_chrom.tolist(), starts_of(peaks, width).tolist(), strict=True)
    wanted = refined.plan.wanted
    return any(overlaps(wanted.get(peaks.chroms[i], ()), max(0, start), start + width) for i, start in rows)


@dataclass(frozen=True)
class _PeakRows(RowSource):
    """Rows out of the store of a set of peaks: the middle of each, if fewer bases are asked for."""

    store: PeakStore
    peaks: PeakSet
    width: int

    def described(self, counts: BaseCounts) -> Described:
        plan, method = self.store.plan, self.store.settings.method
        meant = _MEANT[method.method].format(space=method.output_space)
        return Described("Scores of peaks by tism-scan attribute", meant, _ZEROS, plan.model, plan.digest())

    def _batches(self, i_track: int, counts: BaseCounts) -> Iterator[RowBatch]:
        n, first = len(self.peaks), (self.store.settings.width - self.width) // 2
        here = slice(first, first + self.width)
        is_hypothetical = self.store.settings.method.method in HYPOTHETICAL_METHODS
        in_part = self.store.plan.items_per_part
        n_at_once = max(1, rows_at_once(self.store.settings.width) // in_part) * in_part  # whole parts
        for start in range(0, n, n_at_once):
            places = np.arange(start, min(start + n_at_once, n))
            scores = self.store.scores_of(start, start + len(places), i_track)[..., here]
            codes = self.store.sequence(start, start + len(places))[:, here]
            is_missing = np.asarray(np.isnan(scores).any(axis=1))
            codes = np.where(is_missing, np.uint8(N_CODE), codes)
            scores = np.where(is_missing[:, None], np.float32(0), scores)
            if not is_hypothetical:
                scores = scores - scores.mean(axis=1, keepdims=True)
            n_off = self._n_off_chrom(places)
            counts.n_off_chrom += n_off
            counts.n_empty_rows += int((codes == N_CODE).all(axis=1).sum())
            counts.n_without_score += int((codes == N_CODE).sum()) - n_off
            yield RowBatch(places, codes, scores)

    def _n_off_chrom(self, places: NDArray[np.int64]) -> int:
        """Return how many bases of some rows are past the ends of their chroms."""
        lengths = np.array([self.chroms[chrom] for chrom in self.peaks.chroms])[self.peaks.i_chrom[places]]
        starts = self.peaks.centers[places] - self.width // 2
        n_on = np.minimum(starts + self.width, lengths) - np.maximum(starts, 0)
        return int((self.width - n_on).sum())


def _peak_rows(store: PeakStore, request: RegionsRequest) -> _PeakRows:
    given = [name for name in ("peaks", "chrom_alias", "genome") if getattr(request, name) is not None]
    if request.is_exact:
        raise ExportError(
            f"{store.path} holds peaks, which are not refined; leave --values ism out, or attribute with "
            "--method ism"
        )
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise ExportError(f"{store.path} holds its own peaks and their sequence; leave {option} out")
    settings = store.settings
    if not settings.method.has_bases:
        raise ExportError(
            f"{store.path} holds {settings.method.method}, one value a base; expected one for each of the "
            "four bases; attribute the peaks with another --method, such as tism or ism"
        )
    width = request.width or settings.width
    if width > settings.width:
        raise ExportError(
            f"a width of {width:,} bp is more than the {settings.width:,} bp that {store.path} has around "
            "each peak; expected at most that; give a smaller --width"
        )
    if not request.allow_incomplete:
        store.check_complete()
    return _PeakRows(store, store.peaks, width)
