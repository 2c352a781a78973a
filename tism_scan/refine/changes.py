"""What a substitution changes in a trunk, and nothing else, for the substitutions of many windows at once.

One base changes a few positions of each layer: those that see it. Each layer's values of the sequence as it
is are computed once, for all windows of a stretch together. Every substitution has a strip of each layer,
with the values before it and their change. An unpadded convolution is linear: the change of its output is
what it makes of the change of its input alone, which takes about half the products that a strip of it would.
Changes are followed as such, not as differences of large values, so that rounding does not grow in them.

Values are (..., positions, channels) in memory, as in `tism_scan.engine.layers`.

References
----------
Nair, Shrikumar, Schreiber, Kundaje, "fastISM: performant in silico saturation mutagenesis for convolutional
neural networks", Bioinformatics 38, 2397 (2022).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.convolution import Convolution
from tism_scan.engine.head import Product
from tism_scan.engine.layers import Layer, Pointwise, Pooling
from tism_scan.engine.trunk import declared_parts, n_positions, put_strips, trunk_layers

# Substitutions that are followed together: on a CPU, more of them are no faster.
_MOST_ON_CPU = 256
_MOST_ON_GPU = 4096


@dataclass(frozen=True)
class Strips:
    """Values before substitutions, and what these add to them, at the positions of one layer that change.

    Attributes
    ----------
    starts : int64 (n,)
        The first of the positions, counted from the window's first; in order.
    before, change : float (n, w, C)
    within : tuple of int
        What no start is below, and none above: known without waiting for the device.
    """

    starts: Tensor
    before: Tensor
    change: Tensor
    within: tuple[int, int]


class Trunk:
    """A stack of unpadded layers, ready to follow substitutions through it.

    Parameters
    ----------
    layers : list of Layer
    counts : list of int
        Positions of a window in the input and in each layer's output.
    """

    def __init__(self, layers: list[Layer], counts: list[int]) -> None:
        self.layers, self.counts = [_halved(layer) for layer in layers], counts
        self._taps = [_taps(layer) for layer in layers]

    def bytes_per_substitution(self) -> int:
        """Return about how much memory a substitution holds at once on its way through the trunk."""
        width, channels, most = 1, 4, 0
        for layer, n_most in zip(self.layers, self.counts[1:], strict=True):
            n_below, n_products = width * channels, 0
            if isinstance(layer, Convolution):
                channels = layer.weight.shape[0]
                n_products = width * layer.kernel * channels
            width = min((width + layer.kernel - 2) // layer.stride + 1, n_most)
            most = max(most, 3 * n_below + n_products + 4 * width * channels)
        return 4 * most  # float32

    def most_at_once(self, device: torch.device, budget: float) -> int:
        """Return how many substitutions to follow together on a device, with a quarter of a budget, bytes."""
        most = _MOST_ON_GPU if device.type == "cuda" else _MOST_ON_CPU
        return max(1, min(most, int(budget / 4 / self.bytes_per_substitution())))

    def values(self, X: Tensor) -> list[Tensor]:
        """Return the input and each layer's output, (N, positions, C), of sequences (N, 4, L)."""
        values = [X.transpose(1, 2).contiguous()]
        for layer in self.layers:
            values.append(layer_output(layer, values[-1]))
        return values

    def strips(
        self,
        values: list[Tensor],
        firsts: list[Tensor],
        channels: Tensor,
        positions: Tensor,
        within: tuple[int, int],
    ) -> Strips:
        """Return what substitutions change at the top of the trunk.

        Parameters
        ----------
        values : list of float (P, C)
            From `values`, of one stretch, or of several one after the other.
        firsts : list of int64 (n,)
            In each of them, where the window of each substitution begins.
        channels, positions : int64 (n,)
            The base that each substitution puts in, and where in its window; positions are in order.
        within : tuple of int
            What no position is below, and none above.
        """
        before = values[0][firsts[0] + positions].unsqueeze(1)
        after = functional.one_hot(channels, values[0].shape[1]).to(before.dtype).unsqueeze(1)
        strips = Strips(positions, before, after - before, within)
        for i, (layer, taps) in enumerate(zip(self.layers, self._taps, strict=True)):
            below, above = _Values(values[i], firsts[i]), _Values(values[i + 1], firsts[i + 1])
            if isinstance(layer, Pointwise):
                strips = Strips(
                    strips.starts, *_pointwise(layer, strips.before, strips.change), strips.within
                )
            elif isinstance(layer, Convolution) and layer.stride == 1:
                strips = _convolved(strips, layer, taps, above, self.counts[i + 1])
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


def trunk_and_head(model: nn.Module, input_bp: int) -> tuple[Trunk, nn.Module]:
    """Return a model's trunk, for windows of a length, and its head.

    Raises
    ------
    ValueError
        If the model declares none.
    """
    parts = declared_parts(model)
    if parts is None:
        raise ValueError("the model declares no trunk with a head on it")
    layers = trunk_layers(parts[0]) or []
    return Trunk(layers, n_positions(layers, input_bp)), parts[1]


