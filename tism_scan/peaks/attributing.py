"""The carrying out of the attribution of peaks: the scan's own loop, in this process or on Ray."""

from typing import TYPE_CHECKING

from tism_scan.executors import scan_pending
from tism_scan.peaks.planning import PlannedPeaks
from tism_scan.peaks.worker import PeakWorker
from tism_scan.progress import OnProgress
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.store.peak_store import PeakStore

if TYPE_CHECKING:
    from tism_scan.ray_scan import RayOptions


def attribute_pending(
    planned: PlannedPeaks,
    store: PeakStore,
    *,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    on_progress: OnProgress | None = None,
) -> ScanResult:
    """Attribute the peaks of a store that are pending, and return what became of them.

    Parameters
    ----------
    planned : PlannedPeaks
    store : PeakStore
        From `PlannedPeaks.create_store`.
    ray : bool or RayOptions
        Compute on Ray's actors; `True` starts Ray on this machine. Otherwise in this process.
    execution : Execution, optional
    on_progress : callable, optional
        Called with the peaks of finished parts.

    Raises
    ------
    LeaseError
        If another process writes the store, or takes it over.
    ModelError
        If Ray is to compute with a module that is in memory.
    StorageFullError
        If there is no room left; finished parts are kept.
    ScanError
        If the cluster cannot be reached or is lost, or no actor can be started.
    """
    return scan_pending(
        store,
        planned.genome,
        planned.model,
        ray=ray,
        execution=execution,
        on_progress=on_progress,
        worker_class=PeakWorker,
    )
