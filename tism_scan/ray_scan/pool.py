"""Ray's actors, and what becomes of the blocks that they are given.

Ray's errors end here: a block comes back finished, failed, or lost with its actor.
"""

import logging
import math
import re
import time
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from tism_scan.errors import ScanError, TismScanError
from tism_scan.progress import steps
from tism_scan.ray_scan.actors import Actor, Failed, Finished, HowFar, Lost
from tism_scan.ray_scan.asks import Asks
from tism_scan.ray_scan.cluster import RayOptions
from tism_scan.ray_scan.demand import Demand
from tism_scan.ray_scan.shares import share_of
from tism_scan.ray_scan.watch import ClusterWatch
from tism_scan.scan.result import reason_of
from tism_scan.scan.work import Unit
from tism_scan.scan.worker import BlockWorker, Worker, WorkerSetup

IN_FLIGHT_PER_ACTOR = 2
IN_FLIGHT_PER_GPU_ACTOR = 4  # a GPU ends a block sooner than the host has compressed and written another
ABANDON_S = 10.0
IDLE_S = 30.0
MAX_FAILED_STARTS = 3
LONGEST_PAUSE_S = 60.0  # before another actor is started where one failed; the first lasts two seconds
PATIENCE_S = 60.0

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

log = logging.getLogger(__name__)


