"""A scan in this process: one worker, one block after another."""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tism_scan.errors import LeaseError
from tism_scan.models.source import AnyModel, model_source
from tism_scan.progress import OnProgress
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.claim import Claim, claimed, stopping_on_signals
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ENDS_THE_SCAN, MAX_ATTEMPTS, ScanResult, reason_of
from tism_scan.scan.work import U, Work
from tism_scan.scan.worker import BlockWorker, Worker, WorkerSetup
from tism_scan.storage.watched import stamp_of_content

SHOW_EVERY_S = 1.0

log = logging.getLogger(__name__)


def scan_serially(
    store: Work[Any],
    genome: str | Path,
    model: AnyModel,
    *,
    execution: Execution | None = None,
    on_progress: OnProgress | None = None,
    worker_class: type[Worker[Any, Any]] = BlockWorker,
) -> ScanResult:
    """Compute every pending block of a store in this process.

    The contract is that of `tism_scan.scan_on_ray`. A block that fails is tried three times in all, then
    recorded in the store with its error, and the scan goes on. The first SIGINT or SIGTERM ends the scan
    after the block that is being computed; a second SIGINT ends it at once.

    Parameters
    ----------
    store : ScoreStore, or another Work
        Made by `ScoreStore.create`.
    genome : str or Path
        The FASTA file of the store's plan.
    model : str, Path, Url, torch.nn.Module, ModelSource, or sequence of these
        The model of the store's plan; see `tism_scan.models.model_source`.
    execution : Execution, optional
    on_progress : callable, optional
        Called at the start, after each block and, within a long one, every second, with the bases done and
        pending in this run.
    worker_class : type of Worker
        What computes a block; a subclass may use another engine.

    Returns
    -------
    ScanResult

    Raises
    ------
    LeaseError
        If another process is scanning into the store, or takes it over.
    StorageFullError
        If there is no room left; finished blocks are kept.
    ScanError
        If the genome, the weights or the store are not those of the plan.
    """
    execution = execution or Execution()
    with claimed(store, execution) as claim:
        result = claim.result

        def show() -> None:
            if on_progress is not None:
                on_progress(result.progress())

        if result.n_blocks_total:
            setup = WorkerSetup(
                store.path,
                Path(genome),
                model_source(model),
                store.plan.digest(),
                claim.lease.tenure,
                execution,
                genome_stamp=stamp_of_content(Path(genome), store.plan.genome_digest),
            )
            with stopping_on_signals(claim.stop), contextlib.closing(worker_class(setup)) as worker:
                worker.start()
                result.n_workers = 1
                for block in claim.blocks:
                    show()
                    if claim.stop.is_set():
                        break
                    _process(worker, block, claim, show)
            result.was_stopped = result.n_blocks_left > 0
            show()
    return result


def _process(worker: Worker[U, Any], block: U, claim: Claim[U], show: Callable[[], None]) -> None:
    """Compute a block and count it, or record that it failed every attempt."""
    for i_attempt in range(1, MAX_ATTEMPTS + 1):
        processed = _processed(worker, block, claim, show)
        try:
            report = processed.result()
        except ENDS_THE_SCAN:
            raise
        except LeaseError:
            claim.leave()
            return
        except Exception as error:  # a user's model may fail in any way
            reason = reason_of(error)
            log.warning("%s failed (attempt %d): %s", block, i_attempt, reason)
        else:
            log.info("%s: %d bases in %.1f s", block, report.n_scored, report.seconds)
            claim.result.count(block, report.n_scored)
            return
    claim.result.give_up(claim.store, block, reason, MAX_ATTEMPTS)


def _processed(
    worker: Worker[U, Any], block: U, claim: Claim[U], show: Callable[[], None]
) -> Future[BlockReport]:
    """Return what became of a block on a thread of its own, while this one shows how far it is."""
    # One for each block costs a fraction of a ms, and none is left to end with the scan.
    caller = ThreadPoolExecutor(1, thread_name_prefix="block")
    processed = caller.submit(worker.process, block)
    caller.shutdown(wait=False)
    try:
        while not wait([processed], SHOW_EVERY_S).done:
            how_far = worker.how_far()
            if how_far is not None:
                claim.result.hear(*how_far)
            show()
    except BaseException:  # of `show`, or of a second Ctrl-C
        worker.abandon(block)
        raise
    claim.result.under_way.clear()
    return processed
