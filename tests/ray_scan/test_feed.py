"""What the actors are given, by a pool that answers as told: without a Ray that runs."""

import collections
import functools
import itertools
import threading
import time

import numpy as np
import pytest
from scan_models import plan_of

from tism_scan.errors import LeaseError, ScanError
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.ray_scan import feed as feeding
from tism_scan.ray_scan.actors import Actor, Failed, Finished, HowFar, Lost
from tism_scan.ray_scan.feed import Feed
from tism_scan.ray_scan.pool import IN_FLIGHT_PER_ACTOR
from tism_scan.ray_scan.stragglers import Stragglers
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.claim import Claim
from tism_scan.scan.result import ScanResult
from tism_scan.store.lease import Lease
from tism_scan.store.score_store import ScoreStore

N_BLOCKS = 10


class FakePool:
    """Answers each block as told: None for a block that is done, else what became of it."""

    def __init__(self, answer, n_actors=1):
        self.answer, self.ready = answer, [Actor(i, f"actor {i}") for i in range(n_actors)]
        self.asked, self.abandoned, self.is_winding_down = [], [], False
        self.depth = IN_FLIGHT_PER_ACTOR

    @property
    def n_in_flight(self):
        return sum(len(actor.in_flight) for actor in self.ready)

    def grow(self, n_useful):
        pass

    def fit_cluster(self, n_useful):
        pass

    def wind_down(self):
        self.is_winding_down = True

    def abandon(self, actor, block):
        self.abandoned.append((actor.handle, block.i_block))

    def submit(self, actor, block):
        self.asked.append(block.i_block)
        actor.in_flight[block] = block

    def wait(self, timeout_s):
        actor = next(actor for actor in self.ready if actor.in_flight)
        together = tuple(actor.in_flight.values())
        event = self.answer(actor, together)
        if isinstance(event, HowFar):
            return event
        if isinstance(event, Lost):
            actor.in_flight.clear()
        else:
            del actor.in_flight[event.block]
        return event


@pytest.fixture
def feed(tmp_path):
    """Return a function that feeds ten blocks to a pool and returns how it went."""
    scoring = Scoring((Track("a", (0,), (1.0,)),), 24, 6)
    store = ScoreStore.create(
        tmp_path / "fed.zarr", plan_of(scoring, {"c": np.zeros(60, np.uint8)}, block_bp=6)
    )

    def run(pool, *, stop=None, disowned=None, on_change=lambda _: None):
        events = stop or threading.Event(), disowned or threading.Event()
        # Of a lease that is not held: the feed asks for it after a long silence only.
        claim = Claim(
            store, Lease(store.folder), store.pending(), ScanResult(n_blocks_total=N_BLOCKS), *events
        )
        Feed(pool, claim, lambda: on_change(claim.result)).run()
        return claim.result

    return run


def finished(block):
    return Finished(block, BlockReport(block, len(block), 0.1))


def test_block_whose_node_is_lost_is_not_blamed(feed):
    n_lost = itertools.count(1)

    def lose_ten_times(actor, together):
        if together[0].i_block == 2 and next(n_lost) <= 10:
            return Lost(together, "its node has died", True)
        return finished(together[0])

    progress = feed(FakePool(lose_ten_times))
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed


def test_block_that_was_alone_on_nodes_that_were_lost_is_not_blamed(feed):
    n_lost = itertools.count(1)

    def lose_block_2(actor, together):
        assert len(together) == 1
        if together[0].i_block == 2 and next(n_lost) < feeding.MAX_LOSSES:
            return Lost(together, "its node has died", True)
        return finished(together[0])

    assert feeding.MAX_LOSSES > feeding.MAX_ATTEMPTS
    pool = FakePool(lose_block_2)
    pool.depth = 1
    progress = feed(pool)
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed


def test_block_that_is_lost_with_every_node_is_given_up_in_the_end(feed):
    def lose_block_2(actor, together):
        if any(block.i_block == 2 for block in together):
            return Lost(together, "its node has died", True)
        return finished(together[0])

    pool = FakePool(lose_block_2)
    progress = feed(pool)
    assert "c:13-18" in progress.failed
    assert pool.asked.count(2) == feeding.MAX_LOSSES


@pytest.mark.parametrize("culprit", [0, 1, 2])
@pytest.mark.parametrize("n_actors", [1, 2])
def test_suspects_are_computed_alone(feed, culprit, n_actors):
    companies = []

    def lose_it(actor, together):
        if any(block.i_block == culprit for block in together):
            companies.append([block.i_block for block in together])
            return Lost(together, "died", False)
        return finished(together[0])

    progress = feed(FakePool(lose_it, n_actors=n_actors))
    assert list(progress.failed) == [f"c:{6 * culprit + 1}-{6 * culprit + 6}"]
    first, *later = companies
    assert len(first) == 2
    assert later == [[culprit]] * 3


def test_failed_block_goes_to_another_actor(feed):
    tried_on = []

    def fail_block_2(actor, together):
        if together[0].i_block == 2:
            tried_on.append(actor.handle)
            return Failed(together[0], actor, ScanError("no such luck"))
        return finished(together[0])

    feed(FakePool(fail_block_2, n_actors=2))
    assert tried_on[0] != tried_on[1] != tried_on[2]


