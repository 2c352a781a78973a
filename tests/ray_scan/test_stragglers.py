import pytest

from tism_scan.plan.tiling import Block
from tism_scan.ray_scan.stragglers import Stragglers

A, B, C = (Block("c", i, 10 * i, 10 * i + 10) for i in range(3))


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def stragglers(clock):
    """Blocks have taken ten seconds so far; B and C are in flight since then, C for less long."""
    stragglers = Stragglers(clock)
    stragglers.give(A)
    clock.now = 10.0
    stragglers.end(A, is_done=True)
    stragglers.give(B)
    clock.now = 12.0
    stragglers.give(C)
    return stragglers


def test_block_is_late_after_twice_the_mean_time(stragglers, clock):
    clock.now = 30.0
    assert stragglers.latest([B, C]) is None
    clock.now = 30.3
    assert stragglers.latest([B, C]) == B


def test_latest_block_comes_first_and_each_once(stragglers, clock):
    clock.now = 99.0
    assert stragglers.latest([B, C]) == B
    stragglers.give(B)
    assert stragglers.latest([B, C]) == C
    stragglers.give(C)
    clock.now = 999.0
    assert stragglers.latest([B, C]) is None


def test_block_that_lost_its_second_worker_may_have_another(stragglers, clock):
    clock.now = 99.0
    stragglers.give(B)
    assert stragglers.latest([B]) is None
    stragglers.end_copy(B)
    clock.now += 0.3
    assert stragglers.latest([B]) == B


def test_block_that_ended_and_is_given_again_has_its_time_anew(stragglers, clock):
    clock.now = 99.0
    stragglers.end(B, is_done=False)
    stragglers.give(B)
    assert stragglers.latest([B]) is None
    clock.now = 99.0 + 20.1
    assert stragglers.latest([B]) == B


def test_nothing_is_late_before_it_is_known_how_long_blocks_take(clock):
    stragglers = Stragglers(clock)
    stragglers.give(A)
    clock.now = 1000.0
    assert stragglers.latest([A]) is None


def test_quick_blocks_are_given_a_second(clock):
    stragglers = Stragglers(clock)
    stragglers.give(A)
    stragglers.end(A, is_done=True)
    stragglers.give(B)
    clock.now = 1.0
    assert stragglers.latest([B]) is None
    clock.now = 1.3
    assert stragglers.latest([B]) == B


def test_after_a_look_in_vain_blocks_are_not_looked_through_for_a_while(stragglers, clock):
    assert stragglers.latest([B, C]) is None
    clock.now += 0.1
    looked_through = iter([B, C])
    assert stragglers.latest(looked_through) is None
    assert list(looked_through) == [B, C]
