"""Workers that log what they compute, for tests that interrupt them; an actor imports them by name.

A line of the log beside the store is ``begin BLOCK PID NODE`` or ``done BLOCK PID NODE``.
"""

import os
import time

import numpy as np
import ray
from ray_workers import CodesEngine

from tism_scan.genome.fasta import Genome
from tism_scan.refine import RefineWorker
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.worker import BlockWorker


class LoggingWorker(BlockWorker):
    """Computes real scores, and logs each block's begin and end."""

    pause_s = 0.1

    def process(self, block):
        self.log("begin", block)
        time.sleep(self.pause_s)
        report = super().process(block)
        self.log("done", block)
        return report

    def log(self, event, block):
        node = ray.get_runtime_context().get_node_id()[:8]
        line = f"{event} {block.chrom}.{block.i_block} {os.getpid()} {node}\n"
        with open(self.setup.store.parent / "log", "a") as file:
            file.write(line)


class LoggingRefineWorker(LoggingWorker, RefineWorker):
    """Computes exact ISM, and logs as its parent does."""


class CodesWorker(LoggingWorker):
    """Gives each base its code as score, and loads no model."""

    def make_engine(self, plan):
        return CodesEngine(len(plan.scoring.tracks))


class UnhurriedWorker(CodesWorker):
    pause_s = 0.4


class HeldWorker(CodesWorker):
    """Begins blocks, but ends none while there is a file ``hold`` beside the store."""

    pause_s = 0.05

    def make_engine(self, plan):
        hold, engine = self.setup.store.parent / "hold", super().make_engine(plan)

        class Held:
            def queue(self, codes, stretch, wanted):
                while hold.exists():
                    time.sleep(0.05)
                return engine.queue(codes, stretch, wanted)

        return Held()


class SlowNodeWorker(CodesWorker):
    """Is ten times slower on the node that is named in a file beside the store."""

    def process(self, block):
        slow = (self.setup.store.parent / "slow").read_text()
        if ray.get_runtime_context().get_node_id().startswith(slow):
            time.sleep(1.0)
        return super().process(block)


class IdleWorker(CodesWorker):
    """Neither computes nor stores anything: what is left is the driver's work."""

    def process(self, block):
        return BlockReport(block, len(block), 0.0)


def assert_scores_are_codes(store, scan):
    """Assert that a store holds the codes of its genome, as CodesEngine gives them."""
    with Genome(scan.genome) as genome:
        for chrom, length in store.plan.chroms.items():
            expected = genome.fetch(chrom, 0, length).astype(np.float32)
            np.testing.assert_array_equal(store.read_track(chrom, 0, length, 1), expected)
