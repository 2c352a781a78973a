"""What computes blocks, or other units of work, in a process of its own; what it needs is opened once."""

import contextlib
import ctypes
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.devices import default_device, name_of_device, why_not_usable
from tism_scan.errors import InputChangedError, ScanError, TismScanError
from tism_scan.genome.fasta import Genome
from tism_scan.models.contract import Model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.probe import check_windows_apart
from tism_scan.models.source import Source
from tism_scan.plan.tiling import Block
from tism_scan.scan.blocks import BlockReport, check_genome, check_scores, fetch_block, queue_block
from tism_scan.scan.execution import Execution
from tism_scan.scan.likeness import check_repeatable, difference_from
from tism_scan.scan.work import Plan, U, Work
from tism_scan.storage.places import Place
from tism_scan.storage.staging import staged
from tism_scan.storage.watched import stamp_of
from tism_scan.store.lease import Tenure
from tism_scan.store.score_store import ScoreStore
from tism_scan.version import __version__

# glibc's options, and what they are set to: memory is kept up to so many bytes, and larger arrays are not.
_KEPT = {-1: 256 << 20, -3: 32 << 20}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to start; a driver on another machine sends it.

    Attributes
    ----------
    store : Path or Url
    genome : Path
    model : ModelSource, GivenModel or EnsembleSource
    plan_digest : str
        Of the plan that the store must have been made under.
    tenure : Tenure or None
        The driver's ownership of the store; once it is over, nothing is published. None if nobody else can
        want the store.
    execution : Execution
    n_threads : int or None
        CPU threads for the model; as many as torch takes by itself, if None. Ray would leave an actor one.
    stage_folder : Path or None
        Where on the node's own disk a copy of the genome is kept; None reads it where it is.
    genome_stamp : tuple of int or None
        Of the file that the driver planned with, from `stamp_of_content`: a genome with another one here, or
        with None, is read, and its digest compared.
    version : str
        The driver's release of this package.
    """

    store: Place
    genome: Path
    model: Source
    plan_digest: str
    tenure: Tenure | None
    execution: Execution = field(default_factory=Execution)
    n_threads: int | None = None
    stage_folder: Path | None = None
    genome_stamp: tuple[int, int] | None = None
    version: str = __version__


E = TypeVar("E")
T = TypeVar("T")


class Worker(ABC, Generic[U, E]):
    """Turns the units of a work into published results; on Ray, the actor.

    A few threads may call `process` at once: the inputs of next units are fetched, and the results of earlier
    ones checked, compressed and written, while the model works on a thread of its own. As many units as there
    are callers wait for one another; there is no other queue. One more thread may call `abandon` and
    `how_far`. A subclass says which store it opens, with what it computes, and how it processes a unit.
    """

    store: Work[U]
    device = ""  # what markers say of what it computes on; see `Ledger.note_device`

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self._publishing = Publishing()
        self._computing: U | None = None
        self._model_thread = ThreadPoolExecutor(
            1, thread_name_prefix="model", initializer=_take_threads, initargs=(setup.n_threads,)
        )

    def start(self) -> None:
        """Load everything that a unit needs.

        Raises
        ------
        TismScanError
            If the store, the genome or the weights cannot be read here, or are others than the plan's, or if
            the driver runs another release of this package.
        """
        if self.setup.version != __version__:
            raise ScanError(
                f"tism-scan {__version__} is installed here, and {self.setup.version} where the scan was "
                "started; install the same"
            )
        work = self.open_store()
        plan = work.plan
        if plan.digest() != self.setup.plan_digest:
            raise ScanError(f"{self.setup.store} is another store here; mount the driver's")
        self.genome = self.open_genome(plan)
        self.engine = self._model_thread.submit(self.make_engine, plan).result()
        self.device = work.ledger.note_device(name_of_device(getattr(self.engine, "device", "cpu")))

    def start_on_node(self) -> str:
        """Start, and return this node's name.

        Raises
        ------
        ScanError
            As `start`; the node is named.
        """
        node = os.uname().nodename
        if self.setup.execution.device == "cuda":
            keep_freed_memory()
        try:
            self.start()
        except TismScanError as error:
            raise ScanError(f"on node {node}: {error}") from None
        return node

    def close(self) -> None:
        """Have the model's thread end once it is idle, and close the genome."""
        self._model_thread.shutdown(wait=False)
        if hasattr(self, "genome"):
            self.genome.close()

    def open_genome(self, plan: Plan) -> Genome:
        """Return the plan's genome, or a sound copy of it if one was asked for.

        Raises
        ------
        TismScanError
            If this node does not see the genome, or sees another one. Lengths alone do not tell them apart:
            the copies of hg38 that differ in what they mask share them all.
        """
        path, folder = self.setup.genome, self.setup.stage_folder
        genome = Genome(path if folder is None else staged(path, folder, plan.genome_digest))
        check_genome(genome, plan)
        if folder is None and genome.stamp != self.setup.genome_stamp:
            digest = genome.digest()
            if digest != plan.genome_digest:
                raise ScanError(
                    f"{genome.path} is another genome here, SHA-256 {digest[:12]}, expected "
                    f"{plan.genome_digest[:12]}; copy the driver's"
                )
        return genome

    def make_engine(self, plan: Plan) -> E:
        """Return the engine for a plan, made in the thread that will use it.

        Raises
        ------
        TismScanError
            If this node does not see the weights, or sees others, or the device cannot be used.
        """
        device = self.setup.execution.device
        reason = why_not_usable(device)
        if reason is not None:
            raise ScanError(
                f"device {device!r} cannot be used ({reason}); mend the driver, or install a build of "
                "PyTorch for it, or start Ray there with --num-gpus 0"
            )
        source = self.setup.model.at_hand(plan.weights_digest)
        before = [stamp_of(file) for file in source.files]
        if source.identity() != (plan.model, plan.weights_digest):
            raise ScanError(f"{self.setup.model} is another file here; copy the driver's")
        loaded = source.load()
        changed = [file for file, stamp in zip(source.files, before, strict=True) if stamp_of(file) != stamp]
        if changed:
            raise InputChangedError(
                f"{changed[0]} was changed while it was loaded; restore it, and run the same command again"
            )
        difference = difference_from(plan, loaded, device or default_device())
        if difference is not None:
            check_repeatable(loaded, source.load, plan.scoring.tracks)
            raise ScanError(
                f"{self.setup.model} computes something else here: {difference}; copy the driver's code"
            )
        check_windows_apart(loaded, self.setup.execution.batch_size, device or default_device())
        return self.engine_of(loaded, plan)

    @abstractmethod
    def open_store(self) -> Work[U]:
        """Return the driver's store, for writing in the driver's name; a subclass keeps it, too."""

    @abstractmethod
    def engine_of(self, model: Model, plan: Plan) -> E:
        """Return what computes a plan with its model."""

    @abstractmethod
    def process(self, block: U) -> BlockReport:
        """Compute a unit and publish it, unless `abandon` was called for it.

        Raises
        ------
        LeaseError
            If the store is not the driver's any more; nothing is published then.
        """

    def how_far(self) -> tuple[U, float] | None:
        """Return the unit that the model works on, and what share of it is done; None if it works on none."""
        unit = self._computing
        return None if unit is None else (unit, getattr(self.engine, "share_done", 0.0))

    def _computed(self, unit: U, compute: Callable[[], T]) -> T:
        """Return what is computed of a unit, in the model's thread."""

        def noted() -> T:
            self._computing = unit
            try:
                return compute()
            finally:
                self._computing = None

        return self._model_thread.submit(noted).result()

    def _publish(self, block: U, publish: Callable[[], None]) -> None:
        """Call what publishes a unit, and forget that it ever failed, unless `abandon` was called for it."""
        with self._publishing.of(block) as may_publish:
            if may_publish:
                publish()
                self.store.forget_failure(block)

    def abandon(self, block: U) -> None:
        """Return when this worker will not touch a unit's objects any more."""
        self._publishing.abandon(block)


