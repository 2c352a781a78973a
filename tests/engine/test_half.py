"""Forward passes in half precision, which a CPU imitates by rounding in the same places."""

import numpy as np
import pytest
import torch
from scan_models import blocks_scored_by
from torch import nn
from torch.nn import functional

from tism_scan.engine.half import HalfWeights
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.errors import PlanError
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

ONE_TRACK = (Track("a", (0,), (1.0,)),)
TRACKS = (*ONE_TRACK, Track("mean", (1, 3), (0.5, 0.5)))
CODES = np.random.default_rng(11).integers(0, 4, 5_010).astype(np.uint8)
RELATIVE_ERROR = {"split": 2e-5, "fp16": 2e-3}


def numbers(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", RELATIVE_ERROR)
@pytest.mark.parametrize("n_positions", [8, 9, 15, 16, 17, 50])
def test_convolution_in_half_precision_is_nearly_the_exact_one(kind, n_positions):
    h, weight, bias = numbers(1, n_positions, 5), numbers(7, 8, 5, seed=2) * 0.01, numbers(7, seed=3)
    exact = functional.conv1d(h.transpose(1, 2), weight.transpose(1, 2), bias).transpose(1, 2)
    found = HalfWeights(weight, bias, kind).convolve(h)
    assert found.shape == exact.shape
    assert 0 < (found - exact).abs().max() < RELATIVE_ERROR[kind] * exact.abs().max()


@pytest.mark.parametrize("kind", RELATIVE_ERROR)
def test_linear_layer_in_half_precision_is_nearly_the_exact_one(kind):
    features, weight = numbers(6, 4, 5), numbers(7, 4, 5, seed=2)
    exact = features.flatten(1) @ weight.flatten(1).t()
    half = HalfWeights(weight, None, kind)
    found = half.product(half.prepared(features).flatten(1))
    assert 0 < (found - exact).abs().max() < RELATIVE_ERROR[kind] * exact.abs().max()


@pytest.mark.parametrize("for_weights", [False, True])
def test_parts_add_up_to_float32_numbers_and_their_products_to_all_but_the_smallest(for_weights):
    half = HalfWeights(numbers(7, 1, 5), None, "split")
    half.is_imitated = False  # as on a GPU
    given = numbers(3, 5, seed=9)
    parts = half._in_parts(given, 1, for_weights=for_weights)
    assert parts.shape == (4, 15)
    assert parts.dtype == torch.bfloat16
    assert not parts[3].any()
    first, second, third = parts[:3].float().split(5, 1)
    high, again, low = (first, second, third) if for_weights else (first, third, second)
    assert torch.equal(high, again)
    assert torch.equal(high, given.bfloat16().float())
    assert (high + low - given).abs().max() < 2**-16 * given.abs().max()


def test_small_weights_keep_their_digits_in_float16():
    h, weight = numbers(1, 20, 5), numbers(7, 8, 5, seed=2) * 1e-6
    exact = functional.conv1d(h.transpose(1, 2).double(), weight.transpose(1, 2).double()).transpose(1, 2)
    scaled = HalfWeights(weight, None, "fp16")
    product = functional.conv2d(
        h.half().float().transpose(1, 2)[:, :, None], scaled.weight.permute(0, 2, 1)[:, :, None]
    )
    found = product[:, :, 0].transpose(1, 2).double() * scaled.inverse.double()
    assert (found - exact).abs().max() < 1e-3 * exact.abs().max()


def scores(model, precision, codes, *settings):
    engine = TrunkEngine(model, Scoring(*settings, precision=precision), device="cpu")
    return blocks_scored_by(engine, codes)


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize(("precision", "least"), [("split", 0.9999), ("fp16", 0.99)])
def test_scores_of_a_forward_pass_in_half_precision_agree_with_float32(
    narrow_beluga, precision, least, stitch
):
    exact, rounded = (
        scores(narrow_beluga, name, CODES, TRACKS, 2000, 256, stitch) for name in ("fp32", precision)
    )
    assert least < np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] < 1


class Loud(nn.Module):
    """Its second layer gives more than float16 holds, and only where there is an A."""

    input_bp, alphabet, n_outputs = 64, "ACGT", 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.trunk = nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 64, 8), nn.ReLU(), nn.Linear(8, 2))
        self.trunk[0].weight.data = 300.0 * torch.eye(4)[..., None]
        self.trunk[2].weight.data = 300.0 * torch.diag(torch.tensor([1.0, 0.1, 0.1, 0.1]))[..., None]

    def forward(self, X):
        return self.head(self.trunk(X))


def test_overflow_of_float16_is_nan_and_no_number():
    codes = np.full(640, 1, np.uint8)
    codes[300] = 0
    exact, rounded = (scores(Loud(), name, codes, ONE_TRACK, 64, 16) for name in ("fp32", "fp16"))
    assert np.isfinite(exact).all()
    is_lost = np.isnan(rounded[0])
    assert is_lost[300]
    assert 16 <= is_lost.sum() <= 80  # the cores of the windows that see it
    assert not is_lost[:200].any()
    assert not is_lost[400:].any()


def test_older_pytorch_on_a_gpu_is_refused_with_what_to_do(narrow_beluga, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.7.1+cu126")
    with pytest.raises(PlanError, match=r"'split' needs PyTorch 2\.8 or later on a GPU, and this is 2\.7\.1"):
        TrunkEngine(narrow_beluga, Scoring(ONE_TRACK, 2000, 256, precision="split"), device="cuda")
