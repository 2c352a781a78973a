"""What a substitution changes in a trunk, and nothing else, for the substitutions of many windows at once.

One base changes a few positions of each layer: those that see it. Each layer's values of the sequence as it
is are computed once, for all windows of a stretch together. Every substitution has a strip of each layer,
with the values before and after it. An unpadded convolution is linear: the change of its output is what it
makes of the change of its input alone, which takes about half the products that a strip of it would.

Values are (..., positions, channels) in memory, as in `tism_scan.engine.layers`.

References
----------
Nair, Shrikumar, Schreiber, Kundaje, "fastISM: performant in silico saturation mutagenesis for convolutional
neural networks", Bioinformatics 38, 2397 (2022).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tism_scan.engine.head import Product
from tism_scan.engine.layers import Convolution, Layer, Pointwise, Pooling


@dataclass(frozen=True)
class Strips:
    """Values before and after substitutions, at the positions of one layer that these change.

    Attributes
    ----------
    starts : int64 (n,)
        The first of the positions, counted from the window's first.
    before, after : float (n, w, C)
    """

    starts: Tensor
    before: Tensor
    after: Tensor


class Trunk:
    """A stack of unpadded layers, ready to follow substitutions through it.

    Parameters
    ----------
    layers : list of Layer
    counts : list of int
        Positions of a window in the input and in each layer's output.
    """

    def __init__(self, layers: list[Layer], counts: list[int]) -> None:
        self.layers, self.counts = layers, counts
        self._taps = [_taps(layer) for layer in layers]

    def values(self, X: Tensor) -> list[Tensor]:
        """Return the input and each layer's output, (N, positions, C), of sequences (N, 4, L)."""
        values = [X.transpose(1, 2).contiguous()]
        for layer in self.layers:
            values.append(_output(layer, values[-1]))
        return values

    def strips(
        self, values: list[Tensor], firsts: list[Tensor], channels: Tensor, positions: Tensor
    ) -> Strips:
        """Return what substitutions change at the top of the trunk.

        Parameters
        ----------
        values : list of float (P, C)
            From `values`, of one stretch, or of several one after the other.
        firsts : list of int64 (n,)
            In each of them, where the window of each substitution begins.
        channels, positions : int64 (n,)
            The base that each substitution puts in, and where in its window.
        """
        before = values[0][firsts[0] + positions].unsqueeze(1)
        after = functional.one_hot(channels, values[0].shape[1]).to(before.dtype).unsqueeze(1)
        strips = Strips(positions, before, after)
        for i, (layer, taps) in enumerate(zip(self.layers, self._taps, strict=True)):
            below, above = _Values(values[i], firsts[i]), _Values(values[i + 1], firsts[i + 1])
            if isinstance(layer, Pointwise):
                strips = Strips(strips.starts, _output(layer, strips.before), _output(layer, strips.after))
            elif taps is not None:
                strips = _convolved(strips, taps, layer.kernel, above, self.counts[i + 1])
            else:
                strips = _strided(strips, layer, below, above, self.counts[i + 1])
        return strips


@dataclass(frozen=True)
class _Values:
    """One layer's values, (P, C), and where in them each substitution's window begins, (n,)."""

    values: Tensor
    firsts: Tensor

    def around(self, starts: Tensor, width: int) -> Tensor:
        """Return some positions of each window, (n, width, C); what is past the end is of no use."""
        index = (self.firsts + starts)[:, None] + torch.arange(width, device=starts.device)
        return self.values[index.clamp_(max=len(self.values) - 1)]


def _convolved(strips: Strips, taps: Product, kernel: int, above: _Values, n_positions: int) -> Strips:
    """Return the strips above a convolution of stride 1, from the change below it."""
    change = strips.after - strips.before
    n, width, _ = change.shape
    products = taps(change.flatten(0, 1)).view(n, width, kernel, -1)
    spread = products.new_zeros((n, width + kernel - 1, products.shape[3]))
    for i_tap in range(kernel):
        first = kernel - 1 - i_tap
        spread[:, first : first + width] += products[:, :, i_tap]
    starts = strips.starts - (kernel - 1)
    if bool((starts < 0).any()) or bool((starts + spread.shape[1] > n_positions).any()):
        starts, spread = _within(starts, spread, n_positions)
    before = above.around(starts, spread.shape[1])
    return Strips(starts, before, before + spread)


def _within(starts: Tensor, spread: Tensor, n_positions: int) -> tuple[Tensor, Tensor]:
    """Return changes (n, w, C) without what is before a window's first position or past its last."""
    width = min(spread.shape[1], n_positions)
    clamped = starts.clamp(0, n_positions - width)
    padded = functional.pad(spread, (0, 0, width, width))
    index = (clamped - starts + width)[:, None] + torch.arange(width, device=starts.device)
    rows = torch.arange(len(spread), device=starts.device)[:, None]
    return clamped, padded[rows, index.clamp(0, padded.shape[1] - 1)]


def _strided(strips: Strips, layer: Layer, below: _Values, above: _Values, n_positions: int) -> Strips:
    """Return the strips above any layer, from whole inputs of the outputs that change."""
    n_changed = strips.before.shape[1]
    width = min((n_changed + layer.kernel - 2) // layer.stride + 1, n_positions)
    firsts = (strips.starts - layer.kernel + layer.stride).div(layer.stride, rounding_mode="floor")
    firsts = firsts.clamp(0, n_positions - width)
    n_inputs = (width - 1) * layer.stride + layer.kernel
    after = below.around(firsts * layer.stride, n_inputs + n_changed)
    # what is past the end feeds no output, and is cut off again
    at = (strips.starts - firsts * layer.stride).clamp(max=n_inputs)
    put(after, strips.after, at)
    return Strips(firsts, above.around(firsts, width), _output(layer, after[:, :n_inputs].contiguous()))


def put(values: Tensor, strips: Tensor, starts: Tensor) -> None:
    """Write strips (n, w, C) into values (n, P, C), each at a start of its own."""
    index = starts[:, None] + torch.arange(strips.shape[1], device=starts.device)
    values[torch.arange(len(values), device=starts.device)[:, None], index] = strips


def _taps(layer: Layer) -> Product | None:
    """Return the product of a convolution of stride 1 with its whole kernel, (C, kernel * C'), or None."""
    if not isinstance(layer, Convolution) or layer.stride != 1:
        return None
    weight = layer.weight[:, :, 0].permute(2, 0, 1)  # (kernel, C', C)
    return Product(weight.flatten(0, 1), None, torch.float32)


def _output(layer: Layer, h: Tensor) -> Tensor:
    """Return a layer's output, (N, P', C'), of (N, P, C), which stays as it is."""
    if isinstance(layer, Pointwise):
        output: Tensor = layer.function(h.clone())  # which may work in place
        return output
    if isinstance(layer, Pooling):
        n_positions = h.shape[1] // layer.kernel
        inputs = h[:, : n_positions * layer.kernel]
        groups = inputs.reshape(len(h), n_positions, layer.kernel, h.shape[2])
        return groups.amax(2) if layer.is_max else groups.mean(2)
    return layer.forward(h)[0]