def test_share_of_a_block_under_way_counts_until_the_block_ends(feed):
    shares = iter([0.5, 0.25, 0.75])

    def tell_of_block_2(actor, together):
        share = next(shares, None) if together[0].i_block == 2 else None
        return finished(together[0]) if share is None else HowFar(together[0], share)

    shown = []
    feed(FakePool(tell_of_block_2), on_change=lambda result: shown.append(result.progress().n_done))
    assert shown == [6, 12, 15, 15, 16, 18, 24, 30, 36, 42, 48, 54, 60, 60]  # the last is of the end


def test_share_of_a_block_that_fails_is_taken_back(feed):
    events = iter([HowFar, Failed, HowFar, Lost])

    def tell_and_fail(actor, together):
        kind = next(events, Finished) if len(together) == 2 or together[0].i_block == 0 else Finished
        if kind is HowFar:
            return HowFar(together[0], 0.5)
        if kind is Failed:
            return Failed(together[0], actor, ScanError("no such luck"))
        return Lost(together, "died", False) if kind is Lost else finished(together[0])

    shown = []
    feed(FakePool(tell_and_fail), on_change=lambda result: shown.append(result.progress().n_done))
    assert shown[:4] == [3, 0, 3, 0]
    assert shown[-1] == 60


class RacingPool(FakePool):
    """Two actors on a clock of its own: the second never answers its first block until it is abandoned.

    Then `loser_end` says what becomes of the second actor, which it takes off `abandoned`.
    """

    def __init__(self, clock, *, loser_end=None):
        super().__init__(None, n_actors=2)
        self.clock, self.loser_end = clock, loser_end

    def wait(self, timeout_s):
        self.clock.now += 1.0
        fast, slow = self.ready[0], self.ready[-1]
        if self.loser_end is not None and self.abandoned:
            return self.loser_end(slow)
        if fast.in_flight:
            block = next(iter(fast.in_flight.values()))
            del fast.in_flight[block]
            return Finished(block, BlockReport(block, len(block), 0.1), fast)
        return None


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(feeding, "Stragglers", functools.partial(Stragglers, clock))
    return clock


def test_last_blocks_of_a_slow_actor_are_computed_by_another_and_not_waited_for(feed, clock):
    pool = RacingPool(clock)
    progress = feed(pool)
    assert progress.n_blocks == N_BLOCKS
    slow = [block.i_block for block in pool.ready[1].in_flight.values()]
    assert sorted(pool.abandoned) == [(1, i_block) for i_block in sorted(slow)]
    assert len(slow) == 2
    assert sorted(pool.asked) == sorted([*range(N_BLOCKS), *slow])


@pytest.mark.parametrize(
    "end",
    [
        lambda block, actor: Finished(block, BlockReport(block, len(block), 9.0), actor),
        lambda block, actor: Failed(block, actor, ScanError("no such luck")),
    ],
    ids=["finished", "failed"],
)
def test_result_that_comes_second_counts_for_nothing(feed, clock, end):
    def end_first(slow):
        (i_block,) = {i_block for _, i_block in pool.abandoned} & {b.i_block for b in slow.in_flight}
        block = next(block for block in slow.in_flight if block.i_block == i_block)
        del slow.in_flight[block]
        pool.abandoned.remove((1, i_block))
        ended.append(i_block)
        return end(block, slow)

    pool, ended = RacingPool(clock, loser_end=end_first), []
    progress = feed(pool)
    assert ended
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed


def test_share_of_a_block_that_another_actor_finished_counts_for_nothing(feed, clock):
    def tell(slow):
        _, i_block = pool.abandoned.pop()
        return HowFar(next(block for block in slow.in_flight if block.i_block == i_block), 0.5)

    shown, pool = [], RacingPool(clock, loser_end=tell)
    feed(pool, on_change=lambda result: shown.append(result.progress().n_done))
    assert max(pool.asked.count(i_block) for i_block in range(N_BLOCKS)) == 2  # there was a race
    assert all(n_done % 6 == 0 for n_done in shown)  # the length of a block


def test_lost_actor_whose_blocks_another_one_finished_is_no_loss(feed, clock):
    def lose(slow):
        blocks = tuple(slow.in_flight.values())
        slow.in_flight.clear()
        pool.ready.remove(slow)
        pool.abandoned.clear()
        return Lost(blocks, "its process died", False)

    pool = RacingPool(clock, loser_end=lose)
    progress = feed(pool)
    assert len(pool.ready) == 1
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed
    assert max(collections.Counter(pool.asked).values()) == 2


