"""A refinement in a process of its own, which a test may kill."""

import time

import torch
from forking import processes

from tism_scan.refine import plan_refinement, refine
from tism_scan.store.score_store import ScoreStore


def refine_at(place, genome, weights, quantile):
    """Refine a store, or what is left of it, with a pause before each block in which it may be killed."""
    torch.set_num_threads(1)  # as in the test's own process, for the same bits
    planned = plan_refinement(ScoreStore.open(place), genome, weights, quantile=quantile)
    refine(planned, on_progress=lambda progress: time.sleep(0.2))


def started(*arguments):
    """Return a process that refines, already running."""
    process = processes.Process(target=refine_at, args=arguments)
    process.start()
    return process
