"""Which actors are asked how far they are, and when: without a Ray that runs."""

from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError

from tism_scan.ray_scan import asks as asks_module
from tism_scan.ray_scan.actors import Actor, HowFar
from tism_scan.ray_scan.asks import ASK_EVERY_S, LOOK_EVERY_S, Asks


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(asks_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def actor_at(block, heard_at):
    """Return an actor that has had a block since then; what it is asked is its own name."""
    name = f"actor at {block}"
    handle = SimpleNamespace(how_far=SimpleNamespace(remote=lambda: name))
    return Actor(handle, name, {"call": block} if block else {}, heard_at=heard_at)


def test_only_actors_long_at_a_block_are_asked(clock):
    asks = Asks()
    slow = actor_at("slow", clock.now - ASK_EVERY_S - 1)
    asks.ask([slow, actor_at("quick", clock.now - 1), actor_at(None, 0)])
    assert asks.pending == {"actor at slow": slow}


def test_actor_is_asked_again_once_it_has_answered_and_not_sooner_than_before(clock, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda ref: ("slow", 0.25))
    asks, slow = Asks(), actor_at("slow", 0)
    asks.ask([slow])
    clock.now += 10 * ASK_EVERY_S
    asks.ask([slow])
    assert len(asks.pending) == 1
    assert asks.answer("actor at slow") == HowFar("slow", 0.25)
    for waited_s, is_asked in ((LOOK_EVERY_S, False), (ASK_EVERY_S, True)):
        clock.now += waited_s
        asks.ask([slow])
        assert bool(asks.pending) == is_asked


@pytest.mark.parametrize("found", [None, ("a block that has ended", 0.9), ActorDiedError()], ids=str)
def test_answer_that_is_of_no_block_in_flight_says_nothing(clock, monkeypatch, found):
    def get(ref):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(ray, "get", get)
    asks = Asks()
    asks.ask([actor_at("slow", 0)])
    assert asks.answer("actor at slow") is None


def test_answer_of_an_actor_that_is_ended_is_not_waited_for(clock):
    asks, slow, other = Asks(), actor_at("slow", 0), actor_at("other", 0)
    asks.ask([slow, other])
    asks.forget(slow)
    assert asks.pending == {"actor at other": other}
