"""The carrying out of a plan for variants: the scan's own loop, in this process or on Ray, then the file."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tism_scan.effects.planning import PlannedEffects
from tism_scan.effects.tables import Shape
from tism_scan.effects.worker import EffectWorker
from tism_scan.effects.writing import Tally, check_out, write_effects
from tism_scan.executors import check_travels, scan_pending
from tism_scan.progress import OnProgress, steps
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.storage.places import Place
from tism_scan.store.parts import PartStore

if TYPE_CHECKING:
    from tism_scan.ray_scan import RayOptions


@dataclass(frozen=True)
class EffectSummary:
    """What became of the variants of a file.

    Attributes
    ----------
    out : Path or None
        The file, unless the work was stopped.
    result : ScanResult
        Of this run; its bases are alleles.
    store : PartStore
        The parts; gone, unless some failed, the work was stopped, or they were to be kept.
    tally : Tally
    """

    out: Path | None
    result: ScanResult
    store: PartStore
    tally: Tally


def compute_effects(
    planned: PlannedEffects,
    out: str | Path,
    *,
    shape: Shape = "wide",
    parts: str | Place | None = None,
    keep_parts: bool = False,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    typed: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> EffectSummary:
    """Compute the exact scores of variants, or what is left of it, write them, and return what was found.

    Call it again after an interruption: only unfinished parts are computed.

    Parameters
    ----------
    planned : PlannedEffects
        From `plan_effects`.
    out : str or Path
        ``.tsv.gz`` or ``.parquet``, a row for each alternative allele, or ``.vcf.gz``, the records with
        fields in INFO; in the order of the variants.
    shape : {"wide", "long"}
        Of a table: columns for each track, or a row.
    parts : str, Path or Url, optional
        Where results are kept until all are there, and every worker can reach; `out` with ``.parts`` behind
        it by default.
    keep_parts : bool
        Leave them there in the end.
    ray : bool or RayOptions
        Compute on Ray's actors; `True` starts Ray on this machine. Otherwise in this process.
    execution : Execution, optional
    typed : mapping, optional
        What to record beside the versions when the work is begun.
    overwrite : bool
        Delete parts that are there first.
    on_progress : callable, optional
        Called with the alleles that are done.

    Raises
    ------
    ExportError
        If `out` cannot be written.
    StoreError
        If `parts` is something else, or of another plan.
    LeaseError, ModelError, StorageFullError, ScanError
        As `tism_scan.executors.scan_pending`.
    """
    out, execution = Path(out), execution or Execution()
    check_out(planned, out, shape)
    check_travels(planned.model, ray)
    place = Path(f"{out.absolute()}.parts") if parts is None else parts
    store = planned.create_store(place, typed, overwrite=overwrite, break_lock=execution.break_lock)
    result = scan_pending(
        store,
        planned.genome,
        planned.model,
        ray=ray,
        execution=execution,
        on_progress=on_progress,
        worker_class=EffectWorker,
    )
    if result.was_stopped:
        return EffectSummary(None, result, store, Tally())
    steps.info("writing the results")
    tally = write_effects(planned, store, out, shape)
    if not keep_parts and not store.ledger.failures():
        _remove(store)
    return EffectSummary(out, result, store, tally)


def _remove(store: PartStore) -> None:
    """Remove parts; no writer is left, so nobody needs to know who may write."""
    store.delete()
    if isinstance(store.path, Path):
        shutil.rmtree(store.path, ignore_errors=True)