def _convolved(
    strips: Strips, layer: Convolution, taps: Product | None, above: _Values, n_positions: int
) -> Strips:
    """Return the strips above a convolution of stride 1, from the change below it."""
    reach = layer.kernel - 1
    if taps is None:
        image = strips.change.permute(2, 0, 1)[None]
        spread = functional.conv2d(image, layer.weight, padding=(0, reach))[0].permute(1, 2, 0)
    else:
        spread = _summed(taps(strips.change.flatten(0, 1)).view(*strips.change.shape[:2], layer.kernel, -1))
    starts, within = strips.starts - reach, (strips.within[0] - reach, strips.within[1] - reach)
    if within[0] < 0 or within[1] + spread.shape[1] > n_positions:
        starts, spread = _within(starts, spread, n_positions)
        within = _clamped(within, n_positions - spread.shape[1])
    return Strips(starts, above.around(starts, spread.shape[1]), spread, within)


def _clamped(within: tuple[int, int], highest: int) -> tuple[int, int]:
    """Return the bounds of starts that are clamped between 0 and the highest."""
    lowest, last = (min(max(bound, 0), highest) for bound in within)
    return lowest, last


def _summed(products: Tensor) -> Tensor:
    """Return a convolution's outputs, (n, w + kernel - 1, C'), of inputs' products (n, w, kernel, C')."""
    n, width, kernel, n_channels = products.shape
    outputs = products.new_zeros((n, width + kernel - 1, n_channels))
    for i_tap in range(kernel):
        first = kernel - 1 - i_tap
        outputs[:, first : first + width] += products[:, :, i_tap]
    return outputs


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
    lowest, highest = ((bound - layer.kernel + layer.stride) // layer.stride for bound in strips.within)
    within = _clamped((lowest, highest), n_positions - width)
    n_inputs = (width - 1) * layer.stride + layer.kernel
    change = strips.change.new_zeros((len(firsts), n_inputs + n_changed, strips.change.shape[2]))
    # what is past the end feeds no output, and is cut off again
    put_strips(change, strips.change, (strips.starts - firsts * layer.stride).clamp(max=n_inputs))
    change, before = change[:, :n_inputs], above.around(firsts, width)
    if isinstance(layer, Convolution):
        return Strips(firsts, before, layer_output(replace(layer, bias=None), change.contiguous()), within)
    if isinstance(layer, Pooling) and layer.is_max:
        inputs = _grouped(below.around(firsts * layer.stride, n_inputs), layer.kernel)
        highest_change = (_grouped(change, layer.kernel) + (inputs - before.unsqueeze(2))).amax(2)
        return Strips(firsts, before, highest_change, within)
    return Strips(firsts, before, _grouped(change, layer.kernel).mean(2), within)


def _pointwise(layer: Pointwise, before: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of values, and its change."""
    if isinstance(layer.function, nn.ReLU):
        return functional.relu(before), relu_change(before, change)
    output = layer_output(layer, before)
    return output, layer_output(layer, before + change) - output


def relu_change(before: Tensor, change: Tensor) -> Tensor:
    """Return the change of ReLU's output; where it stays on, it is that of the input, to the bit."""
    return torch.where(before > 0, torch.maximum(change, -before), functional.relu(before + change))


def _grouped(h: Tensor, kernel: int) -> Tensor:
    """Return values (N, P, C) in the groups that are pooled, (N, P', kernel, C); a rest is left out."""
    n_positions = h.shape[1] // kernel
    return h[:, : n_positions * kernel].reshape(len(h), n_positions, kernel, h.shape[2])


def _multiplies_padding(layer: Convolution) -> bool:
    """Return whether a device multiplies what is padded, too; the kernels of CPUs leave it out."""
    return layer.weight.is_cuda


def _taps(layer: Layer) -> Product | None:
    """Return the product with the whole kernel, (C, kernel * C'), where a strip's padding would cost more."""
    if not isinstance(layer, Convolution) or layer.stride != 1 or not _multiplies_padding(layer):
        return None
    weight = layer.weight[:, : layer.n_channels, 0].permute(2, 0, 1)  # (kernel, C', C)
    return Product(weight.flatten(0, 1), None, torch.float32)


def _halved(layer: Layer) -> Layer:
    """Return a layer with halved weights, where these compute its output in less time."""
    return layer.halved(is_backward_wanted=False) if isinstance(layer, Convolution) else layer


def layer_output(layer: Layer, h: Tensor) -> Tensor:
    """Return a layer's output, (N, P', C'), of (N, P, C), which stays as it is."""
    if isinstance(layer, Pointwise):
        if isinstance(layer.function, nn.ReLU):
            return functional.relu(h)
        output: Tensor = layer.function(h.clone())  # which may work in place
        return output
    if isinstance(layer, Pooling):
        groups = _grouped(h, layer.kernel)
        return groups.amax(2) if layer.is_max else groups.mean(2)
    return layer.forward(h)[0]
