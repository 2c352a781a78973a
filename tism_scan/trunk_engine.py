"""The trunk engine: the scores of the window engine, several times cheaper, for models with a shared trunk.

A model whose `trunk` is a stack of unpadded layers, and whose `head` works on a fixed number of the trunk's
positions, need not compute each window by itself:

1. The trunk of a long stretch (a slab) holds the features of every window in it.
2. For ``stitch="center"``, only the gradient at the cores is wanted. The positions that feed a core narrow on
   the way down (the cone), and what each layer has to remember is shared by all windows and tracks.
3. For ``stitch="mean"``, the sum over windows of their gradients is one backward pass through the slab.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.attribution.model import frozen
from tism_scan.engine import BlockEngine, WindowEngine, track_output
from tism_scan.plan import Scoring
from tism_scan.tracks import Track
from tism_scan.trunk import Span, backward, cone, forward, n_positions, total_stride, trunk_layers

WINDOWS_PER_SLAB = 256
PAIRS_ON_CPU = 16
PAIRS_ON_GPU = 512
TRACKS_AT_ONCE = 16

log = logging.getLogger(__name__)


def make_engine(
    model: nn.Module, scoring: Scoring, *, batch_size: int | None = None, device: str | None = None
) -> BlockEngine:
    """Return the fastest engine that computes a scoring with a model.

    Parameters
    ----------
    model : torch.nn.Module
        As for `WindowEngine`.
    scoring : Scoring
    batch_size : int, optional
        Windows that are computed together.
    device : str, optional
        Where to compute; a GPU if there is one.
    """
    reason = why_not_shared(model, scoring)
    if reason is not None:
        log.warning("windows are computed one by one, which is slower: %s", reason)
        return WindowEngine(model, scoring, batch_size=batch_size, device=device)
    return TrunkEngine(model, scoring, windows_per_slab=batch_size or WINDOWS_PER_SLAB, device=device)


def why_not_shared(model: nn.Module, scoring: Scoring) -> str | None:
    """Return why the trunk engine cannot compute a scoring with a model, or None if it can."""
    trunk, head = getattr(model, "trunk", None), getattr(model, "head", None)
    layers = trunk_layers(trunk) if isinstance(trunk, nn.Module) else None
    if not layers or not isinstance(head, nn.Module):
        return "the model declares no trunk of unpadded layers with a head on it"
    if scoring.stride % total_stride(layers):
        return f"stride {scoring.stride} is no multiple of the trunk's, {total_stride(layers)}"
    if not _is_head_on_trunk(model, scoring.input_bp):
        return "the model's output is not head(trunk(X))"
    return None


def _is_head_on_trunk(model: nn.Module, input_bp: int) -> bool:
    """Return whether a model is what it declares, tried on one window."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(4, (1, input_bp), generator=generator)
    parameter = next(model.parameters())
    X = nn.functional.one_hot(codes, 4).transpose(1, 2).to(parameter)
    with frozen(model), torch.no_grad():
        whole, parts = model(X), model.head(model.trunk(X))  # type: ignore[operator]
    return whole.shape == parts.shape and torch.allclose(
        whole, parts, rtol=1e-4, atol=1e-4 * float(whole.abs().max())
    )


