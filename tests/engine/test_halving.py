"""A convolution whose lengths are halved: the numbers of the plain one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tism_scan.engine.halving import HalvedConvolution
from tism_scan.engine.layers import Convolution, Passes


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
    halved = HalvedConvolution(layer, n_halvings)
    for length in range(kernel, kernel + 10):
        h = torch.randn(2, length, 3)
        found = halved.forward(h)[0]
        torch.testing.assert_close(found, layer.forward(h)[0], rtol=0, atol=2e-6)


def test_halving_rounds_no_more_than_the_plain_convolution():
    layer, h = layer_of(128, 128), torch.relu(torch.randn(1, 400, 128))
    expected = in_float64(layer, h)
    plain, halved = (
        (each.forward(h)[0] - expected).square().mean().sqrt() for each in (layer, HalvedConvolution(layer))
    )
    assert halved < 1.5 * plain


def test_narrow_strided_and_odd_kernels_stay_plain():
    assert HalvedConvolution.is_faster(layer_of(320, 320))
    others = [layer_of(4, 320), layer_of(320, 320, 7), layer_of(320, 320, stride=2)]
    assert not any(map(HalvedConvolution.is_faster, others))
