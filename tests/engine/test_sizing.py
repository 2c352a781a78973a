"""Blocks that take minutes at most, however slow a model is."""

from dataclasses import replace

import pytest
from scan_models import INPUT_BP, TRACKS, smooth_model
from sequences import random_sequence

import tism_scan as ts
from tism_scan.engine import sizing
from tism_scan.engine.sizing import LONGEST_BLOCK_S, SMALLEST_BLOCK_BP, fitting_block_bp
from tism_scan.errors import StoreError
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring

SCORING = Scoring(TRACKS, INPUT_BP, 8)
# Of one window of the model: a convolution of 20 positions, and a linear layer on its 6 channels.
FORWARD_FLOP = 2 * (20 * 6 * 4 * 5 + 6 * 20 * 5)
LARGE_BP = 1 << 20
HUMAN_BP = 3_100_000_000


def fitting(sharing, on_gpus=False, block_bp=LARGE_BP, scoring=SCORING, n_bp=HUMAN_BP):
    """Return the length of the blocks of a scan of a genome of one chrom."""
    plan = ScanPlan(scoring, "0" * 64, "1" * 64, {"chr1": n_bp}, {"chr1": ((0, n_bp),)}, block_bp=block_bp)
    return fitting_block_bp(smooth_model(), plan, sharing, on_gpus=on_gpus)


@pytest.mark.parametrize("sharing", ["none", "trunk"])
@pytest.mark.parametrize("changes", [{}, {"strands": "both"}, {"path": (1, 0.5)}, {"tracks": TRACKS[:1]}])
def test_block_is_the_longest_that_takes_two_minutes(monkeypatch, sharing, changes):
    scoring = replace(SCORING, **changes)
    # Windows of a pass over a trunk are 16 bp apart: none holds a base of another's core.
    n_backward = {"none": 1, "trunk": 2}[sharing]
    per_bp = FORWARD_FLOP * (1 + n_backward * len(scoring.tracks)) * scoring.n_gradients
    per_bp /= {"none": scoring.stride, "trunk": INPUT_BP}[sharing]
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", per_bp * 100_000 / LONGEST_BLOCK_S)
    assert fitting(sharing, scoring=scoring) == 1 << 16
    assert fitting(sharing, block_bp=1 << 15, scoring=scoring) == 1 << 15
    assert fitting(sharing, on_gpus=True, scoring=scoring) == LARGE_BP
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", 1.0)
    assert fitting(sharing, scoring=scoring) == SMALLEST_BLOCK_BP
    assert fitting(sharing, block_bp=64, scoring=scoring) == 64


def test_stack_on_cpus_keeps_the_length_that_suits_the_store(monkeypatch):
    monkeypatch.setattr(sizing, "FLOP_PER_S_ON_CPU", 1.0)
    assert fitting("stack") == LARGE_BP


@pytest.mark.parametrize(
    ("changes", "n_bp", "block_bp"),
    [
        ({"tracks": TRACKS[:1]}, HUMAN_BP, 4 << 20),
        ({"tracks": TRACKS[:1] * 4}, HUMAN_BP, 4 << 20),
        ({"tracks": TRACKS[:1] * 5}, HUMAN_BP, 2 << 20),
        ({"tracks": TRACKS[:1] * 16}, HUMAN_BP, LARGE_BP),
        ({"tracks": TRACKS[:1] * 100}, HUMAN_BP, LARGE_BP),
        ({"tracks": TRACKS[:1], "values": "tism"}, HUMAN_BP, 4 << 20),
        ({"tracks": TRACKS[:1] * 2, "values": "tism"}, HUMAN_BP, 2 << 20),
        ({"tracks": TRACKS[:1], "path": (1, 0.75, 0.5, 0.25, 0.1)}, HUMAN_BP, 2 << 20),
        ({"tracks": TRACKS[:1]}, 100_000_000, 2 << 20),  # of which there are enough for several GPUs
        ({"tracks": TRACKS[:1]}, 10_000_000, LARGE_BP),
    ],
)
def test_stack_on_gpus_has_longer_blocks_where_they_are_quick(changes, n_bp, block_bp):
    scoring = replace(SCORING, **changes)
    assert fitting("stack", on_gpus=True, scoring=scoring, n_bp=n_bp) == block_bp
    assert fitting("stack", block_bp=1 << 23, on_gpus=True, scoring=scoring, n_bp=n_bp) == 1 << 23


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