class TrunkEngine(BlockEngine):
    """Scores blocks by sharing the trunk between windows.

    Parameters
    ----------
    model : torch.nn.Module
        As for `WindowEngine`; also has `trunk` and `head`, and its output is ``head(trunk(X))``.
    scoring : Scoring
        Its stride is a multiple of the trunk's.
    windows_per_slab : int, optional
        Windows whose trunk is computed together; it changes memory and time, not the scores.
    device : str, optional
        Where to compute; a GPU if there is one.

    Raises
    ------
    ValueError
        If the model or the stride does not allow it; see `why_not_shared`.
    """

    def __init__(
        self,
        model: nn.Module,
        scoring: Scoring,
        *,
        windows_per_slab: int = WINDOWS_PER_SLAB,
        device: str | None = None,
    ) -> None:
        reason = why_not_shared(model, scoring)
        if reason is not None:
            raise ValueError(reason)
        super().__init__(model, scoring, batch_size=windows_per_slab, device=device)
        self.layers = trunk_layers(self.model.trunk) or []  # type: ignore[arg-type]
        self._n_positions = n_positions(self.layers, scoring.input_bp)[-1]
        self._step = scoring.stride // total_stride(self.layers)
        reach = self._reach()
        self._spans = cone(self.layers, scoring.input_bp, reach.start, reach.stop)
        self._head = _Head(self.model.head, self._n_positions, self._spans[-1], scoring)  # type: ignore[arg-type]
        self._n_pairs = PAIRS_ON_GPU if self.device.type == "cuda" else PAIRS_ON_CPU

    def _add_first(self, codes: Tensor, where: NDArray[np.int64], total: Tensor, n_windows: Tensor) -> int:
        gaps = np.flatnonzero(np.diff(where[: self.batch_size]) != 1)
        n = int(gaps[0]) + 1 if len(gaps) else min(len(where), self.batch_size)
        stride, start = self.lattice.stride, int(where[0]) * self.lattice.stride
        slab = slice(start, start + (n - 1) * stride + self.lattice.input_bp)
        total[:, :, slab] += self._sum_of_scores(codes[slab])
        reach = self._reach()
        for i_window in range(n):
            n_windows[start + i_window * stride :][reach] += 1
        return n

    @torch.no_grad()
    def _sum_of_scores(self, codes: Tensor) -> Tensor:
        """Return the sum over a slab's windows of their scores, (T, channels, L), 0 out of their reach."""
        X = self._encode(codes[None])
        scores = self._one_strand(X)
        if self.scoring.strands == "both":
            other = self._one_strand(X.flip(2)[:, self._complement])
            # Read backwards, A, C, G, T is T, G, C, A: the channels of the other strand.
            scores = (scores + other.flip(1, 2)) / 2
        return scores

    def _one_strand(self, X: Tensor) -> Tensor:
        """Return the sum of scores, (T, channels, L), of a slab, (1, 4, L), read in one direction."""
        features, factors = forward(self.layers, X)
        windows = features[0].unfold(1, self._n_positions, self._step).transpose(0, 1)
        score = self._score_slab if self.scoring.stitch == "mean" else self._score_cores
        scores = [
            score(X, factors, self._head.gradient(windows, self.scoring.tracks[i : i + TRACKS_AT_ONCE]))
            for i in range(0, len(self.scoring.tracks), TRACKS_AT_ONCE)
        ]
        return torch.cat(scores)

    def _score_cores(self, X: Tensor, factors: list[Tensor | None], top: Tensor) -> Tensor:
        """Return scores at the cores, from the gradient at the top of each window's cone, (N, T, C, len)."""
        n, n_tracks = top.shape[:2]
        reach, stride = self._reach(), self.lattice.stride
        scores = X.new_zeros((n_tracks, self.scoring.n_channels, X.shape[2]))
        n_at_once = max(1, self._n_pairs // n_tracks)
        for first in range(0, n, n_at_once):
            windows = range(first, min(n, first + n_at_once))
            part = top[windows.start : windows.stop]
            gradient = backward(self.layers, factors, part, self._spans, windows, stride)
            cores = slice(reach.start + windows.start * stride, reach.start + windows.stop * stride)
            # The cores stand end to end: (N, T, 4, stride) becomes (1, T, 4, N * stride).
            joined = gradient.permute(1, 2, 0, 3).flatten(2)[None]
            scores[:, :, cores] = self._to_scores(joined, X[..., cores])[0]
        return scores

    def _score_slab(self, X: Tensor, factors: list[Tensor | None], top: Tensor) -> Tensor:
        """Return summed scores, from the gradient at all of each window's positions, (N, T, C, positions)."""
        n, n_tracks, n_channels, length = top.shape
        summed = top.new_zeros((1, n_tracks, n_channels, (n - 1) * self._step + length))
        for i_window, gradient in enumerate(top):
            summed[0, :, :, i_window * self._step :][..., :length] += gradient
        spans = cone(self.layers, X.shape[2], 0, X.shape[2])
        scores = [
            self._to_scores(backward(self.layers, factors, track, spans, range(1), X.shape[2]), X)[0]
            for track in torch.split(summed, 1, dim=1)
        ]
        return torch.cat(scores)


class _Head:
    """The gradient of tracks at the trunk's positions that feed a window's reach.

    Where the head begins with a linear layer on all positions, as Beluga's does, only the columns of these
    positions are multiplied.
    """

    def __init__(self, head: nn.Module, n_positions: int, span: Span, scoring: Scoring) -> None:
        self.head, self.span, self.scoring = head, span, scoring
        modules = (
            [m for m in head if not isinstance(m, nn.Dropout)] if isinstance(head, nn.Sequential) else []
        )
        self.linear: nn.Linear | None = None
        if len(modules) > 1 and isinstance(modules[0], nn.Flatten) and isinstance(modules[1], nn.Linear):
            self.linear, self.rest = modules[1], nn.Sequential(*modules[2:])
            weight = self.linear.weight
            columns = weight.view(len(weight), -1, n_positions)[:, :, slice(*span)]
            self.n_channels = columns.shape[1]
            self.columns = columns.flatten(1)

    def gradient(self, windows: Tensor, tracks: Sequence[Track]) -> Tensor:
        """Return the gradient of each track, (N, T, C, len), of windows' features, (N, C, positions)."""
        if self.linear is None:
            gradients = self._track_gradients(self.head, windows, tracks)
            return gradients[..., slice(*self.span)]
        hidden = self.linear(windows.flatten(1))
        gradients = self._track_gradients(self.rest, hidden, tracks)
        n, n_tracks = gradients.shape[:2]
        at_positions: Tensor = gradients @ self.columns
        return at_positions.view(n, n_tracks, self.n_channels, -1)

    def _track_gradients(self, module: nn.Module, inputs: Tensor, tracks: Sequence[Track]) -> Tensor:
        """Return the gradient of each track at the inputs of the head, or of the rest of it: (N, T, ...)."""
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            outputs = module(inputs)
            if self.scoring.output_space == "probability":
                outputs = outputs.sigmoid()
            gradients = [
                torch.autograd.grad(track_output(outputs, track), inputs, retain_graph=True)[0]
                for track in tracks
            ]
        return torch.stack(gradients, dim=1)
