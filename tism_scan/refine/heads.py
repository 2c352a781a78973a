"""A head's outputs after substitutions, from what these change at the top of the trunk."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tism_scan.engine.head import Product
from tism_scan.engine.trunk import first_linear, linear_on_relu, put_strips
from tism_scan.refine.changes import Strips, relu_change

_ROWS_IN_CACHE = 2048


class ChangedHead:
    """The head of a trunk. Of a linear layer that it begins with, only what changes is multiplied.

    Parameters
    ----------
    head : torch.nn.Module
        Maps features, float (N, C, positions), to outputs.
    n_positions : int
        Of the trunk, in a window.
    read : callable
        From the head's outputs to the tracks, (N, T).
    is_linear : bool
        Whether `read` is.
    """

    def __init__(
        self, head: nn.Module, n_positions: int, read: Callable[[Tensor], Tensor], *, is_linear: bool
    ) -> None:
        self._linear, self._rest = first_linear(head)
        self._read, self._n_positions = read, n_positions
        self._columns: dict[int, Product] = {}
        last = linear_on_relu(self._rest) if self._linear is not None and is_linear else None
        # from the hidden units to the tracks, (hidden, T)
        self._readout = None if last is None else self._read(last.weight.detach().T)

    def whole(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `effects` needs of windows as they are, from their features, (N, C, positions)."""
        hidden = inputs if self._linear is None else self._linear(inputs.flatten(1))
        return hidden, self._tracks(hidden)

    def effects(
        self, inputs: Tensor, whole: tuple[Tensor, Tensor], windows: Tensor, strips: Strips
    ) -> Tensor:
        """Return the effects of substitutions on the tracks, float32 (n, T).

        Parameters
        ----------
        inputs : float (N, C, positions)
            Features of the windows as they are.
        whole : tuple of Tensor
            From `whole`.
        windows : int64 (n,)
            The window of each substitution.
        strips : Strips
            What each changes.
        """
        if self._linear is None:
            changed = inputs[windows].transpose(1, 2).contiguous()
            put_strips(changed, strips.before + strips.change, strips.starts)
            hidden = changed.transpose(1, 2)
        else:
            before, change = whole[0][windows], self._change(strips, whole[0].shape[1])
            if self._readout is not None:  # the change alone is rounded, a small part of the outputs
                return (relu_change(before, change) @ self._readout).float()
            hidden = before + change
        return (self._tracks(hidden) - whole[1][windows]).float()

    def _change(self, strips: Strips, n_hidden: int) -> Tensor:
        """Return the change of the hidden units, (n, hidden)."""
        change, width = strips.change, strips.change.shape[1]
        total = change.new_zeros((len(change), n_hidden))
        # one wait for the device, or none
        is_one = strips.within[0] == strips.within[1]
        starts = np.full(len(change), strips.within[0]) if is_one else strips.starts.cpu().numpy()
        positions = np.arange(starts[0], starts[-1] + width)
        columns = self._columns_of(int(positions[0]), int(positions[-1]) + 1)
        begins, ends = (np.searchsorted(starts, each, "right") for each in (positions - width, positions))
        for position, begin, end in zip(positions.tolist(), begins.tolist(), ends.tolist(), strict=True):
            if begin < end:
                at = position - strips.starts[begin:end]
                rows = torch.arange(begin, end, device=at.device)
                total[begin:end].add_(columns[position](change[rows, at]))
        return total

    def _columns_of(self, first: int, end: int) -> dict[int, Product]:
        """Return the parts of the linear layer that read some positions, (hidden, C) each."""
        missing = [position for position in range(first, end) if position not in self._columns]
        if missing and self._linear is not None:
            parts = _columns_apart(self._linear, self._n_positions, missing[0], missing[-1] + 1)
            for position in missing:
                self._columns[position] = Product(parts[position - missing[0]], None, torch.float32)
        return self._columns

    def _tracks(self, hidden: Tensor) -> Tensor:
        """Return the tracks; a row by itself would be rounded by other kernels than many."""
        rows = hidden.expand(2, *hidden.shape[1:]) if len(hidden) == 1 else hidden
        outputs = self._rest(rows.clone())  # which may work in place
        return self._read(outputs)[: len(hidden)]


def _columns_apart(linear: nn.Linear, n_positions: int, first: int, end: int) -> Tensor:
    """Return the weights, (positions, hidden, C), of some of the positions that a linear layer reads."""
    weight = linear.weight.detach().view(-1, n_positions)
    columns = weight.new_empty((end - first, len(weight)))
    # piece by piece, since a position's weights are far apart in memory
    for i in range(0, len(weight), _ROWS_IN_CACHE):
        columns[:, i : i + _ROWS_IN_CACHE] = weight[i : i + _ROWS_IN_CACHE, first:end].contiguous().t()
    return columns.view(end - first, linear.out_features, -1)
