"""A scan on Ray: one actor a GPU (or a few CPU cores), fed by a loop in the driver.

The driver holds the store's lease meanwhile, and ends cleanly when it is told to.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from tism_scan.errors import LeaseError
from tism_scan.genome.fasta import stamp_of
from tism_scan.models.source import ModelSource
from tism_scan.ray_scan.cluster import RayOptions, connected
from tism_scan.ray_scan.feed import Feed, Progress
from tism_scan.ray_scan.metrics import ScanMetrics
from tism_scan.ray_scan.order import WidestFirst
from tism_scan.ray_scan.pool import ActorPool
from tism_scan.ray_scan.worker import BlockWorker, WorkerSetup
from tism_scan.scan.blocks import finish
from tism_scan.storage.places import Url
from tism_scan.store.lease import STALE_S, Lease
from tism_scan.store.score_store import ScoreStore

__all__ = ["Progress", "RayOptions", "scan_on_ray"]


def scan_on_ray(
    store: ScoreStore,
    genome: Path,
    model: ModelSource | Path | Url,
    *,
    options: RayOptions | None = None,
    batch_size: int | None = None,
    memory_gb: float | None = None,
    stage_folder: Path | None = None,
    retry_failed: bool = False,
    break_lock: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    worker_class: type[BlockWorker] = BlockWorker,
) -> Progress:
    """Compute every pending block of a store on Ray's actors.

    SIGINT and SIGTERM end the scan cleanly: blocks in flight are finished if they need no longer than 30 s,
    and the rest stays pending. A second SIGINT ends it at once.

    Parameters
    ----------
    store : ScoreStore
        Made by `ScoreStore.create` in this process.
    genome : Path
        The file of the store's plan, visible under the same path on every node. Where size or time differ
        from this machine's, each actor reads it once to compare the content. This machine's own is not
        compared with the plan.
    model : ModelSource, Path or Url
        The model of the store's plan, likewise; a path or URL is that of Beluga's weights.
    options : RayOptions, optional
    batch_size : int, optional
        Windows that go through the model together.
    memory_gb : float, optional
        Memory for what an actor computes at once; see `tism_scan.engine.trunk_engine.TrunkEngine`.
    stage_folder : Path, optional
        Where, on each node's own disk, a copy of the genome is made and kept; see `tism_scan.storage.copies`.
    retry_failed : bool
        Try blocks again that an earlier run gave up.
    break_lock : bool
        Take the store even if another process seems to write it.
    on_progress : callable, optional
        Called twice a second, and after each block.
    worker_class : type of BlockWorker
        What an actor is; another one may compute with another engine.

    Returns
    -------
    Progress

    Raises
    ------
    LeaseError
        If another process is scanning into the store, or takes it over meanwhile.
    StorageFullError
        If there is no room left; finished blocks are kept.
    ScanError
        If the cluster cannot be reached or is lost, or no actor can be started.
    """
    options = options or RayOptions()
    source = model if isinstance(model, ModelSource) else ModelSource(weights=model)
    stop, disowned = threading.Event(), threading.Event()

    def leave_the_store() -> None:
        disowned.set()
        stop.set()

    with Lease(store.folder, on_lost=leave_the_store).acquire(break_lock=break_lock) as lease:
        store.folder.sweep(STALE_S)
        blocks = WidestFirst(store.plan, store.pending(retry_failed=retry_failed))
        progress = Progress(blocks.n_blocks, blocks.n_bp)
        if progress.n_blocks_total == 0:
            finish(store)
            return progress
        setup = WorkerSetup(
            store.path,
            genome.absolute(),
            source.absolute(),
            store.plan.digest(),
            batch_size=batch_size,
            memory_gb=memory_gb,
            stage_folder=stage_folder.absolute() if stage_folder else None,
            genome_stamp=stamp_of(genome),
        )
        # Twice: before, for those who lose patience while Ray starts, and after, for Ray takes SIGTERM.
        with _stopping_on_signals(stop), connected(options), _stopping_on_signals(stop):
            metrics = ScanMetrics()

            def show(progress: Progress) -> None:
                metrics.show(progress)
                if on_progress is not None:
                    on_progress(progress)

            with contextlib.closing(ActorPool(setup, options, worker_class)) as pool:
                feed = Feed(pool, iter(blocks), store, progress, show, stop=stop, disowned=disowned)
                try:
                    feed.run()
                finally:
                    metrics.show(progress, at_once=True)
        if progress.was_stopped and not lease.is_held():
            raise LeaseError(
                f"another process took {store.path} over, and this one stopped; what it finished is kept"
            )
        finish(store)
        return progress


@contextlib.contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set an event at the first SIGINT or SIGTERM; a second SIGINT raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
