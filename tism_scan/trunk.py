"""A stack of unpadded layers: forward once over a long stretch, backward for many windows of it.

A trunk maps float (1, 4, L) to (1, C, positions). As nothing is padded, its positions over a stretch hold
the positions of every window in it whose start is a multiple of the trunk's stride. The backward pass goes
down layer by layer by hand: it needs of each layer only a factor that does not depend on window or track (the
derivative of a pointwise function, the places of pooling's maxima), and no graph is kept.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

# Half-open range of a layer's positions within one window.
Span = tuple[int, int]

_POINTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Tanh)
_IDLE = (nn.Dropout, nn.Identity)


class Layer(Protocol):
    """One layer of a trunk: output position i sees input positions ``[i * stride, i * stride + kernel)``."""

    @property
    def kernel(self) -> int:
        """Inputs that an output sees."""
        ...

    @property
    def stride(self) -> int:
        """Distance between outputs, in inputs."""
        ...

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, (1, C', P'), and the factor that `backward` needs, (C, P), or None."""
        ...

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Span, below: Span) -> Tensor:
        """Return the gradient at a range of inputs from that at the outputs which these feed.

        Parameters
        ----------
        gradient : float (N, T, C', above)
            Of N windows and T tracks.
        factor : float (N, 1, C, len), optional
            Each window's part of the layer's factor.
        above, below : Span
            Ranges of the outputs given and the inputs asked for.

        Returns
        -------
        float (N, T, C, below)
        """
        ...

    def factor_span(self, above: Span) -> Span:
        """Return the range of the factor that goes with a range of outputs."""
        ...


@dataclass(frozen=True, eq=False)
class Convolution:
    """An unpadded convolution."""

    weight: Tensor
    bias: Tensor | None
    stride: int

    @property
    def kernel(self) -> int:
        """Length of the kernel."""
        return self.weight.shape[2]

    def forward(self, h: Tensor) -> tuple[Tensor, None]:
        """Return the output; a convolution is linear, and needs no factor."""
        return functional.conv1d(h, self.weight, self.bias, self.stride), None

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Span, below: Span) -> Tensor:
        """Return the gradient at the inputs, by the transposed convolution."""
        n, n_tracks = gradient.shape[:2]
        spread = functional.conv_transpose1d(gradient.flatten(0, 1), self.weight, stride=self.stride)
        spread = spread.view(n, n_tracks, *spread.shape[1:])
        return _cut(spread, above[0] * self.stride, below)

    def factor_span(self, above: Span) -> Span:
        """Return the range itself."""
        return above


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of each value by itself."""

    function: nn.Module
    kernel: int = 1
    stride: int = 1

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the derivative at the input."""
        if isinstance(self.function, nn.ReLU):
            output = functional.relu_(h)
            return output, (output > 0).to(h.dtype)[0]
        with torch.enable_grad():
            h = h.detach().requires_grad_()
            output = self.function(h)
            (derivative,) = torch.autograd.grad(output.sum(), h)
        return output.detach(), derivative[0]

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Span, below: Span) -> Tensor:
        """Return the gradient times the derivative."""
        return gradient if factor is None else gradient * factor

    def factor_span(self, above: Span) -> Span:
        """Return the range itself."""
        return above


@dataclass(frozen=True, eq=False)
class Pooling:
    """Max- or average-pooling whose stride is its kernel."""

    kernel: int
    is_max: bool

    @property
    def stride(self) -> int:
        """Distance between outputs, in inputs."""
        return self.kernel

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, and where each output's maximum stands; an average needs no factor."""
        if not self.is_max:
            return functional.avg_pool1d(h, self.kernel), None
        output, where = functional.max_pool1d(h, self.kernel, return_indices=True)
        return output, torch.zeros_like(h).scatter_(2, where, 1)[0]

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Span, below: Span) -> Tensor:
        """Return each output's gradient at its maximum, or shared among its inputs."""
        if factor is None:
            shares = gradient.new_full((self.kernel,), 1 / self.kernel)
        else:
            shares = factor.view(*factor.shape[:-1], -1, self.kernel)
        spread = (gradient.unsqueeze(-1) * shares).flatten(-2)
        return _cut(spread, above[0] * self.kernel, below)

    def factor_span(self, above: Span) -> Span:
        """Return the inputs of a range of outputs."""
        return above[0] * self.kernel, above[1] * self.kernel


