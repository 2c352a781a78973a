"""Predictions of substitutions that compute only what a substitution can change.

Where a model is a head on a trunk of unpadded layers, one base changes a few positions of each layer: those
that see it. The trunk of the sequence as it is runs once; then each substitution runs through a strip of
every layer, wide enough for what it changes, with the sequence's own values beside it. As in
`tism_scan.engine.layers`, values are (..., positions, channels) in memory.

References
----------
Nair, Shrikumar, Schreiber, Kundaje, "fastISM: performant in silico saturation mutagenesis for convolutional
neural networks", Bioinformatics 38, 2397 (2022).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.layers import Layer, Passes
from tism_scan.engine.trunk import are_alike, declared_parts, first_linear, gapless_layers, put_strips

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
        self.linear, self.rest = first_linear(head)

    def effects(self, x: Tensor, channels: Tensor, positions: Tensor, batch_size: int) -> Iterator[Tensor]:
        """Yield the effects (n, T) of substitutions in one sequence, (1, 4, L), batch by batch.

        Parameters
        ----------
        x : float (1, 4, L)
            One-hot.
        channels, positions : int64 (V,)
            The base that each substitution puts in, and where; best sorted by position.
        batch_size : int
            Whole passes whose memory may be used.
        """
        values = [x.transpose(1, 2).contiguous()]
        for layer in self.layers:
            # a layer may overwrite its input
            values.append(layer.forward(values[-1].clone())[0])
        n_at_once = batch_size * STRIPS_PER_PASS
        for bases, at in zip(
            torch.split(channels, n_at_once), torch.split(positions, n_at_once), strict=True
        ):
            strips = functional.one_hot(bases, 4).to(x.dtype).unsqueeze(1)  # (n, 1, 4)
            starts, tops = self._strips(values, strips, at)
            outputs = self.read(self._read_strips(values[-1], tops, starts))
            yield outputs[1:] - outputs[:1]

    def _strips(self, values: list[Tensor], strips: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first changed position of the trunk's output, (n,), and the values there, (n, w, C)."""
        for layer, before, after in zip(self.layers, values, values[1:], strict=False):
            n_positions = after.shape[1]
            width = min((strips.shape[1] + layer.kernel - 2) // layer.stride + 1, n_positions)
            firsts = (starts - layer.kernel + layer.stride).div(layer.stride, rounding_mode="floor")
            firsts = firsts.clamp(0, n_positions - width)
            if layer.kernel > 1:
                n_inputs = (width - 1) * layer.stride + layer.kernel
                strips = _widened(before, strips, starts, firsts * layer.stride, n_inputs)
            strips, starts = layer.forward(strips)[0], firsts
        return starts, strips

    def _read_strips(self, whole: Tensor, strips: Tensor, starts: Tensor) -> Tensor:
        """Return the head's output, (1 + n, ...), of values (1, P, C) as they are, and with each strip."""
        if self.linear is None:
            output: Tensor = self.rest(_with_strips(whole, strips, starts).transpose(1, 2))
            return output
        first, end = int(starts.min()), int(starts.max()) + strips.shape[1]
        part = whole[:, first:end]
        change = (_with_strips(part, strips, starts - first) - part).transpose(1, 2).flatten(1)
        columns = self.linear.weight.view(-1, whole.shape[2], whole.shape[1])[:, :, first:end].flatten(1)
        unchanged = self.linear(whole.transpose(1, 2).flatten(1))
        output = self.rest(torch.addmm(unchanged.expand(len(change), -1), change, columns.T))
        return output


def nearby(model: nn.Module, x: Tensor, read: Read, outputs: Tensor) -> Nearby | None:
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
    parts, layers = declared_parts(model), gapless_layers(model, Passes(x.dtype, x.dtype))
    if parts is None or not layers:
        return None
    trunk, head = parts
    return Nearby(layers, head, read) if are_alike(outputs, read(head(trunk(x)))) else None


def _widened(whole: Tensor, strips: Tensor, starts: Tensor, firsts: Tensor, width: int) -> Tensor:
    """Return strips (n, w, C) at `starts` amid values (1, P, C): (n, width, C) at `firsts`."""
    n_changed = strips.shape[1]
    padded = functional.pad(whole[0], (0, 0, 0, n_changed))
    index = firsts[:, None] + torch.arange(width + n_changed, device=firsts.device)
    around = padded[index]
    # what is past the end feeds no output, and is cut off again
    put_strips(around, strips, (starts - firsts).clamp(max=width))
    return around[:, :width].contiguous()


def _with_strips(whole: Tensor, strips: Tensor, starts: Tensor) -> Tensor:
    """Return values (1 + n, P, C): as they are, and with each strip in its place."""
    each = whole.repeat(1 + len(strips), 1, 1)
    put_strips(each[1:], strips, starts)
    return each
