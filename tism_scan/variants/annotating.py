"""Variant files with the scores of a store: each stored block read once, memory bounded by a block."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tism_scan.bgzip import VCF, Columns, check_pysam, compress, join, publish_indexed
from tism_scan.errors import ExportError, InputError
from tism_scan.export.aliases import read_aliases
from tism_scan.export.parallel import Workers, jobs_for
from tism_scan.export.reference import check_four_bases
from tism_scan.plan.labels import names_apart
from tism_scan.plan.tracks import choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.atomic import check_folder, full_disk_explained
from tism_scan.storage.partials import folder_beside
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.alleles import BlockScores, Counts, score_batch
from tism_scan.variants.batches import Batch, batches
from tism_scan.variants.files import Layout, VariantFile, opened
from tism_scan.variants.kept_ranks import read_calibration
from tism_scan.variants.naming import info_ids, quantity_of
from tism_scan.variants.places import Contigs
from tism_scan.variants.records import Field, merged_header, record_lines

log = logging.getLogger(__name__)

_SUFFIX = {"VCF": ".vcf.gz", "TSV": ".tsv.gz"}
_BYTES_WORTH_A_PROCESS = 4 << 20  # they take about as long as the start of a process
_CHECKED_BEFORE_REFUSAL = 10
_CHECKED_EARLY = 1_000
_SHOWN = 5


@dataclass(frozen=True)
class AnnotateSummary:
    """What became of a file's records.

    Attributes
    ----------
    path : Path
    counts : Counts
    fields : tuple of Field
        Those of the tracks.
    """

    path: Path
    counts: Counts
    fields: tuple[Field, ...]


def annotate(
    store: ScoreStore,
    variants: str | Path,
    out: str | Path,
    *,
    tracks: str | None = None,
    chrom_alias: str | Path | None = None,
    jobs: int | None = None,
    allow_incomplete: bool = False,
    on_progress: OnProgress | None = None,
) -> AnnotateSummary:
    """Write a variant file with the TISM of each single-base substitution, and return what was found.

    If the store was calibrated, each score's PHRED comes with it.

    Parameters
    ----------
    store : ScoreStore
        With ``values="tism"``. Or of exact ISM, whose fields are named ``ISM_NAME``; bases that were not
        refined have no score, and there is no PHRED: they would be ranked among a few.
    variants : str or Path
        A VCF, plain or gzipped, a BCF, or a table with columns CHROM, POS, REF and ALT; sorted.
    out : str or Path
        ``.vcf.gz``, or ``.tsv.gz`` for a table: bgzip, with its index beside it; written aside and renamed.
    tracks : str, optional
        As in `tism_scan.select_tracks`; all tracks by default.
    chrom_alias : str or Path, optional
        A table of two columns: a chrom's name in the store, and the file's.
    jobs : int or None
        Processes; None chooses by cores and the file's size. With more than one, a script needs the guard
        ``if __name__ == "__main__"``.
    allow_incomplete : bool
        Whether blocks that are not computed count as without a score.
    on_progress : callable, optional
        Called with the bytes of the file that are read.

    Raises
    ------
    StoreError
        If the store holds mean TISM only, is damaged, or a chrom of the file is not complete.
    InputError
        If the file cannot be read, is not sorted, or is of another genome.
    ExportError
        If `out` cannot be written, or pysam is missing.
    StorageFullError
        If the disk is full.
    ScanError
        If a process died.
    """
    variants, out, plan = Path(variants), Path(out), store.plan
    check_four_bases(store, "annotate")
    i_tracks = choose_tracks(plan.scoring.tracks, tracks)
    fields = track_fields(store, i_tracks)
    contigs = Contigs(plan.chroms, read_aliases(chrom_alias, plan.chroms))
    counts = Counts()
    with opened(variants) as file:
        _check_out(variants, out, file.layout)
        contigs.check_lengths(file)
        jobs = jobs_for(jobs, file.n_bytes, _BYTES_WORTH_A_PROCESS)
        with full_disk_explained(out), folder_beside(out) as aside:
            packed = aside / out.name
            worker = (str(store.path), str(variants), file.layout, i_tracks, aside)
            todo = _complete(
                store, batches(file, plan, contigs, len(i_tracks)), allow_incomplete=allow_incomplete
            )
            with Workers[Batch, tuple[Path, Counts]](jobs, _Worker, *worker) as workers:
                header = merged_header(file.header, file.layout, plan, fields)
                head = aside / "header"
                compress([header], head)
                join(chain([head], _counted(workers.results(todo), file, counts, on_progress)), packed)
            contigs.check_any_known(file)
            _refuse_other_genome(file, counts, at_least=_CHECKED_BEFORE_REFUSAL)
            publish_indexed(packed, out, _index_layout(file, header), longest_bp=contigs.longest_bp)
    _warn_of_unknown(contigs)
    return AnnotateSummary(out, counts, tuple(fields))


def track_fields(store: ScoreStore, i_tracks: Sequence[int]) -> list[Field]:
    """Return the fields of some tracks; their names do not depend on which others are chosen."""
    tracks = store.plan.scoring.tracks
    ids, names = info_ids(tracks, quantity_of(store.plan)), names_apart(tracks)
    calibration = read_calibration(store) if store.plan.selection is None else None
    if calibration is None:
        return [Field(ids[i], names[i]) for i in i_tracks]
    tables = calibration.substitutions
    return [Field(ids[i], names[i], tables[i].phred, calibration.described(i)) for i in i_tracks]


class _Worker:
    """What one process annotates with."""

    def __init__(
        self, store: str, variants: str, layout: Layout, i_tracks: Sequence[int], aside: Path
    ) -> None:
        self._store = ScoreStore.open(store)
        self._variants, self._layout, self._aside = variants, layout, aside
        self._fields = track_fields(self._store, i_tracks)
        self._scores = BlockScores(self._store, i_tracks)

    def __call__(self, batch: Batch) -> tuple[Path, Counts]:
        """Write the records of a batch into a file of their own, and return where, and what they are."""
        plan = self._store.plan
        scored = score_batch(batch, self._layout, self._scores, plan, len(self._fields), self._variants)
        part = self._aside / f"{batch.first_line}.part"
        compress([record_lines(scored, self._layout, plan, self._fields)], part)
        return part, scored.counts


def _complete(store: ScoreStore, todo: Iterator[Batch], *, allow_incomplete: bool) -> Iterator[Batch]:
    """Yield batches; raise StoreError at a chrom that is not complete, unless that is allowed."""
    incomplete: set[str] = set()
    if not allow_incomplete:
        pending = store.pending(retry_failed=True)
        incomplete = {chrom for block in pending for chrom in store.plan.chroms_of(block)}
    for batch in todo:
        if batch.chrom in incomplete:
            store.check_complete([batch.chrom])
        yield batch


def _check_out(variants: Path, out: Path, layout: Layout) -> None:
    """Raise unless a file can be written, as far as can be known before the work."""
    suffix = _SUFFIX[layout.kind]
    if not out.name.lower().endswith(suffix):
        raise ExportError(f"{str(out)!r} is no name for a {layout.kind}; expected {suffix}; rename it")
    check_folder(out, "choose another --out")
    if out.exists() and out.samefile(variants):
        raise ExportError(f"{str(out)!r} is the file to annotate; expected another; choose another --out")
    check_pysam("variant files")


def _index_layout(file: VariantFile, header: bytes) -> Columns | str:
    if file.layout.kind == "VCF":
        return VCF
    n_header = 0 if file.header[-1].startswith(b"#") else header.count(b"\n")
    return Columns(file.layout.chrom, file.layout.pos, file.layout.pos, n_header=n_header)


def _refuse_other_genome(file: VariantFile, counts: Counts, *, at_least: int) -> None:
    """Raise InputError if most of the records have another REF than the store's genome."""
    if counts.n_checked >= at_least and 2 * counts.n_mismatches > counts.n_checked:
        raise InputError(
            f"{str(file.path)!r} is of another genome: {counts.n_mismatches:,} of {counts.n_checked:,} REF "
            "bases are not the store's; expected variants of the assembly that was scanned; lift them over"
        )


def _counted(
    found: Iterator[tuple[Path, Counts]], file: VariantFile, counts: Counts, on_progress: OnProgress | None
) -> Iterator[Path]:
    """Yield the parts of the annotated file, and add up what they are."""
    for part, counted in found:
        yield part
        counts.add(counted)
        _refuse_other_genome(file, counts, at_least=_CHECKED_EARLY)
        if on_progress is not None:
            note = f"{counts.n_records:,} records"
            on_progress(Progress(min(file.n_bytes_read, file.n_bytes), file.n_bytes, "bytes", note=note))


def _warn_of_unknown(contigs: Contigs) -> None:
    if contigs.unknown:
        shown = ", ".join(list(contigs.unknown)[:_SHOWN]) + (", ..." if len(contigs.unknown) > _SHOWN else "")
        log.warning(
            "%d contigs of the file are not in the store: %s; their records have no score",
            len(contigs.unknown),
            shown,
        )
