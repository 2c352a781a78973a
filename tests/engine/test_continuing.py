"""Every output that sees a base counted once: ``stitch="all"``."""

import numpy as np
import pytest
import torch
from scan_models import blocks_scored_by
from torch import nn

from tism_scan.engine.choice import make_engine
from tism_scan.engine.continuing import check_outputs_continue
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.tism import softened
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import PlanError
from tism_scan.genome.alphabet import is_acgt, one_hot
from tism_scan.models import Cropped
from tism_scan.models.contract import loaded_model
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

# 20 positions of 2 bp each, in the middle of 100 bp.
INPUT_BP, N_POSITIONS, STRIDE = 100, 20, 40
TRACKS = (Track("a", (0,), (1.0,)), Track("mean", (1, 2), (0.5, 0.5)))
CODES = np.random.default_rng(8).integers(0, 4, 360).astype(np.uint8)
CODES[70:75] = CODES[200] = 4


class Profile(nn.Module):
    """Two outputs a position from a dilated network that pads with zeros, without what padding reaches."""

    input_bp, alphabet = INPUT_BP, "AGCT"

    def __init__(self, crop=15, head=None):
        super().__init__()
        torch.manual_seed(4)
        body = nn.Sequential(
            nn.Conv1d(4, 6, 3, padding=1),
            nn.Tanh(),
            nn.Conv1d(6, 6, 3, padding=4, dilation=4),
            nn.ELU(),
            nn.AvgPool1d(2),
        )
        self.trunk = Cropped(body, crop, crop)
        self.head = head or nn.Conv1d(6, 3, 1)

    def forward(self, X):
        return self.head(self.trunk(X))


class Unshared(Profile):
    """The same without saying what windows share."""

    def __init__(self):
        super().__init__()
        self.body, self.last = self.trunk, self.head
        del self.trunk, self.head

    def forward(self, X):
        return self.last(self.body(X))


def scoring_of(**choices):
    return Scoring(TRACKS, INPUT_BP, **{"stride": STRIDE, "stitch": "all", **choices})


def gradient_of_all_outputs(reduction, path):
    """Return TISM, (T, 4, L), of all outputs of a chrom together, from one pass over the whole of it."""
    body, flank = Profile(), (INPUT_BP - STRIDE) // 2
    codes = np.pad(CODES, flank, constant_values=4)
    X = torch.tensor(one_hot(codes, body.alphabet)[None])
    weights = body(X)[0].detach().sigmoid() if reduction == "wlogit" else torch.tensor(1.0)
    found = []
    for track in TRACKS:
        value, points = 0, [softened(X, s).clone().requires_grad_() for s in path]
        for point in points:
            outputs = body(point)[0]
            assert outputs.shape[1] == len(CODES) // 2
            per_output = (weights * outputs).sum(1)
            value += per_output[list(track.outputs)] @ torch.tensor(track.weights)
        gradient = torch.stack(torch.autograd.grad(value, points)).mean(0)
        ours = gradient[0].numpy()[[body.alphabet.index(base) for base in "ACGT"], flank:-flank]
        found.append(ours - (ours * one_hot(CODES)).sum(0))
    return np.where(is_acgt(CODES), np.stack(found), np.nan)


@pytest.mark.parametrize("reduction", ["sum", "wlogit"])
@pytest.mark.parametrize("kind", [Profile, Unshared])
@pytest.mark.parametrize("path", [(1.0,), (1.0, 0.75, 0.5), (0.5,)])
def test_every_output_counts_once_with_the_weight_of_the_sequence_itself(path, kind, reduction):
    model = loaded_model(kind(), "m", reduction=reduction)
    engine = make_engine(model, scoring_of(values="tism", path=path))
    assert isinstance(engine, SharedEngine if kind is Profile else WindowEngine)
    expected = gradient_of_all_outputs(reduction, path)
    scores = blocks_scored_by(engine, CODES)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6 * np.nanmax(np.abs(expected)))


def test_neither_blocks_nor_strands_nor_kind_of_engine_change_what_is_counted():
    model, both = loaded_model(Profile(), "m", reduction="sum"), scoring_of(strands="both")
    whole = blocks_scored_by(WindowEngine(model, both), CODES)
    for block_bp in (STRIDE, 3 * STRIDE):
        scores = blocks_scored_by(SharedEngine(model, both, batch_size=3), CODES, block_bp=block_bp)
        np.testing.assert_allclose(scores, whole, rtol=0, atol=2e-6 * np.nanmax(np.abs(whole)))


