"""A scan on Ray: one actor a GPU (or a few CPU cores), fed by a loop in the driver.

The loop keeps up to two blocks in flight per actor, replaces actors that die, adds actors when nodes join,
and gives a block up after it failed three times. An actor that dies with two blocks in flight does not tell
which of them killed it: both become suspects, and a suspect is computed alone.
"""

import collections
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from tism_scan.errors import ScanError, StorageFullError, TismScanError
from tism_scan.lease import Lease
from tism_scan.scan import BlockReport, check_genome, fetch_block, finish, score_block
from tism_scan.store import ScoreStore
from tism_scan.tiling import Block

IN_FLIGHT_PER_ACTOR = 2
MAX_ATTEMPTS = 3
MAX_LOSSES = 20
MAX_FAILED_STARTS = 3
DRAIN_S = 30.0
POLL_S = 0.5
CPUS_PER_ACTOR = 4
OBJECT_STORE_BYTES = 128 << 20  # blocks never pass through Ray's object store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSetup:
    """What an actor needs to start: paths are absolute, and the same on every node.

    Attributes
    ----------
    store, genome, weights : Path
    plan_digest : str
        What the store must have been made under.
    batch_size : int or None
    n_threads : int
        CPU threads for the model; Ray itself would leave an actor one.
    """

    store: Path
    genome: Path
    weights: Path
    plan_digest: str
    batch_size: int | None = None
    n_threads: int = 1


@dataclass(frozen=True)
class RayOptions:
    """Where to compute, and with how many actors.

    Attributes
    ----------
    address : str
        ``"local"`` starts Ray on this machine, ``"auto"`` joins the cluster that runs here, and
        ``"ray://host:port"`` one that runs elsewhere.
    n_actors : int or None
        As many as fit the cluster, if None.
    gpus_per_actor : float
        Share of a GPU that an actor takes, where there are GPUs.
    n_cpus, n_gpus : int or None
        What a local Ray may use; everything, if None.
    """

    address: str = "local"
    n_actors: int | None = None
    gpus_per_actor: float = 1.0
    n_cpus: int | None = None
    n_gpus: int | None = None


@dataclass
class Progress:
    """How far a scan is; one object, updated as it goes on.

    Attributes
    ----------
    n_blocks_total, n_bp_total : int
        Blocks that were pending when this run began, and their length.
    n_blocks, n_bp : int
        Blocks that this run finished, and their length.
    n_scored : int
        Bases of theirs that got a score.
    n_actors : int
        Actors that are ready.
    failed : dict of str to str
        The error of each block that was given up, by the block's interval.
    was_stopped : bool
        The run ended before everything was tried.
    """

    n_blocks_total: int = 0
    n_bp_total: int = 0
    n_blocks: int = 0
    n_bp: int = 0
    n_scored: int = 0
    n_actors: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    was_stopped: bool = False


