"""The trunk engine: the scores of the window engine, several times cheaper, for models with a shared trunk.

A model whose `trunk` is a stack of unpadded layers, and whose `head` works on a fixed number of the trunk's
positions, need not compute each window by itself:

1. The trunk of a long stretch (a slab) holds the features of every window in it.
2. For ``stitch="center"``, only the gradient at the cores is wanted. The positions that feed a core narrow on
   the way down (the cone), and what each layer has to remember is shared by all windows and tracks.
3. For ``stitch="mean"`` and "all", the sum over windows of their gradients is one backward pass through the
   slab.
"""

import logging
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.cost import (
    backward_flop,
    bytes_per_bp,
    bytes_per_pair,
    forward_flop_per_bp,
    most_windows,
)
from tism_scan.engine.head import TrunkHead
from tism_scan.engine.layers import Passes
from tism_scan.engine.limits import Limits, budget_of
from tism_scan.engine.sharing import NotSharedError, why_no_stack
from tism_scan.engine.slabs import SlabEngine, index_of, summed_over_windows
from tism_scan.engine.trunk import (
    backward,
    cone,
    declared_parts,
    forward,
    halved,
    joined,
    n_positions,
    total_stride,
    trunk_layers,
)
from tism_scan.models.contract import Model
from tism_scan.plan.scoring import Precision, Scoring

# On a CPU, tensors of a longer slab pass 32 MB, from where glibc asks the system for new pages each time.
SLAB_BP_ON_CPU = 24_576
SLAB_BP_ON_GPU = 1 << 20
# On a CPU, more pairs of window and track fall out of its caches, and fewer do not fill a convolution.
PAIRS_ON_CPU = 32
PAIRS_ON_GPU = 1024
TRACKS_AT_ONCE = 16

PASSES: dict[Precision, Passes] = {
    "fp32": Passes(),
    "tf32": Passes(),
    "mixed": Passes(torch.float32, torch.bfloat16),
    "bf16": Passes(torch.bfloat16, torch.bfloat16),
    "split": Passes(torch.float32, torch.bfloat16, "split"),
    "fp16": Passes(torch.float32, torch.bfloat16, "fp16"),
}

log = logging.getLogger(__name__)


