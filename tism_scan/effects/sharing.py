"""A trunk's values for many windows at once, each computed once wherever windows overlap.

Below the first pooling, the values of overlapping windows are the same wherever these begin. A layer of
stride t tells windows apart by where they begin, modulo t: those that begin alike go on sharing, the others
part. So clustered windows share nearly all of the lowest layers, which take most of the time, whatever their
distances are.

What windows cover is kept end to end; where two stretches meet, values are of no window, and are not read.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.layers import Layer
from tism_scan.engine.queue import to_device
from tism_scan.refine.changes import Trunk, layer_output

Firsts = NDArray[np.int64]


def shared_values(trunk: Trunk, X: Tensor, firsts: Firsts) -> tuple[list[Tensor], list[Firsts]]:
    """Return the input's and each layer's values, and where each window begins in them.

    Parameters
    ----------
    trunk : Trunk
    X : float (1, 4, P)
        Stretches of sequence, end to end.
    firsts : int64 (n,)
        Where in them each window begins.

    Returns
    -------
    list of float (P_i, C_i), list of int64 (n,)
    """
    values, begins = [X[0].T.contiguous()], [firsts]
    for layer, n_above in zip(trunk.layers, trunk.counts[1:], strict=True):
        held, at = values[-1], begins[-1]
        if layer.stride > 1:
            index, at = _told_apart(layer, at, n_above)
            held = held[to_device(index, held.device).clamp_(max=len(held) - 1)]
        values.append(layer_output(layer, held[None])[0])
        begins.append(at)
    return values, begins


def _told_apart(layer: Layer, firsts: Firsts, n_above: int) -> tuple[NDArray[np.int64], Firsts]:
    """Return the positions that windows cover, by where they begin modulo the stride, and where each goes on.

    Parameters
    ----------
    layer : Layer
    firsts : int64 (n,)
        Where each window begins in the values below.
    n_above : int
        Positions of a window above the layer.
    """
    stride, n_used = layer.stride, (n_above - 1) * layer.stride + layer.kernel
    pieces: list[NDArray[np.int64]] = []
    moved, n_held = np.empty_like(firsts), 0
    for phase in np.unique(firsts % stride):
        (own,) = np.nonzero(firsts % stride == phase)
        for start, end in stretches(firsts[own], n_used):
            length = -(-(end - start) // stride) * stride
            inside = own[(firsts[own] >= start) & (firsts[own] < end)]
            moved[inside] = (n_held + firsts[inside] - start) // stride
            pieces.append(np.arange(start, start + length))
            n_held += length
    return np.concatenate(pieces), moved


def stretches(firsts: Firsts, length: int) -> list[tuple[int, int]]:
    """Return what intervals of one length cover, as sorted intervals apart from each other."""
    covered: list[tuple[int, int]] = []
    for first in np.unique(firsts).tolist():
        if covered and first <= covered[-1][1]:
            covered[-1] = (covered[-1][0], first + length)
        else:
            covered.append((first, first + length))
    return covered
