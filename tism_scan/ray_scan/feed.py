"""What the actors of a scan are given, and what becomes of it: blocks, or the units of another work.

Up to two blocks are in flight per actor, four on a GPU if they are small. A block that failed is given to
another actor, three times in all. An actor that dies with several blocks in flight does not tell which of
them killed it: all of them become suspects, and a suspect is computed alone.

When nothing else is left, a block that takes unusually long is given to a second actor, too. The first
result counts; the other actor is kept from publishing its own.
"""

import collections
import logging
import time
from collections.abc import Callable
from typing import Any

from tism_scan.errors import LeaseError
from tism_scan.progress import count_of
from tism_scan.ray_scan.actors import Actor, Failed, Finished, HowFar, Lost
from tism_scan.ray_scan.pool import ActorPool
from tism_scan.ray_scan.stragglers import Stragglers
from tism_scan.scan.claim import Claim
from tism_scan.scan.result import ENDS_THE_SCAN, MAX_ATTEMPTS
from tism_scan.scan.work import Unit
from tism_scan.store.lease import HEARTBEAT_S

MAX_LOSSES = 20
DRAIN_S = 25.0  # which leaves five of the thirty promised for Ray to end
POLL_S = 0.5

log = logging.getLogger(__name__)


class Feed:
    """Feeds actors with blocks until none is left or a stop is asked for.

    Parameters
    ----------
    pool : ActorPool
    claim : Claim
        The store, its blocks, the result, which is kept up to date, and whether the scan is to stop.
    on_change : callable
        Called twice a second, and after each block.
    """

    def __init__(
        self,
        pool: ActorPool,
        claim: Claim[Any],  # actors answer for units of any kind
        on_change: Callable[[], None],
    ) -> None:
        self.pool, self.blocks, self.store = pool, iter(claim.blocks), claim.store
        self.claim, self.result, self.on_change = claim, claim.result, on_change
        self.stop, self.disowned = claim.stop, claim.disowned
        self.again: list[tuple[Unit, Actor | None]] = []
        self.suspects: collections.deque[Unit] = collections.deque()
        self.alone: set[Unit] = set()
        self.n_attempts: collections.Counter[Unit] = collections.Counter()
        self.n_losses: collections.Counter[Unit] = collections.Counter()
        self.stragglers = Stragglers()
        self.has_more = True

    def run(self) -> None:
        """Go on until every block is done or given up, or a stop is asked for."""
        stop_began, round_began = None, time.monotonic()
        while True:
            was_silent = time.monotonic() - round_began > HEARTBEAT_S
            round_began = time.monotonic()
            if was_silent and not self.claim.lease.is_held():  # this process, or its machine, was stopped
                self.claim.leave()
            if self.stop.is_set():
                stop_began = stop_began or self._begin_to_stop()
            else:
                self._feed()
            if self.disowned.is_set():
                log.warning("%s left to the other process", self._awaited())
                break
            if not self._n_awaited() and (self.stop.is_set() or not self._has_blocks()):
                break
            if stop_began is not None and time.monotonic() - stop_began > DRAIN_S:
                log.warning("%s dropped, and pending again", self._awaited())
                break
            match self.pool.wait(POLL_S):
                case Finished() as finished:
                    self._settle(finished)
                case Failed(block, actor, error):
                    if isinstance(error, ENDS_THE_SCAN):
                        raise error
                    if isinstance(error, LeaseError):
                        self.claim.leave()
                        continue
                    self._fail(block, actor, str(error))
                case Lost() as lost:
                    self._mourn(lost)
                case HowFar(block, share) if block not in self.stragglers.losers:
                    self.result.hear(block, share)
            self._report()
        is_cut_short = self.stop.is_set() or self.disowned.is_set()
        self.result.was_stopped = is_cut_short and self.result.n_blocks_left > 0
        self.result.under_way.clear()
        self._report()

    def _begin_to_stop(self) -> float:
        """Say what is waited for, and return the time.

        The cluster may let nodes go at once: whoever stops us, such as `ray job stop`, may not wait.
        """
        self.pool.wind_down()
        n_awaited = self._n_awaited()
        if self.disowned.is_set():
            pass  # the other process is named where the store was found to be its
        elif not n_awaited:
            log.warning("stopping; no block is in flight")
        else:
            log.warning(
                "stopping; %s in flight may take %.0f s to finish, a second Ctrl-C stops at once",
                count_of(n_awaited, "block"),
                DRAIN_S,
            )
        return time.monotonic()

    def _has_blocks(self) -> bool:
        return bool(self.has_more or self.again or self.suspects)

    def _n_awaited(self) -> int:
        return self.pool.n_in_flight - len(self.stragglers.losers)

    def _awaited(self) -> str:
        """Return what is in flight, with its verb."""
        n_awaited = self._n_awaited()
        return "the block in flight is" if n_awaited == 1 else f"the {n_awaited} blocks in flight are"

    def _feed(self) -> None:
        """Give each actor what it can take."""
        if self._has_blocks():
            self.pool.grow(n_useful=self.result.n_blocks_left)
        for depth in range(self.pool.depth):
            for actor in self.pool.ready:
                is_free = len(actor.in_flight) == depth and not actor.is_doubted
                if is_free and self.alone.isdisjoint(actor.in_flight.values()):
                    block = self._next_block(actor)
                    if block is not None:
                        self.stragglers.give(block)
                        self.pool.submit(actor, block)
        self.pool.fit_cluster(n_useful=self.result.n_blocks_left)

    def _next_block(self, actor: Actor) -> Unit | None:
        """Return the block to be computed next, a suspect only for an actor that has nothing else."""
        if self.suspects and not actor.in_flight:
            block = self.suspects.popleft()
            self.alone.add(block)
            return block
        for i, (block, failed_on) in enumerate(self.again):
            if failed_on is not actor or len(self.pool.ready) == 1:
                del self.again[i]
                return block
        block_or_none = next(self.blocks, None) if self.has_more else None
        self.has_more = block_or_none is not None
        if self._has_blocks() or actor.in_flight:
            return block_or_none
        return self._late_block()

    def _late_block(self) -> Unit | None:
        """Return a block that another actor has had for long, and that never failed."""
        in_flight = (block for actor in self.pool.ready for block in actor.in_flight.values())
        # Those that did fail, suspects among them, may be what ends an actor.
        sound = (block for block in in_flight if not self.n_attempts[block] and not self.n_losses[block])
        block = self.stragglers.latest(sound)
        if block is not None:
            log.info("%s takes long; another actor computes it, too", block)
        return block

    def _is_in_flight(self, block: Unit) -> bool:
        return any(block in actor.in_flight.values() for actor in self.pool.ready)

    def _was_lost_race(self, block: Unit) -> bool:
        """Return whether another actor finished a block before this end of it."""
        is_loser = block in self.stragglers.losers
        self.stragglers.losers.discard(block)
        return is_loser

    def _settle(self, finished: Finished) -> None:
        """Count a finished block."""
        block, report = finished.block, finished.report
        if self._was_lost_race(block):
            return
        self._end(block, is_done=True)
        for actor in self.pool.ready:
            if block in actor.in_flight.values():
                self.stragglers.losers.add(block)
                self.pool.abandon(actor, block)
        if finished.actor is not None:
            self.result.bp_per_s[finished.actor.name] = block.size / max(report.seconds, 1e-9)
        self._forget(block)
        self.result.count(block, report.n_scored)
        log.info("%s: %d bases in %.1f s", block, report.n_scored, report.seconds)

    def _end(self, block: Unit, *, is_done: bool) -> None:
        """Take note that a block is in flight nowhere that counts."""
        self.stragglers.end(block, is_done=is_done)
        self.result.under_way.pop(block, None)

    def _fail(self, block: Unit, actor: Actor, reason: str) -> None:
        """Charge a block with an error, unless another actor finished it or still computes it."""
        if not self._was_lost_race(block) and not self._is_in_flight(block):
            self._end(block, is_done=False)
            self._charge(block, reason, actor)

    def _mourn(self, lost: Lost) -> None:
        """Blame a block for its actor's end only if it was the only one in flight."""
        shown = ", ".join(map(str, lost.blocks))
        self._complain("an actor was lost (%s) with %s in flight", lost.reason, shown)
        blocks = [block for block in lost.blocks if not self._was_lost_race(block)]
        if lost.is_accident:
            for block in filter(self._is_in_flight, blocks):
                self.stragglers.end_copy(block)
        blocks = [block for block in blocks if not self._is_in_flight(block)]
        for block in blocks:
            self._end(block, is_done=False)
        if blocks and len(lost.blocks) == 1 and not lost.is_accident:
            self._charge(blocks[0], lost.reason, None, is_suspect=True)
            return
        for block in blocks:
            self.alone.discard(block)
            self.n_losses[block] += 1
            if self.n_losses[block] >= MAX_LOSSES:
                self._give_up(block, lost.reason, self.n_losses[block])
            elif lost.is_accident:
                self.again.append((block, None))
            else:
                self.suspects.append(block)

    def _charge(self, block: Unit, reason: str, actor: Actor | None, *, is_suspect: bool = False) -> None:
        """Count a failed attempt; try again, on another actor if there is one, or give the block up."""
        self.alone.discard(block)
        self.n_attempts[block] += 1
        self._complain("%s failed (attempt %d): %s", block, self.n_attempts[block], reason)
        if self.n_attempts[block] >= MAX_ATTEMPTS:
            self._give_up(block, reason, self.n_attempts[block])
        elif is_suspect:
            self.suspects.append(block)
        else:
            self.again.append((block, actor))

    def _complain(self, message: str, *details: object) -> None:
        """Warn of what went wrong; while the scan stops, it is expected, and only noted."""
        log.log(logging.INFO if self.stop.is_set() else logging.WARNING, message, *details)

    def _give_up(self, block: Unit, reason: str, n_attempts: int) -> None:
        self._forget(block)
        self.result.give_up(self.store, block, reason, n_attempts)

    def _forget(self, block: Unit) -> None:
        """Drop what is remembered of a block, so that memory does not grow with their number."""
        self.n_attempts.pop(block, None)
        self.n_losses.pop(block, None)
        self.alone.discard(block)

    def _report(self) -> None:
        names = {actor.name for actor in self.pool.ready}
        self.result.n_workers = len(self.pool.ready)
        for name in self.result.bp_per_s.keys() - names:
            del self.result.bp_per_s[name]
        self.on_change()
