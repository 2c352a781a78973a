"""The store of a running scan: held by one driver, and not touched once another takes it."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Generic

from tism_scan.errors import ScanError
from tism_scan.progress import steps
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import ScanResult
from tism_scan.scan.work import U, Work
from tism_scan.storage.read_only import cannot_write
from tism_scan.store.lease import Lease


@dataclass(frozen=True)
class Claim(Generic[U]):
    """A store that this process scans into.

    Attributes
    ----------
    store : Work
        For writing in the name of the lease's owner: see `ScoreStore.held_by`.
    lease : Lease
    blocks : iterable of Unit
        Those to be computed, in the order that is best for many workers.
    result : ScanResult
        Kept up to date while they are.
    stop : threading.Event
        Set by anybody to end the scan; blocks in flight may finish.
    disowned : threading.Event
        Set, before `stop`, once the store is known to be another process's, or gone.
    """

    store: Work[U]
    lease: Lease
    blocks: Iterable[U] = ()
    result: ScanResult = field(default_factory=ScanResult)
    stop: threading.Event = field(default_factory=threading.Event)
    disowned: threading.Event = field(default_factory=threading.Event)

    def leave(self) -> None:
        """End the scan, since the store is not ours any more."""
        self.disowned.set()
        self.stop.set()


@contextlib.contextmanager
def claimed(store: Work[U], execution: Execution) -> Iterator[Claim[U]]:
    """Hold a store while its pending blocks are computed; in the end, consolidate it if none is left.

    What interrupted writers left is removed first. A store that can only be read will do if nothing is
    pending in it: nothing is written then.

    Raises
    ------
    LeaseError
        If another process is scanning into the store, or has taken it over.
    ReadOnlyError
        If something is pending in a store that can only be read.
    ScanError
        If a block is pending in the end that neither failed nor was stopped.
    """
    steps.info("taking the store")
    lease = Lease(store.folder)
    claim = Claim(store, lease)
    lease.on_lost = claim.leave  # before the first heartbeat: listing what is pending may take longer
    read_only = lease.acquire_if_writable(break_lock=execution.break_lock)
    if read_only:
        pending = store.in_order(retry_failed=execution.retry_failed)
        if len(pending):
            what = f"what is still to be computed (of {store.counts}: {pending.size:,})"
            raise cannot_write(what, store.path, read_only, "go on in a copy of it")
        yield replace(claim, result=ScanResult(n_bp_before=store.size, unit=store.counts))
        return
    with lease:
        store = store.held_by(lease.tenure)
        blocks = store.in_order(retry_failed=execution.retry_failed)
        result = ScanResult(len(blocks), blocks.size, n_bp_before=store.size - blocks.size, unit=store.counts)
        yield replace(claim, store=store, blocks=blocks, result=result)
        lease.tenure.check(lease.folder)
        if not finish(store) and not result.was_stopped and not store.ledger.failures():
            raise ScanError(
                f"blocks of {store.path} are pending again: their records were removed while the scan ran; "
                "expected that nothing else changes the store; run the same command again"
            )


@contextlib.contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[None]:
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


def finish(store: Work[U]) -> bool:
    """Consolidate a store if nothing is pending in it, and return whether that is so."""
    is_complete = next(store.pending(retry_failed=True), None) is None
    if is_complete:
        store.consolidate()
    return is_complete
