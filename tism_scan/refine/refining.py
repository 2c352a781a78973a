"""The carrying out of a refinement: the scan's own loop, in this process or on Ray, with another engine."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tism_scan.engine.block_engine import Engine
from tism_scan.executors import check_travels, scan_pending
from tism_scan.models.contract import Model
from tism_scan.progress import OnProgress
from tism_scan.refine.engines import make_ism_engine
from tism_scan.refine.planning import PlannedRefinement
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.scan.work import Plan
from tism_scan.scan.worker import BlockWorker
from tism_scan.storage.read_only import cannot_write
from tism_scan.store.lease import Lease
from tism_scan.store.refined import open_refinement

if TYPE_CHECKING:
    from tism_scan.ray_scan import RayOptions


class RefineWorker(BlockWorker):
    """Computes exact ISM of a block's chosen bases."""

    def engine_of(self, model: Model, plan: Plan) -> Engine:
        """Return the engine that computes a plan with its model."""
        return make_ism_engine(model, plan.scoring, **self.setup.execution.limits)


def refine(
    planned: PlannedRefinement,
    *,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    typed: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ScanResult:
    """Carry out a refinement, or what is left of it, and return what became of it.

    The scan's lease is held, too, so that nobody else writes into its store. The effects are in the store
    that `tism_scan.store.refined.open_refinement` returns.

    Parameters
    ----------
    planned : PlannedRefinement
    ray : bool or RayOptions
        Compute on Ray's actors; `True` starts Ray on this machine. Otherwise in this process.
    execution : Execution, optional
    typed : mapping, optional
        What to record beside the versions when the refinement is begun.
    overwrite : bool
        Delete an earlier refinement first.
    on_progress : callable, optional
        Called with the chosen bases of finished blocks.

    Raises
    ------
    LeaseError
        If another process writes the store, or takes it over.
    StoreError
        If there is a refinement under another plan.
    ReadOnlyError
        If something is to be computed, and the store can only be read.
    ModelError
        If Ray is to compute with a module that is in memory.
    StorageFullError
        If there is no room left; finished blocks are kept.
    ScanError
        If the cluster cannot be reached or is lost, or no actor can be started.
    """
    execution = execution or Execution()
    check_travels(planned.model, ray)
    lease = Lease(planned.scan.folder)
    read_only = lease.acquire_if_writable(break_lock=execution.break_lock)
    if read_only and (overwrite or open_refinement(planned.scan) is None):
        raise cannot_write("exact ISM", planned.scan.path, read_only, "refine a copy of it")
    with nullcontext() if read_only else lease:
        store = planned.create_store(typed, overwrite=overwrite, break_lock=execution.break_lock)
        return scan_pending(
            store,
            planned.genome,
            planned.model,
            ray=ray,
            execution=execution,
            on_progress=on_progress,
            worker_class=RefineWorker,
        )
