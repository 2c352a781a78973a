"""Blocks that take minutes at most, however slow a model is."""

from dataclasses import replace

import pytest
from scan_models import INPUT_BP, TRACKS, smooth_model
from sequences import random_sequence

import tism_scan as ts
from tism_scan.engine import sizing
from tism_scan.engine.sizing import LONGEST_BLOCK_S, SMALLEST_BLOCK_BP, fitting_block_bp
from tism_scan.errors import StoreError
from tism_scan.plan.scoring import Scoring

SCORING = Scoring(TRACKS, INPUT_BP, 6)
# Of one window of the model: a convolution of 20 positions, and a linear layer on its 6 channels.
FORWARD_FLOP = 2 * (20 * 6 * 4 * 5 + 6 * 20 * 5)
LARGE_BP = 1 << 20


@pytest.mark.parametrize("sharing", ["none", "trunk"])
@pytest.mark.parametrize("changes", [{}, {"strands": "both"}, {"path": (1, 0.5)}, {"tracks": TRACKS[:1]}])
def test_block_is_the_longest_that_takes_two_minutes(monkeypatch, sharing, changes):
    scoring = replace(SCORING, **changes)
    n_backward = {"none": 1, "trunk": 3}[
        sharing
    ]  # of which windows are 18 bp apart, and hold no other's core
    per_bp = FORWARD_FLOP * (1 + n_backward * len(scoring.tracks)) * scoring.n_gradients
    per_bp /= {"none": scoring.stride, "trunk": INPUT_BP}[sharing]
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", per_bp * 100_000 / LONGEST_BLOCK_S)
    assert fitting_block_bp(smooth_model(), scoring, sharing, LARGE_BP, on_gpus=False) == 1 << 16
    assert fitting_block_bp(smooth_model(), scoring, sharing, 1 << 15, on_gpus=False) == 1 << 15
    assert fitting_block_bp(smooth_model(), scoring, sharing, LARGE_BP, on_gpus=True) == LARGE_BP
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", 1.0)
    assert fitting_block_bp(smooth_model(), scoring, sharing, LARGE_BP, on_gpus=False) == SMALLEST_BLOCK_BP
    assert fitting_block_bp(smooth_model(), scoring, sharing, 60, on_gpus=False) == 60


def test_stack_keeps_the_length_that_suits_the_store(monkeypatch):
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", 1.0)
    assert fitting_block_bp(smooth_model(), SCORING, "stack", LARGE_BP, on_gpus=False) == LARGE_BP


def test_store_keeps_its_blocks_unless_another_length_is_asked_for(monkeypatch, tmp_path):
    (tmp_path / "genome.fa").write_text(f">chr1\n{random_sequence(60_000, seed=2)}\n")

    def planned(**settings):
        settings = {"stride": 6, "tracks": "0", "on_gpus": False} | settings
        return ts.plan_scan(tmp_path / "genome.fa", smooth_model(), **settings)

    first = planned()
    store = first.create_store(tmp_path / "s.zarr")
    assert store.plan.block_bp == first.plan.block_bp == 32_772
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", 1.0)
    later = planned()
    assert later.plan.block_bp == 4098
    assert later.create_store(tmp_path / "s.zarr").plan == store.plan
    assert later.create_store(tmp_path / "other.zarr").plan == later.plan
    with pytest.raises(StoreError, match="block_bp 32772, not 4098"):
        planned(block_bp=4098).create_store(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="stride 6, not 8"):
        planned(stride=8).create_store(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"path 1, not 1,0\.5") as caught:
        planned(path=(1, 0.5)).create_store(tmp_path / "s.zarr")
    assert "block_bp" not in str(caught.value)  # which nobody asked for
    assert later.create_store(tmp_path / "s.zarr", overwrite=True).plan == later.plan
