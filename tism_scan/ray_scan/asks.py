"""How far a block is that takes long: the actor that computes it is asked now and then."""

import time
from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import RayError

from tism_scan.ray_scan.actors import Actor, HowFar

ASK_EVERY_S = 5.0
LOOK_EVERY_S = 1.0  # a look takes time for every actor


class Asks:
    """Asks actors how far they are; one that ends a block every few seconds is never asked.

    Attributes
    ----------
    pending : dict of ObjectRef to Actor
        The questions that are not answered yet, at most one an actor.
    """

    def __init__(self) -> None:
        self.pending: dict[Any, Actor] = {}
        self._look_at = 0.0

    def ask(self, actors: Iterable[Actor]) -> None:
        """Ask those that were not heard of for long."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        asked = set(self.pending.values())
        for actor in actors:
            if actor.in_flight and now - actor.heard_at > ASK_EVERY_S and actor not in asked:
                self.pending[actor.handle.how_far.remote()] = actor

    def answer(self, ref: Any) -> HowFar | None:
        """Return what an actor says, or None if it works on nothing, or is lost: its blocks will tell."""
        actor = self.pending.pop(ref)
        actor.heard_at = time.monotonic()
        try:
            found = ray.get(ref)
        except RayError:
            return None
        return HowFar(*found) if found is not None and found[0] in actor.in_flight.values() else None

    def forget(self, actor: Actor) -> None:
        """Wait for no answer of an actor that is ended."""
        self.pending = {ref: each for ref, each in self.pending.items() if each is not actor}