class ActorPool:
    """Starts actors, as many as the cluster can hold, and gives them blocks.

    Parameters
    ----------
    setup : WorkerSetup
        For every actor; the device and the number of threads are set here, by the actor's share of a node.
    options : RayOptions
    worker_class : type of Worker
    has_small_blocks : bool
        Whether the results of a few blocks fit into a node's memory beside each other, whatever the node.

    Attributes
    ----------
    ready : list of Actor
        Those that can be given blocks.
    depth : int
        How many blocks an actor may have in flight.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        options: RayOptions,
        worker_class: type[Worker[Any, Any]] = BlockWorker,
        *,
        has_small_blocks: bool = False,
    ) -> None:
        self.options = options
        self.ready: list[Actor] = []
        self._starting: dict[Any, Actor] = {}
        self._owners: dict[Any, Actor] = {}
        self._asks = Asks()
        self._n_failed_starts = 0
        self._paused_until = 0.0
        self._waiting_since = time.monotonic()
        self._waits_for = ""
        self._abandoning: list[Any] = []
        self._n_started = 0
        self._cluster = ClusterWatch()
        self._share = share = share_of(options, self._cluster)
        self.depth = IN_FLIGHT_PER_ACTOR
        if share.is_of_gpus and has_small_blocks:
            self.depth = IN_FLIGHT_PER_GPU_ACTOR
        self._demand = Demand(share.resource, share.amount)
        # Ray hides no GPU from an actor that takes none, and a GPU that is lost must not go unnoticed.
        execution = replace(setup.execution, device=share.device, share=share.part_of_device)
        self._setup = replace(setup, n_threads=share.n_threads, execution=execution)
        self._actor_class: Any = ray.remote(worker_class).options(
            max_concurrency=self.depth + 1,  # one more to abandon a block, and to say how far another is
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
            **share.needs(),
        )

    @property
    def n_in_flight(self) -> int:
        """Number of blocks that actors have been given and not answered."""
        return len(self._owners)

    def grow(self, n_useful: int) -> None:
        """Start actors until there are as many as fit, and are of use."""
        n_actors = len(self.ready) + len(self._starting)
        if n_actors and time.monotonic() < self._paused_until:
            return
        for _ in range(n_actors, min(self._n_wanted(), n_useful)):
            handle = self._actor_class.remote(self._setup)
            self._starting[handle.start_on_node.remote()] = Actor(handle)
        if self._starting and not self.ready:
            waits_for = self._what_is_waited_for()
            if waits_for != self._waits_for:
                self._waits_for = waits_for
                steps.info(waits_for)

    def submit(self, actor: Actor, block: Unit) -> None:
        """Give an actor a block."""
        if not actor.in_flight:
            actor.heard_at = time.monotonic()
        ref = actor.handle.process.remote(block)
        actor.in_flight[ref] = block
        self._owners[ref] = actor

    def abandon(self, actor: Actor, block: Unit) -> None:
        """Have an actor not publish a block that another one has published."""
        self._abandoning.append(actor.handle.abandon.remote(block))

    def fit_cluster(self, n_useful: int) -> None:
        """Have a cluster that scales hold as many actors as are of use, and end those that are not."""
        if not self.options.max_actors:
            return
        self._demand.ask(int(min(self._n_most, n_useful)))
        n_spare = max(0, len(self.ready) - n_useful)
        now = time.monotonic()
        idle = [actor for actor in self.ready if not actor.in_flight and now - actor.heard_at > IDLE_S]
        for actor in idle[:n_spare]:
            log.info("actor %s has nothing left to do", actor.name)
            self._kill(actor)

    def wind_down(self) -> None:
        """Let a cluster that scales give nodes back: a request would outlive us if we are killed."""
        if not self._cluster.is_lost:
            self._demand.close()

    def wait(self, timeout_s: float) -> Finished | Failed | Lost | HowFar | None:
        """Return what became of one block or actor, or None if nothing did, or an actor became ready.

        Of a block that takes long, return now and then how far it is.

        Raises
        ------
        ScanError
            If no actor can be started, or the cluster is gone.
        """
        self._cluster.check()
        self._asks.ask(self.ready)
        refs = [*self._starting, *self._owners, *self._asks.pending]
        if not refs:
            time.sleep(timeout_s)
            return None
        finished, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
        if not finished:
            self._complain_of_waiting()
            return None
        (ref,) = finished
        if ref in self._starting:
            self._welcome(ref)
            return None
        if ref in self._asks.pending:
            return self._asks.answer(ref)
        return self._outcome(ref)

    def close(self) -> None:
        """End every actor, none while it publishes a block that was abandoned."""
        try:
            self.wind_down()
            if self._abandoning and not self._cluster.is_lost:
                ray.wait(self._abandoning, num_returns=len(self._abandoning), timeout=ABANDON_S)
        finally:
            self._abandoning.clear()
            for actor in [*self.ready, *self._starting.values()]:
                self._kill(actor)
            self._starting.clear()
            self._cluster.close()

    @property
    def _n_most(self) -> float:
        """How many actors there may be, whatever the cluster holds."""
        return min(self.options.n_actors or math.inf, self.options.max_actors or math.inf)

    def _n_wanted(self) -> int:
        """Return how many actors there should be now: as many as fit, or as `options` says."""
        if self.options.n_actors:
            return int(self._n_most)
        n_fitting = self._share.n_fitting(self._cluster.amounts(self._share.resource))
        return int(min(max(1, n_fitting), self._n_most))

    def _welcome(self, started: Any) -> None:
        """Take an actor into service, or raise if none starts."""
        actor = self._starting.pop(started)
        try:
            self._n_started += 1
            actor.name = f"{ray.get(started)}/{self._n_started}"
            actor.heard_at = time.monotonic()
            log.info("actor %s is ready", actor.name)
        except RayError as error:
            self._kill(actor)
            self._n_failed_starts += 1
            reason = _explained(error)
            log.warning("an actor did not start: %s", reason)
            if self.ready or self._starting:
                pause_s = min(2.0**self._n_failed_starts, LONGEST_PAUSE_S)
                self._paused_until = time.monotonic() + pause_s
            elif isinstance(error, RayTaskError):
                raise reason from None
            elif self._n_failed_starts >= MAX_FAILED_STARTS:
                raise ScanError(f"actors do not start ({reason}); see Ray's logs") from None
        else:
            self._n_failed_starts = 0
            self.ready.append(actor)
            if self._waits_for:
                self._waits_for = ""
                steps.info("computing the first blocks")

    def _outcome(self, ref: Any) -> Finished | Failed | Lost:
        actor = self._owners[ref]
        try:
            report = ray.get(ref)
        except RayTaskError as error:
            actor.n_failures_in_a_row += 1
            return Failed(self._take_back(ref), actor, _explained(error))
        except RayError as error:
            blocks = tuple(actor.in_flight.values())
            self._kill(actor)
            return Lost(blocks, str(_explained(error)), is_accident(error))
        actor.n_failures_in_a_row = 0
        return Finished(self._take_back(ref), report, actor)

    def _take_back(self, ref: Any) -> Unit:
        """Return the block of a call that was answered; a doubted actor ends with its last one."""
        actor = self._owners.pop(ref)
        block = actor.in_flight.pop(ref)
        actor.heard_at = time.monotonic()
        if actor.is_doubted and not actor.in_flight:
            log.warning("an actor failed %d times in a row; replacing it", actor.n_failures_in_a_row)
            self._kill(actor)
        return block

    def _kill(self, actor: Actor) -> None:
        """End an actor, even one that is only unreachable: it must not live on."""
        for ref in actor.in_flight:
            self._owners.pop(ref, None)
        actor.in_flight.clear()
        self._asks.forget(actor)
        if actor in self.ready:
            self.ready.remove(actor)
        if not self._cluster.is_lost:
            ray.kill(actor.handle)

    def _complain_of_waiting(self) -> None:
        """Say so if no actor finds a place for long."""
        if self.ready:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > PATIENCE_S:
            self._waiting_since = time.monotonic()
            log.warning("no actor is ready yet: %s", self._what_is_waited_for())

    def _what_is_waited_for(self) -> str:
        """Return why no actor is ready."""
        amounts = self._cluster.amounts(self._share.resource)
        if self._share.n_fitting(amounts):
            return "waiting for an actor to load the model"
        most = f"no node has more than {max(amounts):g}" if amounts else "none is in the cluster"
        return f"waiting for a node with {self._share}: {most}"


def is_accident(error: RayError) -> bool:
    """Return whether an actor was lost without its blocks having a part in it."""
    if not isinstance(error, ActorDiedError):
        return True
    return error.preempted or "its node has died" in str(error)


def _explained(error: RayError) -> TismScanError:
    """Return the error that a call in an actor ended with, as one of ours, one line long."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, TismScanError):
        return cause
    if isinstance(cause, ActorDiedError) and cause.actor_init_failed:
        # the end of a traceback, such as of a module missing on its node
        return ScanError(_ANSI_COLOUR.sub("", str(cause)).strip().splitlines()[-1].strip()[:500])
    return ScanError(_ANSI_COLOUR.sub("", reason_of(cause)))
