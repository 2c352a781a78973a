"""Every substitution of a store as a file: a table, or a VCF, by block in parallel, joined in order."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tism_scan.bgzip import VCF, Columns, check_pysam, compress, join, publish_indexed
from tism_scan.export.aliases import read_aliases
from tism_scan.export.chroms import chosen_chroms, n_wanted
from tism_scan.export.folder import check_room, make_folder
from tism_scan.export.manifest import Manifest
from tism_scan.export.parallel import Workers, jobs_for, usable_cores
from tism_scan.export.reference import UNSURE, Reference, check_four_bases
from tism_scan.genome.alphabet import N_CODE
from tism_scan.plan.tiling import Block
from tism_scan.plan.tracks import choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.atomic import full_disk_explained
from tism_scan.storage.partials import folder_beside
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.annotating import track_fields
from tism_scan.variants.listing_readme import readme_text
from tism_scan.variants.listing_rows import table_rows, vcf_rows
from tism_scan.variants.records import Field, header_lines

Format = Literal["snv-tsv", "snv-vcf"]
_STEMS = {
    False: ("variants", "header", "README"),
    True: ("variants_ism", "header_ism", "README_variants_ism"),
}
_SUFFIX: Mapping[str, str] = {"snv-tsv": "tsv.gz", "snv-vcf": "vcf.gz"}
_PIECE_BP = 1 << 14
_SAMPLE_BP = 1 << 14
_BASES_WORTH_A_PROCESS = 1 << 20


@dataclass(frozen=True)
class ListingRequest:
    """What is listed, and how.

    Attributes
    ----------
    format : {"snv-tsv", "snv-vcf"}
    tracks : str or None
        As in `tism_scan.select_tracks`; None for all tracks.
    chroms : tuple of str
        Globs; empty for all scanned chroms.
    chrom_alias : Path or None
        A table of two columns: a chrom's name in the store, and the file's.
    genome : Path or None
        The FASTA that was scanned: it tells the base where several have no effect.
    allow_incomplete : bool
        Whether blocks that are not computed are left out.
    """

    format: Format
    tracks: str | None = None
    chroms: tuple[str, ...] = ()
    chrom_alias: Path | None = None
    genome: Path | None = None
    allow_incomplete: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a listing will take, from a sample of it.

    Attributes
    ----------
    n_rows, n_bytes : int
        At most; bases without a score have no row.
    seconds : float
    """

    n_rows: int
    n_bytes: int
    seconds: float


@dataclass
class ListingSummary:
    """What was listed.

    Attributes
    ----------
    path, readme : Path
    n_rows : int
        Substitutions.
    n_unsure : int
        Bases that were left out since the store does not tell which of their substitutions is none.
    fields : tuple of Field
    """

    path: Path
    readme: Path
    n_rows: int
    n_unsure: int
    fields: tuple[Field, ...]


def list_variants(
    store: ScoreStore,
    out: str | Path,
    request: ListingRequest,
    *,
    jobs: int | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    on_progress: OnProgress | None = None,
) -> ListingSummary:
    """Write every substitution of a store into a folder, with a README, and return what was written.

    Parameters
    ----------
    store : ScoreStore
        With ``values="tism"``. Or of exact ISM: then only refined bases are listed, in files whose names end
        in ``_ism``, without PHRED.
    out : str or Path
        A folder; made if it is missing. The file, and its index, get their names when they are whole.
    request : ListingRequest
    jobs : int or None
        Processes; None chooses by cores and work. With more than one, a script needs the guard
        ``if __name__ == "__main__"``.
    on_estimate : callable, optional
        Told of the size and the time before the work begins.
    on_progress : callable, optional
        Called with the bases that are done.

    Raises
    ------
    StoreError
        If the store holds mean TISM only, a chrom is not complete, or the store is damaged.
    GenomeError
        If the FASTA is not the one that was scanned.
    TrackError, RegionError
        If a selection fits nothing.
    ExportError
        If the files cannot be written, there is no room, or pysam is missing.
    StorageFullError
        If the disk is full.
    ScanError
        If a process died.
    """
    out, plan = Path(out), store.plan
    check_four_bases(store, f"export --format {request.format}")
    check_pysam(f"--format {request.format}")
    i_tracks = choose_tracks(plan.scoring.tracks, request.tracks)
    chosen = chosen_chroms(plan, request.chroms)
    if not request.allow_incomplete:
        store.check_complete(chosen)
    names = read_aliases(request.chrom_alias, plan.chroms)
    fields = track_fields(store, i_tracks)
    blocks = [block for chrom in chosen for block in plan.pieces(chrom)]
    n_bases = sum(map(len, blocks))
    jobs = jobs_for(jobs, n_bases, _BASES_WORTH_A_PROCESS)
    make_folder(out)
    manifest = Manifest(out)
    stem, *texts_of = _STEMS[plan.selection is not None]
    beside = [f"{name}.txt" for name in texts_of]
    manifest.check(beside)
    path = out / f"{stem}.{_SUFFIX[request.format]}"
    summary = ListingSummary(path, out / beside[1], 0, 0, tuple(fields))
    with full_disk_explained(path), folder_beside(path) as aside:
        worker = (str(store.path), request, i_tracks, names, aside)
        n_rows = 3 * n_wanted(plan, chosen)
        estimate = _estimate(_Worker(*worker), blocks, n_bases, n_rows, jobs)
        if on_estimate is not None:
            on_estimate(estimate)
        check_room(out, estimate.n_bytes, "all variants need about", "fewer --tracks or --chroms")
        packed, head = aside / path.name, aside / "header"
        compress([_header(store, request.format, fields, names)], head)
        with Workers[Block, _Part](jobs, _Worker, *worker) as workers:
            parts = _counted(workers.results(blocks), blocks, summary, on_progress)
            join(chain([head], parts), packed)
        layout = VCF if request.format == "snv-vcf" else Columns()
        publish_indexed(packed, path, layout, longest_bp=max(plan.chroms.values()))
    texts = ("\n".join(header_lines(plan, fields)) + "\n", readme_text(path.name, beside[0], plan, fields))
    manifest.write({name: text.encode() for name, text in zip(beside, texts, strict=True)})
    return summary


