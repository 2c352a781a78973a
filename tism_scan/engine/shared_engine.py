"""The shared engine: any trunk that windows can share, one forward and few backward passes of it a slab.

The sum over windows of their gradients is one backward pass of the trunk, from the heads' gradients added up
at their places; so ``stitch="mean"`` and "all" cost one pass for each track of a slab, whatever the trunk is
made of. ``stitch="center"`` takes several, each of windows so far apart that none holds a base of another's
core: there, the sum is one window's own gradient. The trunk goes through autograd; `tism_scan.engine.sharing`
says what it has to fulfil.
"""

import math
from contextlib import nullcontext
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.engine.cost import module_flop, saved_bytes
from tism_scan.engine.head import TrunkHead
from tism_scan.engine.layers import Passes
from tism_scan.engine.limits import Limits, budget_of
from tism_scan.engine.queue import to_device
from tism_scan.engine.sharing import NotSharedError, n_backward_passes, shared_step
from tism_scan.engine.slabs import SlabEngine, index_of, summed_over_windows
from tism_scan.engine.trunk import declared_parts
from tism_scan.errors import ModelError
from tism_scan.models.channels_last import channels_last
from tism_scan.models.contract import Model
from tism_scan.models.frozen import frozen
from tism_scan.plan.scoring import Scoring

# A slab's flanks are computed twice; at eight windows' lengths they are at most an eighth of the work.
WINDOW_LENGTHS_PER_SLAB = 8
SLAB_BP_ON_CPU = 16_384  # what BPNet's layers make of more falls out of a CPU's caches
SLAB_BP_ON_GPU = 1 << 20
HEADS_AT_ONCE = 32
TRACKS_AT_ONCE = 16


