"""One-dimensional layers that run channels-last."""

import pytest
import torch
from torch import nn
from toy_models import inputs

from tism_scan.models.channels_last import channels_last

X = torch.tensor(inputs(3))

LAYERS = {
    "plain": nn.Conv1d(4, 6, 5),
    "no bias": nn.Conv1d(4, 6, 5, bias=False),
    "strided": nn.Conv1d(4, 6, 5, stride=3, padding=2),
    "same": nn.Conv1d(4, 6, 5, padding="same"),
    "dilated": nn.Conv1d(4, 6, 3, dilation=2),
    "grouped": nn.Conv1d(4, 6, 3, groups=2),
    "circular": nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"),
    "pooled": nn.MaxPool1d(3),
    "pooled with overlap": nn.MaxPool1d(4, stride=2, padding=1),
    "pooled with the rest": nn.MaxPool1d(5, ceil_mode=True),
    "pooled with gaps": nn.MaxPool1d(2, dilation=3),
}


def _output_and_gradient(layer, x):
    x = x.clone().requires_grad_()
    output = layer(x)
    weights = torch.arange(output.numel()).reshape(output.shape) % 7 - 3
    return output.detach(), *torch.autograd.grad((output * weights).sum(), x)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("n", [1, 3])
def test_outputs_and_gradients_are_the_same(name, n):
    layer = LAYERS[name].requires_grad_(False)
    expected = _output_and_gradient(layer, X[:n])
    with channels_last():
        computed = _output_and_gradient(layer, X[:n])
    for ours, theirs in zip(computed, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_channels_stay_side_by_side_until_the_context_ends():
    x = X.repeat(1, 16, 8)
    layers = nn.Sequential(nn.Conv1d(64, 64, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(64, 32, 3))
    with channels_last():
        assert layers(x).stride()[1:] == (1, 32)
    assert layers(x).stride()[2] == 1


@pytest.mark.parametrize("x", [X[0], X.double()], ids=["no batch", "float64"])
def test_what_gains_nothing_is_left_alone(x):
    layer = nn.Conv1d(4, 6, 5, dtype=x.dtype).requires_grad_(False)
    expected = layer(x)
    with channels_last():
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
