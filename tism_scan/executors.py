"""The choice between the two executors, which keep one contract: this process, and Ray's actors."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tism_scan.models.source import AnyModel, model_source
from tism_scan.progress import OnProgress
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.scan.serial import scan_serially
from tism_scan.scan.work import Work
from tism_scan.scan.worker import BlockWorker, Worker

if TYPE_CHECKING:
    from tism_scan.ray_scan import RayOptions


def check_travels(model: AnyModel, ray: "bool | RayOptions") -> None:
    """Raise if Ray is to compute with a module that is in memory; it is called before a store is made.

    Raises
    ------
    ModelError
    """
    if ray is not False:
        model_source(model).absolute()


def scan_pending(
    store: Work[Any],
    genome: str | Path,
    model: AnyModel,
    *,
    ray: "bool | RayOptions",
    execution: Execution | None = None,
    on_progress: OnProgress | None = None,
    worker_class: type[Worker[Any, Any]] = BlockWorker,
) -> ScanResult:
    """Compute every pending block of a store, on Ray or in this process.

    Parameters
    ----------
    store, genome, model, execution, on_progress, worker_class
        As for `tism_scan.scan_serially` and `tism_scan.scan_on_ray`, whose errors this function shares.
    ray : bool or RayOptions
        Compute on Ray's actors; `True` starts Ray on this machine. Otherwise in this process, which then
        does not import Ray.
    """
    if ray is False:
        return scan_serially(
            store,
            genome,
            model,
            execution=execution,
            on_progress=on_progress,
            worker_class=worker_class,
        )
    from tism_scan.ray_scan.driver import scan_on_ray

    return scan_on_ray(
        store,
        genome,
        model,
        execution=execution,
        options=None if ray is True else ray,
        on_progress=on_progress,
        worker_class=worker_class,
    )
