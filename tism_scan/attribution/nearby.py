"""Predictions of substitutions that compute only what a substitution can change.

Where a model is a head on a trunk of unpadded layers, one base changes a few positions of each layer: those
that see it. The trunk of the sequence as it is runs once; then each substitution runs through a strip of
every layer, wide enough for what it changes, with the sequence's own values beside it.

References
----------
Nair, Shrikumar, Schreiber, Kundaje, "fastISM: performant in silico saturation mutagenesis for convolutional
neural networks", Bioinformatics 38, 2397 (2022).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.attribution.layout import channels_last
from tism_scan.trunk import Convolution, Layer, Passes, Pointwise, Pooling, trunk_layers

# Below so many positions there is little to gain, and whole passes are rounded as those of other tools.
LEAST_POSITIONS = 32
# A strip is that much smaller than a whole pass, so that many more fit in a batch.
STRIPS_PER_PASS = 8

Read = Callable[[Tensor], Tensor]


class Nearby:
    """The strips of one model.

    Parameters
    ----------
    layers : list of Layer
        Of its trunk.
    head : torch.nn.Module
        From the trunk's output, (N, C, positions), to the model's. Where it begins with a linear layer on all
        positions, only the columns of those that change are multiplied.
    read : callable
        From the model's output to the tracks, (N, T).
    """

    def __init__(self, layers: list[Layer], head: nn.Module, read: Read) -> None:
        self.layers, self.read = layers, read
        self.linear, self.rest = _first_linear(head)

    def effects(self, x: Tensor, channels: Tensor, positions: Tensor, batch_size: int) -> Iterator[Tensor]:
        """Yield the effects (n, T) of substitutions in one sequence, (1, 4, L), batch by batch.

        Parameters
        ----------
        x : float (1, 4, L)
            One-hot.
        channels, positions : int64 (V,)
            The base that each substitution puts in, and where.
        batch_size : int
            Whole passes whose memory may be used.
        """
        with channels_last():
            values = [x]
            for layer in self.layers:
                values.append(_apply(layer, values[-1]))
            n_at_once = batch_size * STRIPS_PER_PASS
            for bases, at in zip(
                torch.split(channels, n_at_once), torch.split(positions, n_at_once), strict=True
            ):
                strips = functional.one_hot(bases, 4).to(x.dtype).unsqueeze(2)  # (n, 4, 1)
                starts, tops = self._strips(values, strips, at)
                outputs = self.read(self._read_strips(values[-1], tops, starts))
                yield outputs[1:] - outputs[:1]

    def _strips(self, values: list[Tensor], strips: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first changed position of the trunk's output, (n,), and the values there, (n, C, w)."""
        for layer, before, after in zip(self.layers, values, values[1:], strict=False):
            if isinstance(layer, Pointwise):
                strips = _apply(layer, strips)
                continue
            width = min((strips.shape[2] + layer.kernel - 2) // layer.stride + 1, after.shape[2])
            firsts = (starts - layer.kernel + layer.stride).div(layer.stride, rounding_mode="floor")
            firsts = firsts.clamp(0, after.shape[2] - width)
            n_inputs = (width - 1) * layer.stride + layer.kernel
            strips = _apply(layer, _widened(before, strips, starts, firsts * layer.stride, n_inputs))
            starts = firsts
        return starts, strips

    def _read_strips(self, whole: Tensor, strips: Tensor, starts: Tensor) -> Tensor:
        """Return the head's output, (1 + n, ...), of values (1, C, P) as they are, and with each strip."""
        if self.linear is None:
            output: Tensor = self.rest(_with_strips(whole, strips, starts))
            return output
        first, end = int(starts.min()), int(starts.max()) + strips.shape[2]
        part = whole[:, :, first:end]
        change = (_with_strips(part, strips, starts - first) - part).flatten(1)
        columns = self.linear.weight.view(-1, *whole.shape[1:])[:, :, first:end].flatten(1)
        hidden = torch.addmm(self.linear(whole.flatten(1)).expand(len(change), -1), change, columns.T)
        output = self.rest(hidden)
        return output


def nearby(model: nn.Module, x: Tensor, read: Callable[[Tensor], Tensor], outputs: Tensor) -> Nearby | None:
    """Return what computes strips of a model, or None if it is no head on a trunk of unpadded layers.

    Parameters
    ----------
    model : torch.nn.Module
    x : float (1, 4, L)
        An input, on which it is tried whether the model is what it declares.
    read : callable
        From the model's outputs to the tracks.
    outputs : float (1, T)
        The tracks of that input.
    """
    trunk, head = getattr(model, "trunk", None), getattr(model, "head", None)
    layers = trunk_layers(trunk, Passes(x.dtype, x.dtype)) if isinstance(trunk, nn.Module) else None
    if not layers or not isinstance(head, nn.Module) or any(each.stride > each.kernel for each in layers):
        return None

    again = read(head(trunk(x)))  # type: ignore[misc]
    scale = max(float(outputs.abs().max()), 1e-30)
    if again.shape != outputs.shape or not torch.allclose(again, outputs, rtol=1e-4, atol=1e-4 * scale):
        return None
    return Nearby(layers, head, read)


def _first_linear(head: nn.Module) -> tuple[nn.Linear | None, nn.Module]:
    """Return the linear layer on all positions that a head begins with, or None, and the rest of it."""
    modules = (
        [each for each in head if not isinstance(each, nn.Dropout)] if isinstance(head, nn.Sequential) else []
    )
    if len(modules) > 1 and isinstance(modules[0], nn.Flatten) and isinstance(modules[1], nn.Linear):
        return modules[1], nn.Sequential(*modules[2:])
    return None, head


def _apply(layer: Layer, h: Tensor) -> Tensor:
    """Return a layer's output."""
    if isinstance(layer, Convolution):
        return functional.conv1d(h, layer.weight.squeeze(2), layer.bias, layer.stride)
    if isinstance(layer, Pooling):
        pool = functional.max_pool1d if layer.is_max else functional.avg_pool1d
        return pool(h, layer.kernel)
    if isinstance(layer, Pointwise):
        value: Tensor = layer.function(h)
        return value
    raise TypeError(f"a trunk has no layer such as {type(layer).__name__}")


def _widened(whole: Tensor, strips: Tensor, starts: Tensor, firsts: Tensor, width: int) -> Tensor:
    """Return strips (n, C, w) at `starts` amid values (1, C, P): (n, C, width) at `firsts`."""
    n_changed = strips.shape[2]
    padded = functional.pad(whole[0], (0, n_changed))
    around = padded.unfold(1, width + n_changed, 1)[:, firsts].transpose(0, 1).contiguous()
    # what lies past the end feeds no output, and is cut off again
    offsets = (starts - firsts).clamp(max=width)
    index = offsets[:, None] + torch.arange(n_changed, device=offsets.device)
    around.scatter_(2, index[:, None].expand(-1, strips.shape[1], -1), strips)
    return around[:, :, :width]


def _with_strips(whole: Tensor, strips: Tensor, starts: Tensor) -> Tensor:
    """Return values (1 + n, C, P): as they are, and with each strip in its place."""
    each = whole.repeat(1 + len(strips), 1, 1)
    index = starts[:, None] + torch.arange(strips.shape[2], device=starts.device)
    each[1:].scatter_(2, index[:, None].expand(-1, strips.shape[1], -1), strips)
    return each