class BlockWorker:
    """The actor: holds the model, and turns blocks into published scores.

    Ray calls `process` from two threads, so that one block's sequence is fetched and another's scores are
    written while the model works on a third thread of its own.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        import torch

        self.setup = setup
        self._model_thread = ThreadPoolExecutor(
            1, thread_name_prefix="model", initializer=torch.set_num_threads, initargs=(setup.n_threads,)
        )

    def start(self) -> str:
        """Load everything that a block needs, and return this node's name.

        Raises
        ------
        TismScanError
            If this node does not see the store, the genome or the weights; the node is named.
        """
        from tism_scan.beluga import load_beluga, weights_digest
        from tism_scan.engine import WindowEngine
        from tism_scan.genome import Genome

        node = os.uname().nodename
        try:
            self.store = ScoreStore.open(self.setup.store)
            plan = self.store.plan
            if plan.digest() != self.setup.plan_digest:
                raise ScanError(f"{self.setup.store} is another store here; mount the driver's")
            if weights_digest(self.setup.weights) != plan.weights_digest:
                raise ScanError(f"{self.setup.weights} is another file here; copy the driver's")
            self.genome = Genome(self.setup.genome)
            check_genome(self.genome, plan)
            model = load_beluga(self.setup.weights)
            self.engine = self._model_thread.submit(
                WindowEngine, model, plan.scoring, batch_size=self.setup.batch_size
            ).result()
        except TismScanError as error:
            raise ScanError(f"on node {node}: {error}") from None
        return node

    def process(self, block: Block) -> BlockReport:
        """Compute a block and publish it."""
        plan = self.store.plan
        block_input = fetch_block(self.genome, plan, block)
        scores, report = self._model_thread.submit(score_block, self.engine, plan, block_input).result()
        self.store.publish_block(block, scores)
        self.store.forget_failure(block)
        return report


def scan_on_ray(
    store: ScoreStore,
    genome: Path,
    weights: Path,
    *,
    options: RayOptions | None = None,
    batch_size: int | None = None,
    retry_failed: bool = False,
    break_lock: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Compute every pending block of a store on Ray's actors.

    SIGINT and SIGTERM end the scan cleanly: blocks in flight are finished if they need no longer than 30 s,
    and the rest stays pending. A second SIGINT ends it at once.

    Parameters
    ----------
    store : ScoreStore
        Made by `ScoreStore.create` in this process.
    genome, weights : Path
        The files of the store's plan, visible under the same path on every node.
    options : RayOptions, optional
    batch_size : int, optional
        Windows that go through the model together.
    retry_failed : bool
        Try blocks again that an earlier run gave up.
    break_lock : bool
        Take the store even if another process seems to write it.
    on_progress : callable, optional
        Called twice a second, and after each block.

    Returns
    -------
    Progress

    Raises
    ------
    LeaseError
        If another process is scanning into the store.
    StorageFullError
        If there is no room left; finished blocks are kept.
    ScanError
        If no actor can be started.
    """
    options = options or RayOptions()
    stop = threading.Event()
    with Lease(store.folder, on_lost=stop.set).acquire(break_lock=break_lock):
        progress = Progress()
        for block in store.pending(retry_failed=retry_failed):
            progress.n_blocks_total += 1
            progress.n_bp_total += len(block)
        if progress.n_blocks_total == 0:
            finish(store)
            return progress
        with _connected(options), _stopping_on_signals(stop):
            setup = WorkerSetup(
                store.path, genome.absolute(), weights.absolute(), store.plan.digest(), batch_size
            )
            pool = _ActorPool(setup, options)
            blocks = store.pending(retry_failed=retry_failed)
            loop = _Loop(pool, blocks, store, stop, progress, on_progress or (lambda _: None))
            try:
                loop.run()
            finally:
                pool.close()
        finish(store)
        return progress


@contextlib.contextmanager
def _connected(options: RayOptions) -> Iterator[None]:
    """Start or join a cluster, and leave it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns of a coming default; ours is set per actor, and not touched by it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address == "local":
        arguments |= {
            "num_cpus": options.n_cpus,
            "num_gpus": options.n_gpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    try:
        ray.init(address=options.address, **arguments)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ScanError(
            f"cannot reach a Ray cluster at {options.address!r} ({reason}); start one with `ray start`, or use "
            "--address local"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set an event at the first SIGINT or SIGTERM; a second SIGINT raises KeyboardInterrupt.

    Enter it after ``ray.init``, which takes SIGTERM for itself.
    """
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


@dataclass(eq=False)
class _Actor:
    """An actor's handle and its blocks in flight, oldest first."""

    handle: Any
    in_flight: dict[Any, Block] = field(default_factory=dict)