@dataclass(frozen=True)
class _Part:
    """What one process wrote of a block."""

    path: Path
    n_rows: int
    n_unsure: int


class _Worker:
    """What one process lists with."""

    def __init__(
        self,
        store: str,
        request: ListingRequest,
        i_tracks: Sequence[int],
        names: Mapping[str, str],
        aside: Path,
    ) -> None:
        self._store, self._names, self._aside = ScoreStore.open(store), names, aside
        self._i_tracks, self._fields = i_tracks, track_fields(self._store, i_tracks)
        self._reference = Reference(self._store.plan.chroms, request.genome)
        self._rows = vcf_rows if request.format == "snv-vcf" else table_rows
        self._i_chrom = {chrom: i for i, chrom in enumerate(self._store.plan.chroms)}

    def __call__(self, block: Block, end: int | None = None) -> _Part:
        """Write the substitutions of a block, or of its bases up to an end, into a file of their own."""
        part = self._aside / f"{self._i_chrom[block.chrom]}.{block.i_block}.part"
        n_rows = n_unsure = 0

        def texts() -> Iterator[bytes]:
            nonlocal n_rows, n_unsure
            for start, codes, tism in self._pieces(block, block.end if end is None else end):
                is_listed = codes < N_CODE
                n_rows += 3 * int(is_listed.sum())
                n_unsure += int((codes == UNSURE).sum())
                positions = start + 1 + np.flatnonzero(is_listed)
                name = self._names[block.chrom]
                yield self._rows(name, positions, codes[is_listed], tism[..., is_listed], self._fields)

        compress(texts(), part)
        return _Part(part, n_rows, n_unsure)

    def _pieces(self, block: Block, end: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.float32]]]:
        """Yield pieces of a block: where each starts, its codes, and TISM, float32 (T, 4, n)."""
        channels = [
            self._store.read_value(block.chrom, block.start, end, i_track, i_base)
            for i_track in self._i_tracks
            for i_base in range(4)
        ]
        whole = np.stack(channels).reshape(len(self._i_tracks), 4, -1)
        for offset in range(0, end - block.start, _PIECE_BP):
            tism = whole[..., offset : offset + _PIECE_BP]
            start = block.start + offset
            codes = self._reference.codes(block.chrom, start, start + tism.shape[-1], tism)
            is_scored = ~np.isnan(tism).any(axis=(0, 1))
            yield start, np.where(is_scored, codes, N_CODE).astype(np.uint8), tism


def _header(store: ScoreStore, form: Format, fields: Sequence[Field], names: Mapping[str, str]) -> bytes:
    lines = header_lines(store.plan, fields)
    if form == "snv-vcf":
        contigs = [f"##contig=<ID={names[c]},length={length}>" for c, length in store.plan.chroms.items()]
        lines = ["##fileformat=VCFv4.3", *contigs, *lines]
        columns = ["CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    else:
        columns = ["CHROM", "POS", "REF", "ALT", *(key for field in fields for key in field.keys)]
    return "".join(f"{line}\n" for line in [*lines, "#" + "\t".join(columns)]).encode()


def _counted(
    parts: Iterator[_Part],
    blocks: Sequence[Block],
    summary: ListingSummary,
    on_progress: OnProgress | None,
) -> Iterator[Path]:
    """Yield the file of each block's part, in order, and add up what they hold."""
    n_done, n_total = 0, sum(map(len, blocks))
    for block, part in zip(blocks, parts, strict=True):
        yield part.path
        summary.n_rows += part.n_rows
        summary.n_unsure += part.n_unsure
        n_done += len(block)
        if on_progress is not None:
            on_progress(Progress(n_done, n_total, "bases", part=block.chrom))


def _estimate(worker: _Worker, blocks: Sequence[Block], n_bases: int, n_rows: int, jobs: int) -> Estimate:
    """Return what a listing will take, from the middle of its blocks, which have so many bases."""
    block = blocks[len(blocks) // 2]
    end = min(block.end, block.start + _SAMPLE_BP)
    began = time.perf_counter()
    part = worker(block, end)
    seconds = time.perf_counter() - began
    size = part.path.stat().st_size
    part.path.unlink()
    share = n_bases / (end - block.start)
    return Estimate(n_rows, round(size * share), seconds * share / max(1, min(jobs, usable_cores())))
