"""Convolutions with halved weights: the numbers of the plain ones, and no bit that depends on the slab."""

import numpy as np
import pytest
import torch
from scan_models import blocks_scored_by
from torch import nn
from torch.nn import functional

from tism_scan.engine.convolution import Convolution
from tism_scan.engine.halving import HalvedWeights
from tism_scan.engine.layers import Passes
from tism_scan.engine.trunk import backward, cone, forward, halved, joined, trunk_layers
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track


def layer_of(n_in, n_out, kernel=8, **settings):
    torch.manual_seed(n_in)
    return Convolution.of(nn.Conv1d(n_in, n_out, kernel, **settings), Passes())


def in_float64(layer, h):
    bias = None if layer.bias is None else layer.bias.double()
    return functional.conv1d(h.double().transpose(1, 2), layer.weight[:, :, 0].double(), bias).transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "n_halvings"), [(2, 1), (6, 1), (4, 2), (8, 1), (8, 2), (8, 3)])
def test_halving_changes_no_output_whatever_the_length(kernel, n_halvings, bias):
    layer = layer_of(3, 5, kernel, bias=bias)
    weights = HalvedWeights(layer.weight, layer.bias, n_halvings)
    for length in range(kernel, kernel + 10):
        h = torch.randn(2, length, 3)
        torch.testing.assert_close(weights.convolve(h), layer.forward(h)[0], rtol=0, atol=2e-6)


def test_halving_rounds_no_more_than_the_plain_convolution():
    layer, h = layer_of(128, 128), torch.relu(torch.randn(1, 400, 128))
    expected = in_float64(layer, h)
    plain, halved = (
        (each.forward(h)[0] - expected).square().mean().sqrt() for each in (layer, layer.halved())
    )
    assert halved < 1.5 * plain


@pytest.mark.parametrize("below", [(0, 40), (3, 30), (-5, 44)])
def test_gradient_through_halved_weights_is_the_plain_one(below):
    layer, gradient = layer_of(128, 160), torch.randn(2, 3, 33, 160)
    plain, halved = (each.backward(gradient, None, (0, 33), below) for each in (layer, layer.halved()))
    torch.testing.assert_close(halved, plain, rtol=0, atol=1e-5)


def test_narrow_strided_and_odd_kernels_stay_plain():
    assert layer_of(320, 320).halved().backward_by is not None
    others = [layer_of(4, 320), layer_of(320, 320, 7), layer_of(320, 320, stride=2)]
    assert all(layer.halved() is layer for layer in others)


class Wide(nn.Module):
    """A trunk of two wide layers over one that is not."""

    alphabet, input_bp, n_outputs = "ACGT", 160, 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        first, second, third = (nn.Conv1d(n_in, 128, 8) for n_in in (4, 128, 128))
        self.trunk = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool1d(4), third, nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 2))

    def forward(self, X):
        return self.head(self.trunk(X))


@pytest.mark.parametrize(
    ("stride", "precision", "expected"),
    [
        (16, "fp32", [False, True, True]),
        (8, "fp32", [False, True, False]),
        (16, "mixed", [False, False, False]),
        (16, "bf16", [False, False, False]),
    ],
)
def test_layers_are_halved_in_float32_where_windows_begin_at_the_same_place(stride, precision, expected):
    scoring = Scoring((Track("a", (1,), (1.0,)),), Wide.input_bp, stride, precision=precision)
    layers = TrunkEngine(Wide(), scoring, device="cpu").layers
    found = [layer.backward_by is not None for layer in layers if isinstance(layer, Convolution)]
    assert found == expected


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("strands", ["forward", "both"])
def test_scores_of_wide_layers_are_those_of_windows_one_by_one(stitch, strands):
    model, codes = Wide(), np.random.default_rng(0).integers(0, 4, 600).astype(np.uint8)
    scoring = Scoring((Track("a", (1,), (1.0,)),), Wide.input_bp, 16, stitch, strands)
    found = blocks_scored_by(TrunkEngine(model, scoring, device="cpu"), codes)
    expected = blocks_scored_by(WindowEngine(model, scoring, device="cpu"), codes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_halving_changes_no_bit_of_a_window_wherever_it_stands_in_a_stretch():
    n_windows, length, stride = 9, 120, 16
    layers = halved(joined(trunk_layers(Wide().trunk[2:])), stride)
    X = torch.randn(1, 128, length + (n_windows - 1) * stride)
    features, factors = forward(layers, X)
    extents = cone(layers, length, 60, 60 + stride)
    top = torch.randn(n_windows, 1, extents[-1][1] - extents[-1][0], 128)
    gradients = backward(layers, factors, top, extents, np.arange(n_windows), stride)
    for first, last in ((0, 1), (2, 3), (3, 5), (5, 9)):
        part, of_part = forward(layers, X[..., first * stride : (last - 1) * stride + length])
        assert torch.equal(part, features[:, first * stride // 4 :][:, : part.shape[1]])
        found = backward(layers, of_part, top[first:last], extents, np.arange(last - first), stride)
        assert torch.equal(found, gradients[first:last])
