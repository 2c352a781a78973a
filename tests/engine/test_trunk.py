"""A trunk's layers, and the claim that a model is its head on its trunk."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tism_scan.engine import convolution as convolution_module
from tism_scan.engine.layers import Passes, Pooling
from tism_scan.engine.trunk import (
    are_alike,
    backward,
    cone,
    first_linear,
    forward,
    joined,
    trunk_layers,
)


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("function", [nn.ReLU(), nn.GELU(), nn.LeakyReLU()])
@pytest.mark.parametrize("pooling", [nn.MaxPool1d(4), nn.AvgPool1d(4)])
def test_shared_trunk_gives_the_output_of_its_modules_whatever_is_pooled_how(function, pooling):
    torch.manual_seed(2)
    trunk = nn.Sequential(nn.Conv1d(4, 5, 3), function, pooling, nn.Conv1d(5, 3, 2)).requires_grad_(False)
    X = numbers(1, 4, 99)
    for layers in (trunk_layers(trunk), joined(trunk_layers(trunk))):
        features, _ = forward(layers, X)
        torch.testing.assert_close(features.transpose(1, 2), trunk(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_outputs_are_alike_to_rounding_and_not_to_a_hundredth(scale):
    outputs = scale * numbers(2, 50)
    assert are_alike(outputs, outputs * (1 + 1e-6))
    assert not are_alike(outputs, outputs * 1.01)
    assert not are_alike(outputs, outputs + 0.01 * outputs.abs().max())
    assert not are_alike(outputs, outputs[:, :49])


def test_one_output_that_differs_makes_outputs_differ():
    outputs = numbers(2, 50)
    others = outputs.clone()
    others[1, 7] += 0.01
    assert not are_alike(outputs, others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_output_beside_a_large_one_that_differs_makes_outputs_differ(dtype):
    outputs = torch.tensor([[1000.0, 0.1]], dtype=dtype)
    assert are_alike(outputs, outputs * (1 + 1e-7))
    assert not are_alike(outputs, outputs * torch.tensor([1.0, 1.5], dtype=dtype))


@pytest.mark.parametrize(
    ("flatten", "is_found"), [(nn.Flatten(), True), (nn.Flatten(1, 2), True), (nn.Flatten(1, 1), False)]
)
def test_linear_layer_on_all_positions_is_found_behind_what_makes_one_row_of_them(flatten, is_found):
    head = nn.Sequential(flatten, nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    linear, rest = first_linear(head)
    assert (linear is head[1]) is is_found
    assert [*rest] == [*head][2:] if is_found else rest is head


@pytest.mark.parametrize("has_relu", [False, True])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_of_equal_maxima_the_first_gets_the_gradient_as_in_pytorch(kernel, has_relu):
    generator = torch.Generator().manual_seed(kernel)
    h = torch.randint(-1, 2, (1, 5, 26), generator=generator).float().requires_grad_()  # ties everywhere
    top = torch.randn((1, 5, 26 // kernel), generator=generator)
    expected = nn.functional.max_pool1d(h, kernel)
    expected = nn.functional.relu(expected) if has_relu else expected
    (gradient,) = torch.autograd.grad(expected, h, top)
    pooling = Pooling(kernel, is_max=True, has_relu=has_relu)
    output, factor = pooling.forward(h.detach().transpose(1, 2).contiguous())
    extent = (0, 26 // kernel)
    below = 0, extent[1] * kernel
    found = pooling.backward(top.transpose(1, 2)[None], factor.float()[None, None], extent, below)
    assert factor.dtype == torch.bool
    assert torch.equal(output.transpose(1, 2), expected)
    assert torch.equal(found[0].transpose(1, 2), gradient[:, :, : below[1]])


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)])
def test_first_convolution_takes_its_relu_with_it_where_that_is_faster(monkeypatch, has_bias, dtypes):
    torch.manual_seed(3)
    convolution = nn.Conv1d(4, 40, 8, bias=has_bias)
    trunk = nn.Sequential(convolution, nn.ReLU(), nn.Conv1d(40, 5, 3), nn.ReLU()).requires_grad_(False)
    passes, X = Passes(*dtypes), functional.one_hot(torch.arange(90) % 7 % 4, 4).float().t()[None]
    apart = joined(trunk_layers(trunk, passes))
    monkeypatch.setattr(convolution_module, "PASSES_APART", {"cpu"})
    together = joined(trunk_layers(trunk, passes))
    assert (len(apart), len(together)) == (4, 3)
    assert cone(together, 90, 20, 60) == [cone(apart, 90, 20, 60)[i] for i in (0, 2, 3, 4)]
    (features, factors), (expected, its_factors) = (forward(each, X, passes) for each in (together, apart))
    torch.testing.assert_close(features, expected)
    assert torch.equal(factors[0] > 0, its_factors[1] > 0)
    windows, extents = np.arange(3), cone(together, 70, 20, 60)
    top = numbers(3, 2, extents[-1][1] - extents[-1][0], 5).to(passes.backward)
    found = backward(together, factors, top, extents, windows, 4)
    torch.testing.assert_close(found, backward(apart, its_factors, top, cone(apart, 70, 20, 60), windows, 4))


def test_positions_that_feed_nothing_are_in_no_range_above_the_input():
    trunk = nn.Sequential(nn.Conv1d(4, 5, 3), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(5, 5, 2))
    layers = trunk_layers(trunk)
    assert cone(layers, 41, 0, 41)[:2] == [(0, 41), (0, 36)]  # of 39 positions, the last 3 are not pooled


@pytest.mark.parametrize("bias", [[0.0, 0.0, 0.0], [0.5, -1.0, 0.0]])
def test_bias_that_is_added_to_maxima_passes_on_what_it_does_below_them(monkeypatch, bias):
    """All numbers are small whole ones, so that maxima are shared, and many are 0 with their bias."""
    generator = torch.Generator().manual_seed(1)
    convolution = nn.Conv1d(4, 3, 2).requires_grad_(False)
    convolution.weight.copy_(torch.randint(-2, 3, convolution.weight.shape, generator=generator) / 2)
    convolution.bias.copy_(torch.tensor(bias))
    trunk = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool1d(4))
    X = functional.one_hot(torch.randint(0, 4, (401,), generator=generator), 4).float().t()[None]
    (expected, its_factors) = forward(joined(trunk_layers(trunk)), X)
    monkeypatch.setattr(convolution_module, "PASSES_APART", {"cpu"})
    below, pooling = joined(trunk_layers(trunk))
    features, factors = forward([below, pooling], X)
    assert below.bias is None
    torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(factors[1], its_factors[1])
    assert torch.equal(features == 0, expected == 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_maxima_with_their_bias_are_rounded_once(dtype):
    generator = torch.Generator().manual_seed(2)
    h, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((1, 400, 8), (8,)))
    expected = functional.relu(h.view(1, 100, 4, 8).amax(2) + bias)
    features, is_on = Pooling(4, is_max=True, has_relu=True).with_bias(bias).forward(h)
    assert torch.equal(features, expected)
    assert torch.equal(is_on.view(100, 4, 8).any(1), expected[0] > 0)