class _ActorPool:
    """Starts actors, as many as the cluster can hold, and knows which are ready."""

    def __init__(self, setup: WorkerSetup, options: RayOptions) -> None:
        self.options = options
        self.ready: list[_Actor] = []
        self.starting: dict[Any, _Actor] = {}
        self.n_failed_starts = 0
        resources = ray.cluster_resources()
        self.uses_gpus = resources.get("GPU", 0) > 0
        n_cpus = resources.get("CPU", 1)
        self.cpus_per_actor = n_cpus / options.n_actors if options.n_actors else min(CPUS_PER_ACTOR, n_cpus)
        if self.uses_gpus:
            needs: dict[str, float] = {"num_gpus": options.gpus_per_actor, "num_cpus": 0}
        else:
            needs = {"num_cpus": self.cpus_per_actor if self.cpus_per_actor < 1 else int(self.cpus_per_actor)}
        self.setup = replace(setup, n_threads=1 if self.uses_gpus else max(1, int(self.cpus_per_actor)))
        self._actor_class = ray.remote(BlockWorker).options(
            max_concurrency=IN_FLIGHT_PER_ACTOR,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
            **needs,
        )

    def n_wanted(self) -> int:
        """Return how many actors the cluster can hold now."""
        if self.options.n_actors:
            return self.options.n_actors
        resources = ray.cluster_resources()
        if self.uses_gpus:
            return max(1, int(resources.get("GPU", 0) / self.options.gpus_per_actor + 1e-9))
        return max(1, int(resources.get("CPU", 1) / self.cpus_per_actor))

    def grow(self, n_useful: int) -> None:
        """Start actors until there are as many as can be held, and can be of use."""
        while len(self.ready) + len(self.starting) < min(self.n_wanted(), n_useful):
            handle = self._actor_class.remote(self.setup)
            self.starting[handle.start.remote()] = _Actor(handle)

    def welcome(self, started: Any) -> None:
        """Take an actor into service, or raise if actors keep failing to start."""
        actor = self.starting.pop(started)
        try:
            log.info("an actor is ready on %s", ray.get(started))
        except RayTaskError as error:
            self.kill(actor)
            raise _cause(error) from None
        except RayActorError as error:
            self.kill(actor)
            self.n_failed_starts += 1
            log.warning("an actor did not start: %s", _first_line(error))
            if self.n_failed_starts >= MAX_FAILED_STARTS and not self.ready:
                raise ScanError(f"actors do not start ({_first_line(error)}); see Ray's logs") from None
        else:
            self.n_failed_starts = 0
            self.ready.append(actor)

    def kill(self, actor: _Actor) -> None:
        """End an actor; one that is merely out of reach must not live on."""
        if actor in self.ready:
            self.ready.remove(actor)
        ray.kill(actor.handle)

    def close(self) -> None:
        """End every actor."""
        for actor in [*self.ready, *self.starting.values()]:
            self.kill(actor)


