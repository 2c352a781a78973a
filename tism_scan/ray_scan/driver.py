"""A scan on Ray: one actor a GPU (or a few CPU cores), fed by a loop in the driver.

The driver holds the store's lease while it runs, and ends cleanly when it is asked to.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tism_scan.errors import InputChangedError, ScanError
from tism_scan.models.source import AnyModel, model_source
from tism_scan.progress import OnProgress
from tism_scan.ray_scan.cluster import RayOptions, connected
from tism_scan.ray_scan.feed import Feed
from tism_scan.ray_scan.metrics import ScanMetrics
from tism_scan.ray_scan.pool import ActorPool
from tism_scan.scan.claim import Claim, claimed, stopping_on_signals
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.scan.work import Work
from tism_scan.scan.worker import BlockWorker, Worker, WorkerSetup
from tism_scan.storage.watched import stamp_of_content

log = logging.getLogger(__name__)


def scan_on_ray(
    store: Work[Any],
    genome: str | Path,
    model: AnyModel,
    *,
    execution: Execution | None = None,
    options: RayOptions | None = None,
    on_progress: OnProgress | None = None,
    worker_class: type[Worker[Any, Any]] = BlockWorker,
) -> ScanResult:
    """Compute every pending block of a store on Ray's actors.

    The contract is that of `tism_scan.scan_serially`. A block that fails is tried three times in all, on
    another actor where there is one, then recorded in the store with its error, and the scan goes on. The
    first SIGINT or SIGTERM ends the scan cleanly: blocks in flight are finished if they need no longer than
    25 s, and the rest stays pending. A second SIGINT ends it at once.

    Parameters
    ----------
    store : ScoreStore, or another Work
        Made by `ScoreStore.create` in this process.
    genome : str or Path
        The FASTA file of the store's plan, visible under the same path on every node. Where size or time
        differ from those of the file that this process planned with, each actor reads it once to compare the
        content.
    model : str, Path, Url, ModelSource, or sequence of these
        The model of the store's plan; see `tism_scan.models.model_source`. A module in the memory of this
        process cannot be used.
    execution : Execution, optional
    options : RayOptions, optional
        The cluster, and what is used of it.
    on_progress : callable, optional
        Called twice a second and after each block, with the bases done and pending in this run. Of a block
        that takes long, every few seconds, what is computed of it counts.
    worker_class : type of Worker
        What an actor is; a subclass may use another engine.

    Returns
    -------
    ScanResult

    Raises
    ------
    LeaseError
        If another process is scanning into the store, or takes it over.
    ModelError
        If the model is a module in memory.
    StorageFullError
        If there is no room left; finished blocks are kept.
    ScanError
        If the cluster cannot be reached or is lost, or no actor can be started.
    """
    execution, options = execution or Execution(), options or RayOptions()
    genome = Path(genome).absolute()
    source = model_source(model).absolute()
    with claimed(store, execution) as claim:
        if claim.result.n_blocks_total:
            setup = WorkerSetup(
                store.path,
                genome,
                source,
                store.plan.digest(),
                claim.lease.tenure,
                execution,
                stage_folder=Path(options.stage_folder).absolute() if options.stage_folder else None,
                genome_stamp=stamp_of_content(genome, store.plan.genome_digest),
            )
            # Twice: before, for those who lose patience while Ray starts, and after, since Ray takes SIGTERM.
            with (
                stopping_on_signals(claim.stop),
                _ending_with_ray(claim),
                connected(options),
                stopping_on_signals(claim.stop),
                contextlib.closing(
                    ActorPool(setup, options, worker_class, has_small_blocks=store.has_small_units)
                ) as pool,
            ):
                _feed(pool, claim, on_progress)
    return claim.result


@contextlib.contextmanager
def _ending_with_ray(claim: Claim[Any]) -> Iterator[None]:
    """Take it for a clean stop if Ray ends once a stop was asked for: the same signal may have ended both."""
    try:
        yield
    except ScanError as error:
        if isinstance(error, InputChangedError) or not claim.stop.is_set():
            raise
        log.warning("Ray was stopped, too; blocks in flight are dropped, and stay pending")
        claim.result.was_stopped = claim.result.n_blocks_left > 0


def _feed(pool: ActorPool, claim: Claim[Any], on_progress: OnProgress | None) -> None:
    """Have the actors compute the blocks, and tell Ray and the caller how far they are."""
    metrics = ScanMetrics()

    def show() -> None:
        metrics.show(claim.result)
        if on_progress is not None:
            on_progress(claim.result.progress())

    try:
        Feed(pool, claim, show).run()
    finally:
        metrics.show(claim.result, at_once=True)
