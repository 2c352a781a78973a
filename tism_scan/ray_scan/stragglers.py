"""Blocks that take unusually long at the end of a scan, and the second workers that they get."""

import time
from collections.abc import Callable, Iterable

from tism_scan.scan.work import Unit

PATIENCE = 2.0  # in units of the mean time from a block's being given to its end
LEAST_PATIENCE_S = 1.0
LOOK_EVERY_S = 0.2  # a look takes time for every actor, and every idle actor asks for one


class Stragglers:
    """Tells which block in flight is late, and which results come too late.

    A block has two workers at most, and only while nothing else is left to be computed.
    Whichever result comes first counts; the other is the race's loser, and is not waited for.

    Attributes
    ----------
    losers : set of Unit
        Blocks that are done, and still in flight on a second worker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.losers: set[Unit] = set()
        self._clock = clock
        self._given: dict[Unit, float] = {}
        self._copied: set[Unit] = set()
        self._n_ended, self._seconds = 0, 0.0
        self._look_at = -float("inf")

    def give(self, block: Unit) -> None:
        """Note that a block was given to a worker."""
        if block in self._given:
            self._copied.add(block)
        else:
            self._given[block] = self._clock()

    def end(self, block: Unit, *, is_done: bool) -> None:
        """Note that a block is in flight nowhere that counts."""
        given = self._given.pop(block, None)
        self._copied.discard(block)
        if is_done and given is not None:
            self._n_ended += 1
            self._seconds += self._clock() - given

    def end_copy(self, block: Unit) -> None:
        """Note that one of a block's two workers is gone; it may have another."""
        self._copied.discard(block)

    def latest(self, blocks: Iterable[Unit]) -> Unit | None:
        """Return that of some blocks in flight which is late the longest, and has no second worker.

        If no block is late, later calls return None without looking again for `LOOK_EVERY_S` seconds.
        """
        now = self._clock()
        if not self._n_ended or now < self._look_at:
            return None
        patience_s = max(LEAST_PATIENCE_S, PATIENCE * self._seconds / self._n_ended)
        waits = {
            block: now - self._given[block]
            for block in blocks
            if block in self._given and block not in self._copied
        }
        late = [block for block, waited_s in waits.items() if waited_s > patience_s]
        if not late:
            self._look_at = now + LOOK_EVERY_S
        return max(late, key=waits.__getitem__, default=None)
