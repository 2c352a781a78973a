"""Workers that go wrong on purpose; an actor imports them by name.

What a worker needs to know, or to tell, it finds in or writes to the folder that holds the store.
"""

import os
import time

import numpy as np
import ray
import torch
from ready_engine import ReadyEngine

from tism_scan.errors import StorageFullError
from tism_scan.genome.alphabet import is_acgt
from tism_scan.scan.worker import BlockWorker

ODD_BLOCK = 2
FOR_EVER_S = 3600  # a test that waits for it runs into its own limit


class CodesEngine(ReadyEngine):
    """Gives each base its own code as score, which any order of the blocks must reproduce."""

    def __init__(self, n_tracks):
        self.n_tracks = n_tracks

    def score(self, codes, stretch, wanted):
        own = codes[stretch.block.start - stretch.start :][: len(wanted)]
        scores = np.where(is_acgt(own) & wanted, own, np.float32(np.nan)).astype(np.float32)
        return np.tile(scores, (self.n_tracks, 1))


class QuickWorker(BlockWorker):
    """Computes next to nothing, and notes each attempt."""

    def make_engine(self, plan):
        self.note("threads", torch.get_num_threads())
        return CodesEngine(len(plan.scoring.tracks))

    def process(self, block):
        self.note("attempts", f"{block.i_block} {os.getpid()}")
        if block.i_block == ODD_BLOCK:
            self.meet_odd_block()
        return super().process(block)

    def meet_odd_block(self):
        pass

    def note(self, name, text):
        with open(self.setup.store.parent / name, "a") as file:
            file.write(f"{text}\n")

    def claim(self, name):
        """Return whether no other worker has claimed this yet."""
        try:
            (self.setup.store.parent / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class UnhurriedWorker(QuickWorker):
    def process(self, block):
        time.sleep(0.2)
        return super().process(block)


class RaisingWorker(UnhurriedWorker):
    def meet_odd_block(self):
        raise ValueError("no such luck\nand more lines")


class DyingWorker(QuickWorker):
    def meet_odd_block(self):
        os._exit(1)


class FullDiskWorker(QuickWorker):
    def meet_odd_block(self):
        raise StorageFullError("no room left to write it")


class SleepyWorker(QuickWorker):
    def meet_odd_block(self):
        time.sleep(FOR_EVER_S)


class SickOnceWorker(QuickWorker):
    """The first of these fails at every block, as a process with a broken CUDA context does."""

    def start(self):
        self.is_sick = self.claim("sick")
        return super().start()

    def process(self, block):
        if self.is_sick:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().process(block)


class BadNodeWorker(UnhurriedWorker):
    """The first of these finds itself on a node without the files."""

    def make_engine(self, plan):
        if self.claim("bad"):
            raise StorageFullError("nothing is mounted")
        return super().make_engine(plan)


class CrashingStartWorker(QuickWorker):
    def make_engine(self, plan):
        self.note("starts", os.getpid())
        os._exit(1)


class SlowBelugaWorker(BlockWorker):
    """Computes real scores, slowly enough to be killed in between, and notes its process.

    While there is a file ``hold`` with a number, it begins no block once so many are done.
    """

    def make_engine(self, plan):
        with open(self.setup.store.parent / "pids", "a") as file:
            file.write(f"{os.getpid()}\n")
        return super().make_engine(plan)

    def process(self, block):
        time.sleep(0.25)
        hold = self.setup.store.parent / "hold"
        while hold.exists() and len(self.store.done_blocks()) >= int(hold.read_text() or "0"):
            time.sleep(0.05)
        return super().process(block)


class MortalBelugaWorker(SlowBelugaWorker):
    """The first that meets the odd block dies of it."""

    def process(self, block):
        died = self.setup.store.parent / "died"
        if block.i_block == ODD_BLOCK and not died.exists():
            died.touch()
            os._exit(1)
        return super().process(block)


class SnailWorker(UnhurriedWorker):
    """The first of these never ends a block."""

    def start(self):
        self.is_slow = self.claim("snail")
        return super().start()

    def process(self, block):
        if self.is_slow:
            time.sleep(FOR_EVER_S)
        return super().process(block)


class Placed(BlockWorker):
    """Notes which of Ray's nodes, and which GPU, it has, and waits for its fellows if told of them."""

    def start(self):
        context = ray.get_runtime_context()
        gpus = ",".join(map(str, ray.get_gpu_ids())) or "-"
        with open(self.setup.store.parent / "places", "a") as file:
            file.write(f"{context.get_node_id()} {gpus}\n")
        return super().start()

    def process(self, block):
        told = self.setup.store.parent / "n_fellows"
        n_fellows = int(told.read_text()) if told.exists() else 1
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if len((self.setup.store.parent / "places").read_text().splitlines()) >= n_fellows:
                break
            time.sleep(0.05)
        return super().process(block)


class PlacedWorker(Placed, UnhurriedWorker):
    """Computes next to nothing."""


class PlacedBelugaWorker(Placed):
    """Computes real scores, slowly enough for all to have a part."""

    def process(self, block):
        time.sleep(0.1)
        return super().process(block)
