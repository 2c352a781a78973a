"""Blocks that are queued first, and whose scores are taken later."""

import numpy as np
import pytest
import torch
from scan_models import TRACKS, smooth_model

from tism_scan.engine.choice import make_engine
from tism_scan.engine.queue import Mark, to_device, to_host
from tism_scan.models.ensemble import Ensemble
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Block

N_BP = 120


def stretches(scoring):
    """Return three blocks of one chrom, as `Engine.queue` takes them."""
    codes = np.random.default_rng(1).integers(0, 5, N_BP).astype(np.uint8)
    for i, start in enumerate(range(0, N_BP, 40)):
        block = Block("chr1", i, start, start + 40)
        stretch = scoring.lattice.stretch(block, N_BP, scoring.stitch)
        part = np.full(stretch.end - stretch.start, 4, np.uint8)
        first, last = max(0, stretch.start), min(N_BP, stretch.end)
        part[first - stretch.start : last - stretch.start] = codes[first:last]
        wanted = np.random.default_rng(i).random(len(block)) < 0.8
        yield part, stretch, wanted


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("n_models", [1, 3])
def test_blocks_that_are_queued_together_have_the_scores_of_each_by_itself(device, stitch, n_models):
    models = [smooth_model(seed=seed) for seed in range(n_models)]
    model = models[0] if n_models == 1 else Ensemble(models)
    engine = make_engine(model, Scoring(TRACKS, 24, 8, stitch=stitch), device=device)
    blocks = list(stretches(engine.scoring))
    alone = [engine.score(*block) for block in blocks]
    queued = [engine.queue(*block) for block in blocks]
    together = [each.scores() for each in reversed(queued)]
    np.testing.assert_array_equal(together, alone[::-1])
    for each in queued:
        of_models = [end.seconds_since(began) for began, end in each.spans]
        assert len(of_models) == n_models
        assert min(of_models) > 0
        assert each.seconds() == sum(of_models)


def test_values_go_to_a_device_and_back(device):
    place = torch.device(device)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    values.setflags(write=False)  # as arrays from Ray are
    there = to_device(values, place)
    assert there.device.type == place.type
    came_back = to_host(there[:, 1:] + 1)
    Mark(place).wait()
    np.testing.assert_array_equal(came_back.numpy(), values[:, 1:] + 1)


def test_time_between_two_marks_is_that_of_what_was_queued_between_them(device):
    place = torch.device(device)
    large = torch.rand((1500, 1500), device=place)
    marks = [Mark(place)]
    for n in (1, 20):
        for _ in range(n):
            large @ large
        marks.append(Mark(place))
    marks[-1].wait()
    assert 0 < marks[1].seconds_since(marks[0]) < marks[2].seconds_since(marks[1])
