"""The store of a running scan: held by one driver, and not touched once another takes it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

from tism_scan.errors import LeaseError
from tism_scan.scan.result import ScanResult
from tism_scan.store.lease import STALE_S, Lease
from tism_scan.store.score_store import ScoreStore


@dataclass(frozen=True)
class Claim:
    """A store that this process scans into.

    Attributes
    ----------
    store : ScoreStore
    lease : Lease
    stop : threading.Event
        Set by anybody to end the scan; blocks in flight may finish.
    disowned : threading.Event
        Set, before `stop`, once another process has taken the store: nothing is published after that.
    """

    store: ScoreStore
    lease: Lease
    stop: threading.Event = field(default_factory=threading.Event)
    disowned: threading.Event = field(default_factory=threading.Event)

    def close(self, result: ScanResult) -> None:
        """Consolidate the store if nothing is pending in it.

        Raises
        ------
        LeaseError
            If another process has taken the store.
        """
        if result.was_stopped and not self.lease.is_held():
            raise LeaseError(
                f"another process took {self.store.path} over, and this one stopped; what it finished is kept"
            )
        finish(self.store)


@contextlib.contextmanager
def claimed(store: ScoreStore, *, break_lock: bool) -> Iterator[Claim]:
    """Hold a store's lease, and remove what interrupted writers left.

    Raises
    ------
    LeaseError
        If another process is scanning into the store.
    """
    claim = Claim(store, Lease(store.folder, on_lost=lambda: leave()))

    def leave() -> None:
        claim.disowned.set()
        claim.stop.set()

    with claim.lease.acquire(break_lock=break_lock):
        store.folder.sweep(STALE_S)
        yield claim


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


def finish(store: ScoreStore) -> bool:
    """Consolidate a store if nothing is pending in it, and return whether that is so."""
    is_complete = next(store.pending(retry_failed=True), None) is None
    if is_complete:
        store.consolidate()
    return is_complete