class TrunkEngine(SlabEngine):
    """Scores blocks by sharing the trunk between windows.

    Parameters
    ----------
    model : Model
        As for `WindowEngine`; also has `trunk` and `head`, and its output is ``head(trunk(X))``.
    scoring : Scoring
        Its stride is a multiple of the trunk's.
    is_tried : bool
        Whether another process has found that the same model allows it: it is not tried again in full.
    limits
        See `Limits`.

    Raises
    ------
    NotSharedError
        If the model or the stride does not allow it; see `tism_scan.engine.sharing.why_no_stack`.
    ValueError, PlanError
        As `BlockEngine`.
    """

    def __init__(
        self, model: Model, scoring: Scoring, *, is_tried: bool = False, **limits: Unpack[Limits]
    ) -> None:
        reason, parts = why_no_stack(model, scoring, is_tried=is_tried), declared_parts(model)
        if reason is not None or parts is None:
            raise NotSharedError(reason)
        super().__init__(model, scoring, **limits)
        self.passes = PASSES[scoring.precision]
        trunk, head = parts
        self.layers = joined(trunk_layers(trunk, self.passes) or [])
        if self.passes == Passes():
            self.layers = halved(self.layers, scoring.stride)
        self._n_positions = n_positions(self.layers, scoring.input_bp)[-1]
        self._step = scoring.stride // total_stride(self.layers)
        reach = scoring.reach
        self._extents = cone(self.layers, scoring.input_bp, reach.start, reach.stop)
        self._head = TrunkHead(head, self._n_positions, self._extents[-1], scoring, self.passes, self.device)
        budget = budget_of(self.device, limits)
        self._n_pairs = self._pairs_within(budget / 2)
        if limits.get("batch_size") is None:
            self.batch_size = self._windows_within(budget / 2)
        most = most_windows(self.layers, scoring.input_bp, scoring.stride, self.passes)
        if self.batch_size > most:
            log.warning(
                "batches of %d windows are more than 32-bit indexing takes; going on with batches of %d",
                self.batch_size,
                most,
            )
            self.batch_size = most

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, that a window's scores need in a long stretch."""
        stride, n_tracks = self.lattice.stride, len(self.scoring.tracks)
        window = torch.zeros((1, 4, self.lattice.input_bp), dtype=torch.float32, device=self.device)
        features = self._head.prepared(forward(self.layers, window, self.passes)[0]).transpose(1, 2)
        head_forward, head_backward = self._head.flop_per_window(features)
        shared = forward_flop_per_bp(self.layers) * stride + head_forward
        if self.scoring.stitch != "center":
            per_track = forward_flop_per_bp(self.layers) * stride  # as many products, the other way
        else:
            per_track = backward_flop(self.layers, self._extents)
        return self.scoring.n_gradients * (shared + n_tracks * (per_track + head_backward))

    def _pairs_within(self, budget: float) -> int:
        """Return how many pairs of window and track go down the trunk at once."""
        preferred = PAIRS_ON_GPU if self.device.type == "cuda" else PAIRS_ON_CPU
        return max(1, min(preferred, int(budget / bytes_per_pair(self.layers, self._extents, self.passes))))

    def _windows_within(self, budget: float) -> int:
        """Return how many windows a slab has."""
        stride, input_bp = self.lattice.stride, self.lattice.input_bp
        per_bp = bytes_per_bp(self.layers, self.passes)
        n_tracks = min(TRACKS_AT_ONCE, len(self.scoring.tracks))
        per_window = per_bp * stride + self._head.bytes_per_window(n_tracks)
        preferred = (SLAB_BP_ON_GPU if self.device.type == "cuda" else SLAB_BP_ON_CPU) // stride
        return max(1, min(preferred, int((budget - per_bp * (input_bp - stride)) / per_window)))

    def _halve_batches(self, reason: str) -> None:
        self._n_pairs = max(1, self._n_pairs // 2)
        super()._halve_batches(reason)

    def _one_strand(self, X: Tensor, reference: Tensor, windows: NDArray[np.int64]) -> Tensor:
        features, factors = forward(self.layers, X, self.passes)
        features = self._head.prepared(features)
        inputs = features[0].unfold(0, self._n_positions, self._step)  # (N, C, positions)
        if len(windows) < len(inputs):
            inputs = inputs[index_of(windows, inputs.device)]
        score = self._score_cores if self.scoring.stitch == "center" else self._score_slab
        tracks = range(len(self.scoring.tracks))
        scores = [
            score(reference, factors, self._head.gradient(inputs, tracks[i : i + TRACKS_AT_ONCE]), windows)
            for i in tracks[::TRACKS_AT_ONCE]
        ]
        return torch.cat(scores)

    def _score_cores(
        self, X: Tensor, factors: list[Tensor | None], top: Tensor, windows: NDArray[np.int64]
    ) -> Tensor:
        """Return scores at the cores, from the gradient at the top of each window's cone, (N, T, len, C)."""
        n_tracks, stride = top.shape[1], self.lattice.stride
        scores = X.new_zeros((n_tracks, self.scoring.n_channels, X.shape[2]))
        start = self.scoring.reach.start
        cores = slice(start, start + (int(windows[-1]) + 1) * stride)
        scores_of_cores, X_of_cores = (  # (..., cores, stride), in place
            each[..., cores].unfold(-1, stride, stride) for each in (scores, X)
        )
        n_at_once = max(1, self._n_pairs // n_tracks)
        for i in range(0, len(windows), n_at_once):
            part = windows[i : i + n_at_once]
            gradient = backward(self.layers, factors, top[i : i + n_at_once], self._extents, part, stride)
            # Core by core, (N, T, 4, stride) becomes (1, T, 4, N * stride).
            joined = gradient.permute(1, 2, 0, 3).flatten(2)[None].to(X.dtype)
            chosen = index_of(part, X.device)
            scored = self._to_scores(joined, X_of_cores[:, :, chosen].flatten(2))[0]
            scores_of_cores[:, :, chosen] = scored.view(*scored.shape[:2], -1, stride)
        return scores

    def _score_slab(
        self, X: Tensor, factors: list[Tensor | None], top: Tensor, windows: NDArray[np.int64]
    ) -> Tensor:
        """Return summed scores, from the gradient at all of each window's positions, (N, T, positions, C)."""
        summed = summed_over_windows(top, self._step, windows)[None]
        extents = cone(self.layers, X.shape[2], 0, X.shape[2])
        scores = []
        for track in torch.split(summed, 1, dim=1):
            whole = np.zeros(1, dtype=np.int64)
            gradient = backward(self.layers, factors, track, extents, whole, X.shape[2]).to(X.dtype)
            scores.append(self._to_scores(gradient, X)[0])
        return torch.cat(scores)
