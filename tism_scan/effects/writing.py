"""The file of results, in the order of the variants: written aside, and renamed once it is whole."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tism_scan.bgzip import VCF, Columns, check_pysam, compress, publish_indexed
from tism_scan.effects.haplotypes import REASONS
from tism_scan.effects.parquet import PARQUET, check_pyarrow, is_parquet, write_parquet
from tism_scan.effects.planning import PlannedEffects
from tism_scan.effects.reading import Item, items_of_part
from tism_scan.effects.results import NO_MATCH, Results
from tism_scan.effects.tables import Shape, column_names, rows_of
from tism_scan.effects.vcf import RecordWriter, header
from tism_scan.errors import ExportError
from tism_scan.storage.atomic import check_folder, full_disk_explained, sync_path
from tism_scan.storage.partials import folder_beside
from tism_scan.store.parts import PartStore
from tism_scan.variants.files import VariantFile, opened

_TABLE, _VCF = ".tsv.gz", ".vcf.gz"
_PIECE_LINES = 1000


def check_out(planned: PlannedEffects, out: Path, shape: Shape) -> None:
    """Raise unless a file can be written, as far as can be known before the work.

    Raises
    ------
    ExportError
    """
    if not out.name.lower().endswith((_TABLE, _VCF, PARQUET)):
        raise ExportError(
            f"{str(out)!r} has another suffix; expected {_TABLE}, {_VCF} or {PARQUET}; rename it"
        )
    check_folder(out, "choose another --out")
    if out.exists() and out.samefile(planned.variants):
        raise ExportError(f"{str(out)!r} is the file of variants; expected another; choose another --out")
    if is_parquet(out):
        check_pyarrow()
        return
    check_pysam("files of variants")
    if not out.name.lower().endswith(_VCF):
        return
    with opened(planned.variants) as file:
        if file.layout.kind != "VCF":
            raise ExportError(
                f"{str(planned.variants)!r} is a table; expected a VCF for {_VCF}; use {_TABLE}"
            )
    if shape == "long":
        raise ExportError(f"a VCF has no long format; expected {_TABLE} for it; rename --out")
    if planned.plan.options["on_mismatch"] == "swap":
        raise ExportError(
            "--on-mismatch swap exchanges REF and ALT, which a VCF's genotypes do not allow; expected "
            f"{_TABLE}; rename --out, or use flag or skip"
        )


@dataclass
class Tally:
    """What the results are, in numbers of alleles.

    Attributes
    ----------
    reasons : Counter of str
        By the reason for which they have no score; "" for those that have one.
    n_mismatches, n_checked : int
        Those whose REF is not the genome's, and those where that is known.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    n_mismatches: int = 0
    n_checked: int = 0

    def add(self, results: Results) -> None:
        """Count some results."""
        self.reasons.update(REASONS[i] for i in results.reason.tolist())
        self.n_mismatches += int((results.ref_match == NO_MATCH).sum())
        self.n_checked += int((results.ref_match >= NO_MATCH).sum())


def write_effects(planned: PlannedEffects, store: PartStore, out: Path, shape: Shape) -> Tally:
    """Write the results of a finished store; alleles of parts that failed get that as their reason.

    An index is written beside it if the variants are sorted and the file can have one.

    Raises
    ------
    StoreError
        If results are missing or damaged.
    InputError
        If records are to be written, and the file of variants was changed since it was planned.
    StorageFullError
        If the disk is full; what was there before stays.
    """
    tally = Tally()
    with full_disk_explained(out), folder_beside(out) as aside:
        packed = aside / out.name
        layout: Columns | str | None = None
        if is_parquet(out):
            write_parquet(packed, planned.plan, shape, _results(planned, store, tally))
        elif out.name.lower().endswith(_VCF):
            planned.check_unchanged()
            with opened(planned.variants) as file:
                compress(_joined(_vcf_lines(planned, store, file, tally)), packed)
            layout = VCF
        else:
            compress(_joined(_table_lines(planned, store, shape, tally)), packed)
            layout = Columns(n_header=1)
        sync_path(packed)
        if layout is not None and planned.survey.is_sorted:
            farthest_bp = max(planned.survey.farthest_bp, *planned.plan.chroms.values())
            publish_indexed(packed, out, layout, longest_bp=farthest_bp)
        else:
            for stale in (".tbi", ".csi"):
                Path(f"{out}{stale}").unlink(missing_ok=True)
            os.replace(packed, out)
    return tally


def _results(planned: PlannedEffects, store: PartStore, tally: Tally) -> Iterator[tuple[list[Item], Results]]:
    """Yield the alleles of each part with their results, in the file's order."""
    plan = planned.plan
    for part, content in store.results():
        items = items_of_part(store, part)
        if content is None:
            n_tracks, has_log2fc = len(plan.scoring.tracks), plan.options["log2fc"]
            results = Results.empty(part.size, n_tracks, has_log2fc=has_log2fc)
        else:
            results = Results.from_bytes(content)
        tally.add(results)
        yield items, results


def _table_lines(planned: PlannedEffects, store: PartStore, shape: Shape, tally: Tally) -> Iterator[bytes]:
    tracks, has_log2fc = planned.plan.scoring.tracks, planned.plan.options["log2fc"]
    yield "\t".join(column_names(tracks, shape, has_log2fc=has_log2fc)).encode() + b"\n"
    for items, results in _results(planned, store, tally):
        for row in rows_of(items, results, tracks, shape, has_log2fc=has_log2fc):
            yield row.encode()


def _vcf_lines(planned: PlannedEffects, store: PartStore, file: VariantFile, tally: Tally) -> Iterator[bytes]:
    """Yield the lines of the file of variants, with the results of each record's alleles."""
    alleles = ((results, i) for items, results in _results(planned, store, tally) for i in range(len(items)))
    writer = RecordWriter(planned.plan)
    yield header(file.header, planned.plan)
    for piece in file.pieces():
        for line in piece:
            n_alleles = line.split(b"\t", 5)[4].count(b",") + 1
            yield writer.record(line, [next(alleles) for _ in range(n_alleles)])


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines some at once."""
    held: list[bytes] = []
    for line in lines:
        held.append(line)
        if len(held) == _PIECE_LINES:
            yield b"".join(held)
            held.clear()
    yield b"".join(held)
