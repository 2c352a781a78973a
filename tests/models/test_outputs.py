"""Outputs for each position, what one of them is made of, and what they are called."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scan_models import blocks_scored_by
from torch import nn

from tism_scan.engine.choice import make_engine
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ModelError
from tism_scan.models.contract import loaded_model
from tism_scan.models.outputs import flat_outputs, names_of, reduced
from tism_scan.models.source import ModelSource
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

INPUT_BP = 60


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


# Each by a plain loop over the positions of one channel.
LOOPS = {
    "sum": sum,
    "mean": lambda z: sum(z) / len(z),
    "max": max,
    "wlogit": lambda z: sum(sigmoid(each) * each for each in z),
    "center:1": lambda z: z[(len(z) - 1) // 2],
    "center:4": lambda z: sum(z[(len(z) - 4) // 2 :][:4]) / 4,
}


@pytest.mark.parametrize("how", LOOPS)
@pytest.mark.parametrize("n_positions", [7, 8])
def test_one_output_is_made_of_all_positions_of_a_channel(how, n_positions):
    head = torch.randn(2, 3, n_positions, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = [[LOOPS[how](channel) for channel in window] for window in head.tolist()]
    np.testing.assert_allclose(reduced(head, how).numpy(), expected, rtol=1e-12)


def test_weight_of_a_logit_is_held_fixed_in_the_gradient():
    logits = torch.tensor([[[-9.0, 0.3, 2.0]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(reduced(logits, "wlogit").sum(), logits)
    torch.testing.assert_close(gradient, logits.detach().sigmoid())


def test_heads_without_positions_stay_as_they_are():
    flat, long = torch.randn(2, 4), torch.randn(2, 3, 5)
    torch.testing.assert_close(flat_outputs((flat, long), "sum"), torch.cat([flat, long.sum(2)], 1))


class Profile(nn.Module):
    """An output for each position of two channels; a trunk that windows share, and no stack."""

    input_bp, alphabet = INPUT_BP, "ACGT"

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.trunk = nn.Sequential(nn.Conv1d(4, 6, 5), nn.Tanh(), nn.Conv1d(6, 5, 3, dilation=4))
        self.head = nn.Conv1d(5, 2, 9)

    def forward(self, X):
        return self.head(self.trunk(X))


@pytest.mark.parametrize("path", [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize("how", LOOPS)
def test_engines_agree_on_what_is_made_of_all_positions(how, path):
    model = loaded_model(Profile(), "mine", reduction=how)
    assert model.n_outputs == 2
    scoring = Scoring((Track("a", (0,), (1.0,)), Track("b", (1,), (1.0,))), INPUT_BP, 10, "mean", path=path)
    codes = np.random.default_rng(3).integers(0, 4, 300).astype(np.uint8)
    engine = make_engine(model, scoring)
    assert isinstance(engine, SharedEngine)
    fast, slow = (blocks_scored_by(each, codes) for each in (engine, WindowEngine(model, scoring)))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-6 * np.abs(slow).max())


def test_outputs_that_are_not_reduced_are_called_by_channel_and_position():
    n = INPUT_BP - 4 - 8 - 8
    unnamed = loaded_model(Profile(), "mine")
    assert (unnamed.n_outputs, unnamed.output_names) == (2 * n, None)  # as stores of earlier releases have it
    named = Profile()
    named.output_names = ["donor", "acceptor"]
    assert loaded_model(named, "mine").output_names[n] == "acceptor@0"
    assert loaded_model(named, "mine", reduction="sum").output_names == ("donor", "acceptor")
    named.output_names = ["one", "two", "three"]
    with pytest.raises(ModelError, match=r"has 3 names in output_names for \d+ outputs; expected a list"):
        loaded_model(named, "mine")


def test_names_follow_keys_and_channels():
    y, z = torch.zeros(1, 2, 3), torch.zeros(1, 1)
    assert names_of({"p": y, "c": z}) == (*(f"p_{c}@{i}" for c in range(2) for i in range(3)), "c")
    assert names_of({"p": y, "c": z}, reduction="sum") == ("p_0", "p_1", "c")
    assert names_of([y, z], ["u", "v", "w"], "max") == ("u", "v", "w")
    assert names_of([{"c": z, "p": y}, {"c": z, "p": y}], reduction="sum") == (
        *("c_0", "p_0", "p_1"),
        *("c_1", "p_2", "p_3"),  # the second task's, beside its outputs
    )
    assert names_of({"a": torch.zeros(1, 2), "a_0": z}) == ("a_0 (0)", "a_1 (1)", "a_0 (2)")
    assert names_of({"a": {"b": z}, "c": z, "a_b": z}) == ("a_b_0", "c", "a_b_1")
    assert names_of({"two\nwords\t": z}) == ("two words",)
    assert names_of(z) is None
    assert names_of(torch.zeros(1, 2000, 1000)) is None  # two million names help nobody


@pytest.mark.parametrize("how", ["median", "center", "center:0", "center:x", "Sum", ""])
def test_unknown_reduction_is_refused_with_those_that_there_are(how):
    with pytest.raises(ModelError, match=r"is not known; expected one of sum, mean, max, wlogit, or center"):
        ModelSource("mine:f", reduction=how)


def test_reduction_that_does_not_fit_the_outputs_is_refused():
    with pytest.raises(
        ModelError, match=r"center:99 was asked for, and there are 40 positions; expected 40 or"
    ):
        loaded_model(Profile(), "mine", reduction="center:99")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4 * INPUT_BP, 2))
    with pytest.raises(ModelError, match="outputs have no positions for --reduce sum; leave"):
        loaded_model(flat, "mine", INPUT_BP, "ACGT", "sum")
    with pytest.raises(ModelError, match="model 'bpnet' has no outputs for each position that --reduce max"):
        ModelSource("bpnet", Path("weights.h5"), reduction="max").load()
