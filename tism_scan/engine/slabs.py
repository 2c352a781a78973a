"""A slab: neighbouring windows, and the stretch under them, that an engine computes at once."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.queue import to_device
from tism_scan.engine.tism import mean_over_path


class SlabEngine(BlockEngine):
    """An engine whose batches of windows are neighbours, and share what is computed of the stretch."""

    def _add_first(self, codes: Tensor, where: NDArray[np.int64], total: Tensor) -> int:
        stride, input_bp = self.lattice.stride, self.lattice.input_bp
        batch = first_slab(where, self.batch_size, stride, input_bp)
        start, end = int(batch[0]) * stride, int(batch[-1]) * stride + input_bp
        total[:, :, start:end] += self._sum_of_scores(codes[start:end], batch - batch[0])
        return len(batch)

    @torch.no_grad()
    def _sum_of_scores(self, codes: Tensor, windows: NDArray[np.int64]) -> Tensor:
        """Return the sum over some windows of a slab of their scores, (T, channels, L), 0 out of their reach.

        `windows`, int64 (N,), are positions in the slab, in order, of its first, its last and others.
        """
        X = self._encode(codes[None])
        scores = self._along_path(X, windows)
        if self.scoring.strands == "both":
            other = self._along_path(X.flip(2)[:, self._complement], (windows[-1] - windows)[::-1].copy())
            # Read backwards, A, C, G, T is T, G, C, A: the channels of the other strand.
            scores = (scores + other.flip(1, 2)) / 2
        return scores

    def _along_path(self, X: Tensor, windows: NDArray[np.int64]) -> Tensor:
        """Return the sum of scores, (T, channels, L), of a slab, (1, 4, L), read in one direction."""
        return mean_over_path(self.scoring.path, X, lambda point: self._one_strand(point, X, windows))

    @abstractmethod
    def _one_strand(self, X: Tensor, reference: Tensor, windows: NDArray[np.int64]) -> Tensor:
        """Return the sum of scores, (T, channels, L), of gradients at one point of the path.

        Parameters
        ----------
        X, reference : float32 (1, 4, L)
            The slab as it is at that point, and one-hot.
        windows : int64 (N,)
            As in `_sum_of_scores`.
        """


def first_slab(where: NDArray[np.int64], n_most: int, stride: int, input_bp: int) -> NDArray[np.int64]:
    """Return the windows of the first slab of some windows, int64 (n,), in order.

    It ends where a gap is so long that a second slab's flanks take less than the gap itself.
    """
    batch = where[:n_most]
    batch = batch[batch < batch[0] + n_most]
    gaps = np.flatnonzero(np.diff(batch) * stride >= max(input_bp, 2 * stride))
    n_windows = int(gaps[0]) + 1 if len(gaps) else len(batch)
    slab: NDArray[np.int64] = batch[:n_windows]
    return slab


def index_of(windows: NDArray[np.int64], device: torch.device) -> slice | Tensor:
    """Return what picks some windows from all of them: a slice, which copies nothing, where that can be."""
    first, last = int(windows[0]), int(windows[-1])
    return slice(first, last + 1) if last - first < len(windows) else to_device(windows, device)


def summed_over_windows(top: Tensor, step: int, windows: NDArray[np.int64]) -> Tensor:
    """Return the sum, (T, P, C), of windows' gradients, (N, T, len, C), from lattice places `step` apart."""
    if int(windows[-1]) >= len(windows):
        spread = top.new_zeros((int(windows[-1]) + 1, *top.shape[1:]))
        spread[index_of(windows, top.device)] = top
        top = spread
    n, n_tracks, length, n_channels = top.shape
    summed = top.new_zeros((n_tracks, (n - 1) * step + length, n_channels))
    # Windows that are this many apart do not overlap, and are added at once.
    n_apart = -(-length // step)
    for first in range(min(n, n_apart)):
        part = top[first::n_apart]
        places = summed[:, first * step :].unfold(1, length, n_apart * step)
        places[:, : len(part)].add_(part.permute(1, 0, 3, 2))
    return summed
