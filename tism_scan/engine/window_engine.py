"""The window engine: codes of a block in, scores out, for any model.

Every window goes through the model by itself, in batches, with the parameters frozen; each track costs one
backward pass. Its passes cannot differ in precision, so "mixed", "split" and "fp16" are float32 here.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.cost import module_flop, saved_bytes
from tism_scan.engine.devices import BATCH_ON_GPU
from tism_scan.engine.limits import Limits, budget_of
from tism_scan.engine.queue import to_device
from tism_scan.engine.readout import TrackReader
from tism_scan.engine.tism import mean_over_path
from tism_scan.models.contract import Model
from tism_scan.models.frozen import frozen
from tism_scan.plan.scoring import Scoring

BATCH_ON_CPU = 16


class WindowEngine(BlockEngine):
    """Scores blocks window by window, with any model.

    Parameters
    ----------
    model, scoring
        As for `BlockEngine`.
    batch_size, device, memory_gb, share
        See `tism_scan.engine.limits.Limits`.
    """

    def __init__(
        self,
        model: Model,
        scoring: Scoring,
        *,
        batch_size: int | None = None,
        device: str | None = None,
        memory_gb: float | None = None,
        share: float = 1.0,
    ) -> None:
        limits = Limits(batch_size=batch_size, device=device, memory_gb=memory_gb, share=share)
        super().__init__(model, scoring, **limits)
        self._reader = TrackReader(scoring.tracks, self.device)
        if batch_size is None:
            self.batch_size = self._windows_within(budget_of(self.device, limits))

    def _windows_within(self, budget: float) -> int:
        """Return how many windows a batch has."""
        most = BATCH_ON_GPU if self.device.type == "cuda" else BATCH_ON_CPU
        X = self._encode(torch.zeros((1, self.lattice.input_bp), dtype=torch.uint8, device=self.device))
        with frozen(self.model):
            # what the backward pass makes on its way takes as much again, at most, as the forward pass left
            per_window = 2 * saved_bytes(self.model, X) + (1 + 2 * len(self.scoring.tracks)) * X.nbytes
        return max(1, min(most, int(budget / per_window)))

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, of one window's forward passes, and of the tracks' backward ones."""
        X = self._encode(torch.zeros((1, self.lattice.input_bp), dtype=torch.uint8, device=self.device))
        forward, backward = module_flop(self.model, X)
        return self.scoring.n_gradients * (forward + len(self.scoring.tracks) * backward)

    def _add_first(self, codes: Tensor, where: NDArray[np.int64], total: Tensor) -> int:
        batch = where[: self.batch_size]
        windows = codes.unfold(0, self.lattice.input_bp, self.lattice.stride)
        scores = self._score_windows(windows[to_device(batch, self.device)])
        reach = self.scoring.reach
        for i_window, window_scores in zip(batch.tolist(), scores, strict=True):
            start = i_window * self.lattice.stride
            total[:, :, start + reach.start : start + reach.stop] += window_scores
        return len(batch)

    def _score_windows(self, codes: Tensor) -> Tensor:
        """Return the scores, float32 (N, T, channels, reach), of windows' codes, uint8 (N, input_bp)."""
        X = self._encode(codes)
        path = self.scoring.path
        gradient = mean_over_path(path, X, self._gradient)
        if self.scoring.strands == "both":
            other = mean_over_path(path, X.flip(2)[:, self._complement], self._gradient)
            gradient = (gradient + other.flip(3)[:, :, self._complement]) / 2
        reach = self.scoring.reach
        return self._to_scores(gradient[..., reach], X[..., reach])

    def _gradient(self, X: Tensor) -> Tensor:
        """Return df/dX, float32 (N, T, 4, input_bp), of each track."""
        X = X.detach().requires_grad_()
        is_rounded = self.scoring.precision == "bf16"
        with torch.enable_grad():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=is_rounded):
                outputs = self.model(X)
            if is_rounded:
                outputs = outputs.float()
            if self.scoring.output_space == "probability":
                outputs = outputs.sigmoid()
            n_tracks = len(self.scoring.tracks)
            gradients = [
                torch.autograd.grad(
                    self._reader.value(outputs, i_track), X, retain_graph=i_track + 1 < n_tracks
                )[0]
                for i_track in range(n_tracks)
            ]
        return torch.stack(gradients, dim=1)