class HoldingPool(FakePool):
    """Two actors, of which the second holds the blocks that did not end well at first, for fifty waits."""

    def __init__(self, clock):
        super().__init__(None, n_actors=2)
        self.clock, self.again, self.n_asked_before, self.n_held = clock, [], 0, 0

    def go_wrong(self):
        raise NotImplementedError

    def wait(self, timeout_s):
        self.clock.now += 1.0
        if not self.again:
            self.n_asked_before = len(self.asked)
            return self.go_wrong()
        slow = self.ready[1]
        held = [block for block in slow.in_flight if block.i_block in self.again]
        for actor in self.ready:
            for block in actor.in_flight:
                if actor is not slow or block not in held or self.n_held > 50:
                    del actor.in_flight[block]
                    return Finished(block, BlockReport(block, len(block), 1.0), actor)
        self.n_held += 1
        return None


class FailingPool(HoldingPool):
    def go_wrong(self):
        fast = self.ready[0]
        block = fast.in_flight.pop(next(iter(fast.in_flight)))
        self.again = [block.i_block]
        return Failed(block, fast, ScanError("no such luck"))


class LosingPool(HoldingPool):
    def go_wrong(self):
        slow = self.ready[1]
        blocks = tuple(slow.in_flight.values())
        slow.in_flight.clear()
        self.again = [block.i_block for block in blocks]
        return Lost(blocks, "its node has died", True)


@pytest.mark.parametrize("kind", [FailingPool, LosingPool])
def test_late_block_that_failed_before_gets_no_second_actor(feed, clock, kind):
    pool = kind(clock)
    progress = feed(pool)
    assert progress.n_blocks == N_BLOCKS
    later = pool.asked[pool.n_asked_before :]
    assert pool.n_held > 50
    assert [later.count(i_block) for i_block in pool.again] == [1] * len(pool.again)


class MortalPool(RacingPool):
    """Of its actors, the first dies with the first copy of a block that it is given, and is replaced."""

    def __init__(self, clock):
        super().__init__(clock)
        self.n_waits, self.mourned = 0, None

    def wait(self, timeout_s):
        self.n_waits += 1
        assert self.n_waits < 100, "nobody computes the slow actor's blocks"
        fast, slow = self.ready[0], self.ready[-1]
        copied = set(fast.in_flight.values()) & set(slow.in_flight.values())
        if copied and self.mourned is None:
            self.mourned = copied
            self.ready[0] = Actor(2, "actor 2")
            return Lost(tuple(fast.in_flight.values()), "its node has died", True)
        return super().wait(timeout_s)


def test_late_block_whose_second_actor_lost_its_node_is_given_to_another(feed, clock):
    pool = MortalPool(clock)
    progress = feed(pool)
    assert pool.mourned
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed


def test_scan_that_stops_wants_no_more_of_the_cluster_while_its_blocks_end(feed):
    stop, wanted_more = threading.Event(), []

    def stop_at_the_third(actor, together):
        if together[0].i_block == 3:
            stop.set()
        wanted_more.append(not pool.is_winding_down)
        return finished(together[0])

    pool = FakePool(stop_at_the_third)
    assert feed(pool, stop=stop).was_stopped
    assert wanted_more == [True] * 4 + [False]


def test_scan_that_stops_with_nothing_in_flight_says_so(feed, caplog):
    stop = threading.Event()
    stop.set()
    progress = feed(FakePool(lambda actor, together: finished(together[0])), stop=stop)
    assert progress.was_stopped
    assert "stopping; no block is in flight" in caplog.text


def test_scan_whose_store_another_took_over_publishes_nothing_more(feed):
    stop, disowned = threading.Event(), threading.Event()

    def lose_the_store(progress):
        if progress.n_blocks == 3:
            disowned.set()
            stop.set()

    pool = FakePool(lambda actor, together: finished(together[0]))
    progress = feed(pool, stop=stop, disowned=disowned, on_change=lose_the_store)
    assert progress.n_blocks == 3
    assert progress.was_stopped
    assert len(pool.ready[0].in_flight) == 1  # its actor finds the store another's before it publishes


def test_scan_whose_actor_finds_the_store_another_s_stops(feed):
    def answer(actor, together):
        is_third = together[0].i_block == 2
        return Failed(together[0], actor, LeaseError("taken")) if is_third else finished(together[0])

    disowned = threading.Event()
    progress = feed(FakePool(answer), stop=threading.Event(), disowned=disowned)
    assert disowned.is_set()
    assert (progress.n_blocks, progress.was_stopped, progress.failed) == (2, True, {})


def test_scan_that_was_stopped_for_long_looks_whether_the_store_is_still_its_own(feed, monkeypatch):
    monkeypatch.setattr(feeding, "HEARTBEAT_S", 0.05)
    slept = []

    def sleep_once(progress):
        if progress.n_blocks == 3 and not slept:
            slept.append(time.sleep(0.1))

    disowned = threading.Event()
    progress = feed(
        FakePool(lambda actor, together: finished(together[0])),
        stop=threading.Event(),
        disowned=disowned,
        on_change=sleep_once,
    )
    assert disowned.is_set()
    assert progress.n_blocks == 3


@pytest.mark.parametrize("depth", [2, 4])
def test_no_more_blocks_are_in_flight_per_actor_than_it_takes(feed, depth):
    most = []

    def watch(actor, together):
        most.append(len(together))
        return finished(together[0])

    pool = FakePool(watch, n_actors=2)
    pool.depth = depth
    feed(pool)
    assert max(most) == depth