def _cut(spread: Tensor, start: int, wanted: Span) -> Tensor:
    """Return a range of positions of a tensor that begins at `start`; zeros where it does not reach."""
    end = start + spread.shape[-1]
    missing = max(start - wanted[0], 0), max(wanted[1] - end, 0)
    spread = spread[..., max(wanted[0] - start, 0) : wanted[1] - start]
    return functional.pad(spread, missing) if any(missing) else spread


def trunk_layers(trunk: nn.Module) -> list[Layer] | None:
    """Return the layers of a trunk, or None if it has one that cannot be shared between windows."""
    if not isinstance(trunk, nn.Sequential):
        return None
    layers: list[Layer] = []
    for module in trunk:
        if isinstance(module, nn.Sequential):
            inner = trunk_layers(module)
            if inner is None:
                return None
            layers += inner
        elif isinstance(module, _IDLE):
            continue
        else:
            layer = _layer(module)
            if layer is None:
                return None
            layers.append(layer)
    return layers


def _layer(module: nn.Module) -> Layer | None:
    """Return one module as a layer, or None."""
    if isinstance(module, nn.Conv1d):
        is_plain = module.padding in (0, (0,), "valid") and module.dilation == (1,) and module.groups == 1
        return Convolution(module.weight, module.bias, module.stride[0]) if is_plain else None
    if isinstance(module, _POINTWISE):
        return Pointwise(module)
    if isinstance(module, nn.MaxPool1d | nn.AvgPool1d):
        kernel, stride = _int(module.kernel_size), _int(module.stride)
        is_plain = kernel == stride and _int(module.padding) == 0 and not module.ceil_mode
        is_max = isinstance(module, nn.MaxPool1d)
        if is_max and module.dilation not in (1, (1,)):
            return None
        return Pooling(kernel, is_max) if is_plain else None
    return None


def _int(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value


def total_stride(layers: list[Layer]) -> int:
    """Return the distance, in bp, between a trunk's positions."""
    stride = 1
    for layer in layers:
        stride *= layer.stride
    return stride


def n_positions(layers: list[Layer], n: int) -> list[int]:
    """Return the number of positions of the input and of each layer's output."""
    counts = [n]
    for layer in layers:
        counts.append((counts[-1] - layer.kernel) // layer.stride + 1)
    return counts


def cone(layers: list[Layer], n: int, start: int, end: int) -> list[Span]:
    """Return the range of positions, of the input and of each layer's output, fed by a range of the input.

    Parameters
    ----------
    layers : list of Layer
    n : int
        Length of a window.
    start, end : int
        The range of the input.
    """
    spans = [(start, end)]
    for layer, count in zip(layers, n_positions(layers, n)[1:], strict=True):
        first, last = spans[-1][0], spans[-1][1] - 1
        lowest = max(0, -(-(first - layer.kernel + 1) // layer.stride))
        spans.append((lowest, max(lowest, min(count, last // layer.stride + 1))))
    return spans


def forward(layers: list[Layer], X: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """Return a trunk's output, (1, C, positions), over a stretch, (1, 4, L), and each layer's factor."""
    h, factors = X, []
    for layer in layers:
        h, factor = layer.forward(h)
        factors.append(factor)
    return h, factors


def backward(
    layers: list[Layer],
    factors: list[Tensor | None],
    gradient: Tensor,
    spans: list[Span],
    windows: range,
    stride: int,
) -> Tensor:
    """Return the gradient at the bottom of a trunk from that at its top, for some windows.

    Parameters
    ----------
    layers, factors
        From `trunk_layers` and `forward`.
    gradient : float (N, T, C, len)
        At the top's range in `spans`, of each window and track.
    spans : list of Span
        From `cone`.
    windows : range
        Which windows of the stretch, N consecutive ones.
    stride : int
        Distance between windows, bp.

    Returns
    -------
    float (N, T, 4, len)
        At the input's range in `spans`.
    """
    steps = [stride]
    for layer in layers:
        steps.append(steps[-1] // layer.stride)
    for i in reversed(range(len(layers))):
        layer, factor = layers[i], factors[i]
        if factor is not None:
            # A pooling's factor stands at its inputs, whose step is the layer's below.
            step = steps[i]
            start, end = layer.factor_span(spans[i + 1])
            part = factor[:, start + windows.start * step : end + (windows.stop - 1) * step]
            factor = part.unfold(1, end - start, step).transpose(0, 1).unsqueeze(1)
        gradient = layer.backward(gradient, factor, spans[i + 1], spans[i])
    return gradient