class SharedEngine(SlabEngine):
    """Scores blocks by sharing any trunk between windows.

    Parameters
    ----------
    model : Model
        As for `WindowEngine`; also has `trunk` and `head`, and its output is ``head(trunk(X))``.
    scoring : Scoring
    is_tried, limits
        As for `TrunkEngine`.

    Raises
    ------
    NotSharedError
        If the model or the scoring does not allow it; see `tism_scan.engine.sharing.shared_step`.
    ValueError, PlanError
        As `BlockEngine`.
    """

    def __init__(
        self, model: Model, scoring: Scoring, *, is_tried: bool = False, **limits: Unpack[Limits]
    ) -> None:
        self._step = shared_step(model, scoring, is_tried=is_tried)
        self._n_passes = n_backward_passes(scoring)
        super().__init__(model, scoring, **limits)
        parts = declared_parts(self.model)
        if parts is None:
            raise NotSharedError("the model's parts are gone on its device")
        self._trunk, head = parts
        window = torch.zeros((1, 4, scoring.input_bp), dtype=torch.float32, device=self.device)
        with torch.no_grad():
            features = self._trunk(window)
        self._n_places = features.shape[2]
        self._head = TrunkHead(head, self._n_places, (0, self._n_places), scoring, Passes(), self.device)
        budget = budget_of(self.device, limits)
        self._n_heads = self._heads_within(budget / 4, head, features)
        if limits.get("batch_size") is None:
            self.batch_size = self._windows_within(budget / 2, window, features)

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, that a window's scores need in a long stretch."""
        input_bp, stride = self.lattice.input_bp, self.lattice.stride
        window, longer = (
            torch.zeros((1, 4, n_bp), dtype=torch.float32, device=self.device)
            for n_bp in (input_bp, input_bp + stride)
        )
        with frozen(self.model):
            of_window, of_longer = module_flop(self._trunk, window), module_flop(self._trunk, longer)
            with torch.no_grad():
                features = self._trunk(window)
            of_head = self._head.flop_per_window(features)
        forward, backward = (
            n_passes * (more - less) + head
            for n_passes, more, less, head in zip(
                (1, self._n_passes), of_longer, of_window, of_head, strict=True
            )
        )
        return self.scoring.n_gradients * (forward + len(self.scoring.tracks) * backward)

    def _windows_within(self, budget: float, window: Tensor, features: Tensor) -> int:
        """Return how many windows a slab has."""
        stride, input_bp = self.lattice.stride, self.lattice.input_bp
        n_tracks = min(TRACKS_AT_ONCE, len(self.scoring.tracks))
        # What the backward pass makes on its way takes as much again, at most, as the forward pass left.
        per_bp = 2 * saved_bytes(self._trunk, window) / input_bp
        per_window = per_bp * stride + (n_tracks + 1) * self._step * features[:, :, 0].nbytes
        preferred = SLAB_BP_ON_GPU if self.device.type == "cuda" else SLAB_BP_ON_CPU
        preferred = max(preferred, WINDOW_LENGTHS_PER_SLAB * input_bp) // stride
        if math.isinf(per_bp):
            return 1
        return max(1, min(preferred, int((budget - per_bp * (input_bp - stride)) / per_window)))

    def _heads_within(self, budget: float, head: nn.Module, features: Tensor) -> int:
        """Return how many windows go through the head at once."""
        n_tracks = min(TRACKS_AT_ONCE, len(self.scoring.tracks))
        per_window = 2 * saved_bytes(head, features) + (2 * n_tracks + 1) * features.nbytes
        return max(1, min(HEADS_AT_ONCE, int(budget / per_window)))

    def _halve_batches(self, reason: str) -> None:
        self._n_heads = max(1, self._n_heads // 2)
        super()._halve_batches(reason)

    def _one_strand(self, X: Tensor, reference: Tensor, windows: NDArray[np.int64]) -> Tensor:
        X = X.detach().requires_grad_()
        is_rounded = self.scoring.precision == "bf16"
        rounded = torch.autocast(self.device.type, torch.bfloat16, enabled=is_rounded)
        quickest = channels_last(n_least=1) if self.device.type == "cpu" else nullcontext()
        with torch.enable_grad(), rounded, quickest:
            features = self._trunk(X)
        n_places = int(windows[-1]) * self._step + self._n_places
        if features.shape[2] != n_places:
            raise ModelError(
                f"the model's trunk gives {features.shape[2]:,} places for a stretch of {X.shape[2]:,} bp; "
                f"expected {n_places:,}, as shorter stretches have; leave its trunk undeclared"
            )
        n_tracks = len(self.scoring.tracks)
        scores = reference.new_zeros((n_tracks, self.scoring.n_channels, X.shape[2]))
        passes = self._passes(windows)
        for first in range(0, n_tracks, TRACKS_AT_ONCE):
            tracks = range(first, min(first + TRACKS_AT_ONCE, n_tracks))
            for i_pass, part in enumerate(passes):
                places = self._answered(part)
                for i_track, summed in zip(tracks, self._summed_heads(features, part, tracks), strict=True):
                    (gradient,) = torch.autograd.grad(
                        features,
                        X,
                        summed.t()[None].to(features.dtype),
                        retain_graph=i_pass + 1 < len(passes) or i_track + 1 < n_tracks,
                    )
                    found = self._to_scores(gradient[..., places][:, None], reference[..., places])
                    scores[i_track][:, places] = found[0, 0]
        return scores

    def _passes(self, windows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the windows of each backward pass."""
        parts = (windows[windows % self._n_passes == i] for i in range(self._n_passes))
        return [part for part in parts if len(part)]

    def _answered(self, windows: NDArray[np.int64]) -> slice | Tensor:
        """Return which bases of a slab a backward pass of some windows gives the scores of."""
        if self.scoring.stitch != "center":
            return slice(None)
        reach = self.scoring.reach
        bases = windows[:, None] * self.lattice.stride + np.arange(reach.start, reach.stop)
        return to_device(bases.ravel(), self.device)

    def _summed_heads(self, features: Tensor, windows: NDArray[np.int64], tracks: range) -> Tensor:
        """Return the sum over windows of a pass of their heads' gradients, float32 (T, places, C)."""
        known = features.detach().float()
        of_windows = known[0].unfold(1, self._n_places, self._step).transpose(0, 1)  # (N, C, places)
        total = known.new_zeros((len(tracks), known.shape[2], known.shape[1]))
        for first in range(0, len(windows), self._n_heads):
            part = windows[first : first + self._n_heads]
            top = self._head.gradient(of_windows[index_of(part, known.device)], tracks)
            step = self._step * self._n_passes
            summed = summed_over_windows(top, step, (part - part[0]) // self._n_passes)
            start = int(part[0]) * self._step
            total[:, start : start + summed.shape[1]] += summed
        return total
