"""Scores around peaks, of a store of all four bases, for TF-MoDISco, Fi-NeMo and ChromBPNet's readers."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tism_scan.errors import ExportError, StoreError
from tism_scan.export.aliases import read_aliases
from tism_scan.export.bigwigs import make_folder
from tism_scan.export.manifest import Manifest
from tism_scan.export.reference import Reference, check_four_bases
from tism_scan.export.region_files import BYTES_PER_BASE, FILES, Format, check_libraries, write_track
from tism_scan.export.region_rows import BaseCounts, read_rows, starts_of
from tism_scan.export.regions_readme import readme_text
from tism_scan.genome.peaks import PeakSet, read_peaks
from tism_scan.genome.spans import overlaps
from tism_scan.plan.tracks import choose_tracks, file_stems
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.atomic import full_disk_explained, remove_partials
from tism_scan.store.refined import existing_refinement
from tism_scan.store.score_store import ScoreStore

log = logging.getLogger(__name__)

PEAKS = "peaks.narrowPeak"
WIDTH = 400
_ROW_BYTES_PER_BASE = 17  # four scores and a code, while a track is read


@dataclass(frozen=True)
class RegionsRequest:
    """What is exported around peaks, and how.

    Attributes
    ----------
    format : {"modisco", "finemo", "chrombpnet-h5"}
    peaks : Path
        narrowPeak or BED, plain or gzipped; see `read_peaks`.
    width : int
        Length of a row, in bp; even, since the centre is the middle for every reader.
    tracks : str or None
        Output indices, names and globs; None for all tracks.
    chrom_alias : Path or None
        A table of two columns: a chrom's name in the store, and the peaks'.
    genome : Path or None
        The FASTA that was scanned: it tells the base where several have no effect.
    allow_incomplete : bool
        Whether blocks that are not computed are zeros.
    overwrite : bool
        Whether files of an earlier export are replaced.
    is_exact : bool
        Whether scores are exact ISM of `tism_scan.refine`, 0 at bases that were not refined: the scan's
        approximations are of another scale, and are not put beside them.
    """

    format: Format
    peaks: Path
    width: int = WIDTH
    tracks: str | None = None
    chrom_alias: Path | None = None
    genome: Path | None = None
    allow_incomplete: bool = False
    overwrite: bool = False
    is_exact: bool = False


@dataclass(frozen=True)
class TrackRegions:
    """The files of one track.

    Attributes
    ----------
    name : str
        The track's.
    folder : Path
        Where its files are.
    highest : float
        The largest magnitude of a hypothetical score.
    scale : float
        What scores were multiplied by; 1 in float32.
    counts : BaseCounts
        Bases that are zeros.
    """

    name: str
    folder: Path
    highest: float
    scale: float
    counts: BaseCounts


@dataclass(frozen=True)
class RegionsSummary:
    """What was exported.

    Attributes
    ----------
    n_peaks : int
        As many rows as the file has peaks.
    tracks : tuple of TrackRegions
    readme : Path
    """

    n_peaks: int
    tracks: tuple[TrackRegions, ...]
    readme: Path


def export_regions(
    store: ScoreStore, out: str | Path, request: RegionsRequest, *, on_progress: OnProgress | None = None
) -> RegionsSummary:
    """Write the scores around peaks, for other tools, and return what was written.

    One track's files are in `out`; those of several are in a folder for each. The peaks as they were used,
    and a README with the commands that load the files, are in `out`.

    Parameters
    ----------
    store : ScoreStore
        Of a scan, with ``values="tism"``; for exact ISM with a FASTA, of any that was refined.
    out : str or Path
        A folder; made if it is missing. Each file gets its name when it is whole.
    request : RegionsRequest
    on_progress : callable, optional
        Called with the rows that are read and written, twice the number of peaks for each track.

    Raises
    ------
    StoreError
        If the store holds mean TISM only, a chrom with peaks is not complete, a score is infinite, or the
        store is damaged; or exact ISM is asked for, and there is none around the peaks.
    RegionError
        If the peaks cannot be read.
    GenomeError
        If the FASTA is not the one that was scanned.
    TrackError
        If a selection fits nothing.
    ExportError
        If files are there already or cannot be written, there is no room, the width is odd, or h5py is
        missing.
    StorageFullError
        If the disk is full.
    """
    out, plan, form, width = Path(out), store.plan, request.format, request.width
    check_libraries(form)
    refined = _refinement(store, request)
    if width < 2 or width % 2:
        raise ExportError(f"a width of {width} has no middle; expected an even number; use {width + 1}")
    i_tracks = choose_tracks(plan.scoring.tracks, request.tracks)
    peaks = _peaks_of(store, refined, request)
    reference = Reference(plan.chroms, request.genome)
    make_folder(out)
    stems = file_stems(plan.scoring.tracks)
    folders = [stems[i] for i in i_tracks] if len(i_tracks) > 1 else ["."]
    target = _Target(out, form, folders, _peak_lines(peaks, width, plan.chroms))
    target.check(overwrite=request.overwrite)
    for folder in folders:
        remove_partials(out / folder)
    _check_room(out, len(peaks) * width, form, len(i_tracks))
    report = _Report(2 * len(peaks) * len(i_tracks), on_progress)
    written: list[TrackRegions] = []
    for i_track, folder in zip(i_tracks, folders, strict=True):
        name, place = plan.scoring.tracks[i_track].name, out / folder
        report.part = name
        with (
            full_disk_explained(place),
            closing(read_rows(store, i_track, peaks, width, reference, out, report, refined)) as rows,
        ):
            if not written:
                target.begin()
            make_folder(place)
            write_track(form, place, rows, peaks, report)
        scale = 1.0 if form == "modisco" else rows.half_scale
        written.append(TrackRegions(name, place, rows.highest, scale, rows.counts))
        if not rows.highest:
            log.warning("%s has no score at any peak of %s: all rows are zeros", name, request.peaks)
    names = [track.name for track in written]
    n_bases = len(peaks) * width
    shown = None if refined is None else (refined.plan, n_bases - written[0].counts.n_zeros, n_bases)
    readme = target.finish(readme_text(form, width, plan, names, folders, shown))
    return RegionsSummary(len(peaks), tuple(written), readme)


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


def _peaks_of(store: ScoreStore, refined: ScoreStore | None, request: RegionsRequest) -> PeakSet:
    """Return the peaks of a request; raise StoreError if a chrom of theirs is not complete."""
    plan, chrom_of = store.plan, None
    if request.chrom_alias is not None:
        chrom_of = {name: chrom for chrom, name in read_aliases(request.chrom_alias, plan.chroms).items()}
    peaks = read_peaks(request.peaks, plan.chroms, chrom_of)
    for each in (store, refined):
        if each is not None and not request.allow_incomplete:
            each.check_complete([chrom for chrom in peaks.chroms if chrom in each.plan.wanted])
    if refined is not None and not _has_any(refined, peaks, request.width):
        raise StoreError(
            f"no base around the peaks of {request.peaks} has exact ISM in {store.path}; expected some; "
            "refine them with `tism-scan refine --bed`, or leave --values ism out"
        )
    return peaks


def _has_any(refined: ScoreStore, peaks: PeakSet, width: int) -> bool:
    """Return whether any row around peaks has a base that was refined."""
    rows = zip(peaks.i_chrom.tolist(), starts_of(peaks, width).tolist(), strict=True)
    wanted = refined.plan.wanted
    return any(overlaps(wanted.get(peaks.chroms[i], ()), max(0, start), start + width) for i, start in rows)


class _Target:
    """The files of an export, and what may be there before it.

    Parameters
    ----------
    out : Path
    form : {"modisco", "finemo", "chrombpnet-h5"}
    folders : sequence of str
        Of the tracks, from `out`.
    peak_lines : bytes
        The peaks as they are used.
    """

    def __init__(self, out: Path, form: Format, folders: Sequence[str], peak_lines: bytes) -> None:
        self._files = [out / folder / name for folder in folders for name in FILES[form]]
        self._peaks, self._peak_lines = out / PEAKS, peak_lines
        self._readme = out / f"README.{form}.txt"
        self._manifest = Manifest(out)

    def check(self, *, overwrite: bool) -> None:
        """Raise ExportError if a file would be lost that is not to be."""
        self._manifest.check([self._peaks.name, self._readme.name])
        if overwrite:
            return
        finished = [file for file in self._files if file.exists()]
        if finished:
            raise ExportError(
                f"{str(finished[0])!r} is there already; expected no file of that name; choose another "
                "--out, or add --overwrite"
            )
        if self._peaks.exists() and self._peaks.read_bytes() != self._peak_lines:
            raise ExportError(
                f"{str(self._peaks)!r} is of an export with other peaks or another width; expected the same "
                "in one folder; choose another --out, or add --overwrite"
            )

    def begin(self) -> None:
        """Remove an earlier export, so that no row is ever beside other peaks, and write the peaks."""
        for file in self._files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise ExportError(
                    f"cannot replace {str(file)!r}: {error.strerror}; expected a file; choose another --out"
                ) from None
        self._manifest.write({self._peaks.name: self._peak_lines})

    def finish(self, text: str) -> Path:
        """Write the README, and return its path."""
        self._manifest.write({self._readme.name: text.encode()})
        return self._readme


class _Report:
    """Adds up the rows that are done, and tells of them."""

    def __init__(self, n_total: int, on_progress: OnProgress | None) -> None:
        self._n_total, self._on_progress = n_total, on_progress
        self._n_done = 0
        self.part = ""

    def __call__(self, n_more: int) -> None:
        self._n_done += n_more
        if self._on_progress is not None:
            self._on_progress(Progress(self._n_done, self._n_total, "rows", part=self.part))


def _peak_lines(peaks: PeakSet, width: int, chroms: Mapping[str, int]) -> bytes:
    """Return the peaks as narrowPeak: what is exported of each, and its summit, which is its middle as well.

    Some readers take start + summit for the centre of a row, others the middle of start and end. So what
    leaves the chrom on one side is cut on both.
    """
    lengths = np.array([chroms[chrom] for chrom in peaks.chroms])[peaks.i_chrom]
    centers = peaks.centers
    halves = np.minimum(width // 2, np.minimum(centers, lengths - centers))
    starts, ends = centers - halves, np.maximum(centers + halves, centers + 1)
    rows = zip(
        (peaks.labels[i] for i in peaks.i_chrom.tolist()),
        starts.tolist(),
        ends.tolist(),
        peaks.columns,
        halves.tolist(),
        strict=True,
    )
    return "".join(f"{label}\t{a}\t{b}\t{rest}\t{summit}\n" for label, a, b, rest, summit in rows).encode()


def _check_room(out: Path, n_bases: int, form: str, n_tracks: int) -> None:
    needed = n_bases * (_ROW_BYTES_PER_BASE + n_tracks * BYTES_PER_BASE[form])
    free = shutil.disk_usage(out).free
    if needed > free:
        raise ExportError(
            f"the rows need up to {needed / 1e9:.3g} GB and {out} has {free / 1e9:.3g} GB free; make room "
            "there, choose another --out, or export fewer --tracks or peaks, or a smaller --width"
        )