class BlockWorker(Worker[Block, Engine]):
    """Turns blocks into published scores. A subclass may compute with another engine."""

    store: ScoreStore

    def open_store(self) -> ScoreStore:
        """Return the driver's store."""
        self.store = ScoreStore.open(self.setup.store, self.setup.tenure)
        return self.store

    def engine_of(self, model: Model, plan: Plan) -> Engine:
        """Return the engine that computes a plan with its model."""
        execution = self.setup.execution
        check_differentiable(model, model.input_bp, execution.device or default_device())
        return execution.engine(model, plan.scoring)

    def process(self, block: Block) -> BlockReport:
        """Compute a block and publish it, unless `abandon` was called for it.

        Raises
        ------
        LeaseError
            If the store is not the driver's any more; nothing is published then.
        """
        block_input = fetch_block(self.genome, self.store.plan, block)
        queued = self._computed(block, partial(queue_block, self.engine, block_input))
        scores = queued.scores()  # on this thread: the model's can give the device the next block
        check_scores(block_input, scores)
        self._publish(block, partial(self.store.publish_block, block, scores, self.device))
        return BlockReport(block, int(block_input.is_scored.sum()), queued.seconds())


def keep_freed_memory() -> None:
    """Have this process keep what it frees for its next arrays; where its C library is not glibc, do nothing.

    A block of one track is copied, compressed and written by way of arrays of 4 MB a Mb: to get new pages for
    each of them is a fifth of the time that the host of a GPU spends on it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, n_bytes in _KEPT.items():
            mallopt(option, n_bytes)


def _take_threads(n_threads: int | None) -> None:
    if n_threads is not None:
        torch.set_num_threads(n_threads)


class Publishing:
    """Keeps a worker from publishing a block that another has published.

    Two devices round differently, so the second result would replace the first, and a worker that is ended
    between the scores and their marker would leave scores that do not fit the first one's marker. So the
    loser gets `abandon` before it is ended.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now: set[Hashable] = set()
        self._abandoned: set[Hashable] = set()

    @contextlib.contextmanager
    def of(self, block: Hashable) -> Iterator[bool]:
        """Yield whether a block may be published, within this context and not later."""
        with self._changed:
            may_publish = block not in self._abandoned
            self._abandoned.discard(block)
            if may_publish:
                self._now.add(block)
        try:
            yield may_publish
        finally:
            with self._changed:
                self._now.discard(block)
                self._changed.notify_all()

    def abandon(self, block: Hashable) -> None:
        """Return when this worker will not touch a block's objects any more."""
        with self._changed:
            self._abandoned.add(block)
            self._changed.wait_for(lambda: block not in self._now)