def test_stack_of_layers_is_shared_as_well():
    model = loaded_model(Profile(), "m", reduction="sum")
    model.body.trunk = nn.Sequential(nn.Conv1d(4, 6, 61), nn.ReLU(), nn.AvgPool1d(2))
    model.body.head = nn.Conv1d(6, 3, 1)
    engine = make_engine(model, scoring_of())
    assert isinstance(engine, TrunkEngine)
    expected = blocks_scored_by(WindowEngine(model, scoring_of()), CODES)
    np.testing.assert_allclose(
        blocks_scored_by(engine, CODES), expected, rtol=0, atol=2e-6 * np.nanmax(np.abs(expected))
    )


@pytest.mark.parametrize("reduction", ["max", "mean", "center:1", None])
def test_outputs_that_are_not_added_up_cannot_be_counted(reduction):
    model = loaded_model(Profile(), "m", reduction=reduction)
    with pytest.raises(PlanError, match="stitch 'all' adds up a model's outputs of all positions; expected"):
        make_engine(model, scoring_of())


@pytest.mark.parametrize(("stride", "crop"), [(20, 15), (60, 15), (30, 15), (96, 1)])
def test_windows_whose_outputs_do_not_continue_each_other_are_refused(stride, crop):
    # At stride 20 each output would count twice, at 60 some would not; the last has what padding reaches.
    model = loaded_model(Profile(crop), "m", reduction="sum")
    n_positions = 50 - 2 * crop
    with pytest.raises(PlanError) as caught:
        check_outputs_continue(model, scoring_of(stride=stride))
    assert f"with stride {stride} the {n_positions} positions of a window do not go on" in str(caught.value)
    assert f"such as --stride {n_positions} for one base each" in str(caught.value)


def test_channel_is_compared_by_itself_however_small_it_is_beside_others():
    class Mixed(Profile):
        def forward(self, X):  # the last channel has what padding reaches, and is tiny
            padded = nn.functional.avg_pool1d(nn.functional.pad(X[:, 1:2, 30:70], (8, 8)), 17, 1)
            return torch.cat([super().forward(X)[:, :2], 1e-6 * padded[:, :, ::2]], 1)

    model = loaded_model(Mixed(), "m", reduction="sum")
    with pytest.raises(PlanError, match="positions of a window do not go on"):
        check_outputs_continue(model, scoring_of())


def test_probabilities_do_not_add_up():
    model = loaded_model(Profile(), "m", reduction="sum")
    with pytest.raises(PlanError, match="adds up logits, and the probability of a sum is no sum"):
        check_outputs_continue(model, scoring_of(output_space="probability"))


def test_track_of_a_whole_window_is_refused_and_one_with_positions_beside_it_is_not():
    class WithTotal(Profile):
        def forward(self, X):
            profile = super().forward(X)
            return {"total": profile.sum((1, 2))[:, None], "profile": profile}

    model = loaded_model(WithTotal(), "m", reduction="sum")
    track = Track("donor", (1,), (1.0,))
    check_outputs_continue(model, Scoring((track,), INPUT_BP, STRIDE, "all"))
    for outputs in ((0,), (0, 1)):
        total = Track("total", outputs, (1.0,) * len(outputs))
        with pytest.raises(PlanError, match="track 'total' is of a whole window"):
            check_outputs_continue(model, Scoring((track, total), INPUT_BP, STRIDE, "all"))


@pytest.mark.parametrize("stride", [2, 10, 40])
def test_one_position_can_be_compared_with_no_other(stride):
    class Pooled(Profile):
        def forward(self, X):
            return super().forward(X).mean(2, keepdim=True)

    model = loaded_model(Pooled(), "m", reduction="sum")
    with pytest.raises(PlanError, match="the 1 positions of a window do not go on"):
        check_outputs_continue(model, scoring_of(stride=stride))


def test_other_stitches_ask_for_nothing():
    model = loaded_model(Profile(), "m")
    check_outputs_continue(model, scoring_of(stitch="mean", stride=20))