class _Loop:
    """Feeds actors with blocks until none is left or a stop is asked for."""

    def __init__(
        self,
        pool: _ActorPool,
        blocks: Iterator[Block],
        store: ScoreStore,
        stop: threading.Event,
        progress: Progress,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.pool, self.blocks, self.store, self.stop = pool, blocks, store, stop
        self.progress, self.on_progress = progress, on_progress
        self.again: collections.deque[Block] = collections.deque()
        self.suspects: collections.deque[Block] = collections.deque()
        self.alone: set[Block] = set()
        self.n_attempts: collections.Counter[Block] = collections.Counter()
        self.n_losses: collections.Counter[Block] = collections.Counter()
        self.has_more = True

    def run(self) -> None:
        """Go on until every block is done or given up, or a stop is asked for."""
        stop_began = None
        while True:
            if self.stop.is_set():
                stop_began = stop_began or time.monotonic()
            else:
                self._feed()
            owners = {ref: actor for actor in self.pool.ready for ref in actor.in_flight}
            if not owners and (self.stop.is_set() or not self._has_blocks()):
                break
            if stop_began is not None and time.monotonic() - stop_began > DRAIN_S:
                log.warning("%d blocks in flight are dropped; they stay pending", len(owners))
                break
            waiting = [*owners, *self.pool.starting]
            finished, _ = ray.wait(waiting, num_returns=1, timeout=POLL_S)
            for ref in finished:
                self._receive(ref, owners.get(ref))
            self._report()
        self.progress.was_stopped = self.stop.is_set() and bool(self._has_blocks() or owners)
        self._report()

    def _has_blocks(self) -> bool:
        return bool(self.has_more or self.again or self.suspects)

    def _feed(self) -> None:
        """Give each actor what it can take."""
        if self._has_blocks():
            n_left = self.progress.n_blocks_total - self.progress.n_blocks - len(self.progress.failed)
            self.pool.grow(n_useful=n_left)
        for depth in range(IN_FLIGHT_PER_ACTOR):
            for actor in self.pool.ready:
                if len(actor.in_flight) == depth and self.alone.isdisjoint(actor.in_flight.values()):
                    block = self._next_block(is_idle=depth == 0)
                    if block is not None:
                        actor.in_flight[actor.handle.process.remote(block)] = block

    def _next_block(self, *, is_idle: bool) -> Block | None:
        """Return the block to be computed next, a suspect only for an actor that has nothing else."""
        if is_idle and self.suspects:
            block = self.suspects.popleft()
            self.alone.add(block)
            return block
        if self.again:
            return self.again.popleft()
        block_or_none = next(self.blocks, None) if self.has_more else None
        self.has_more = block_or_none is not None
        return block_or_none

    def _receive(self, ref: Any, actor: _Actor | None) -> None:
        """Take note of a finished call: an actor's start, or a block."""
        if actor is None:
            self.pool.welcome(ref)
            return
        if ref not in actor.in_flight:
            return  # its actor died in this very round
        try:
            report = ray.get(ref)
        except RayTaskError as error:
            block = actor.in_flight.pop(ref)
            cause = _cause(error)
            if isinstance(cause, StorageFullError):
                raise cause from None
            self._charge(block, _first_line(cause))
        except RayActorError as error:
            self._bury(actor, error)
        else:
            self._settle(actor.in_flight.pop(ref), report)

    def _settle(self, block: Block, report: BlockReport) -> None:
        """Count a finished block."""
        for record in (self.n_attempts, self.n_losses):
            record.pop(block, None)
        self.alone.discard(block)
        self.progress.n_blocks += 1
        self.progress.n_bp += len(block)
        self.progress.n_scored += report.n_scored
        log.info("%s: %d bases in %.1f s", block, report.n_scored, report.seconds)

    def _bury(self, actor: _Actor, error: RayActorError) -> None:
        """Replace a dead actor; blame a block only if it was the only one in flight and the node lives."""
        blocks = list(actor.in_flight.values())
        actor.in_flight.clear()
        self.pool.kill(actor)
        reason = _first_line(error)
        log.warning("an actor died (%s) with %s in flight", reason, ", ".join(map(str, blocks)) or "nothing")
        node_is_gone = "node" in str(error).lower() and "died" in str(error).lower()
        for block in blocks:
            if len(blocks) == 1 and not node_is_gone:
                self._charge(block, reason, is_suspect=True)
                continue
            self.alone.discard(block)
            self.n_losses[block] += 1
            if self.n_losses[block] >= MAX_LOSSES:
                self._give_up(block, reason, self.n_losses[block])
            elif node_is_gone:
                self.again.append(block)
            else:
                self.suspects.append(block)

    def _charge(self, block: Block, reason: str, *, is_suspect: bool = False) -> None:
        """Count a failed attempt; try again, or give the block up."""
        self.alone.discard(block)
        self.n_attempts[block] += 1
        log.warning("%s failed (attempt %d): %s", block, self.n_attempts[block], reason)
        if self.n_attempts[block] >= MAX_ATTEMPTS:
            self._give_up(block, reason, self.n_attempts[block])
        else:
            (self.suspects if is_suspect else self.again).append(block)

    def _give_up(self, block: Block, reason: str, n_attempts: int) -> None:
        self.store.mark_failed(block, reason, n_attempts)
        self.progress.failed[str(block)] = reason

    def _report(self) -> None:
        self.progress.n_actors = len(self.pool.ready)
        self.on_progress(self.progress)


def _cause(error: RayTaskError) -> Exception:
    """Return the error that a call in an actor ended with."""
    cause = error.cause
    return cause if isinstance(cause, TismScanError) else ScanError(_first_line(cause or error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    return text[:500] if isinstance(error, TismScanError) else f"{type(error).__name__}: {text[:500]}"
