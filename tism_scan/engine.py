"""The window engine: codes of a block in, scores out, for any model.

Every window goes through the model by itself, in batches, with the parameters frozen; each track costs one
backward pass.
"""

import logging
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.alphabet import BASES, Codes, channel_of_base, is_acgt, one_hot_table
from tism_scan.attribution.transforms import mean_tism_from_gradient, tism_from_gradient
from tism_scan.plan import Scoring
from tism_scan.tiling import Stretch
from tism_scan.tracks import Track

log = logging.getLogger(__name__)

BATCH_ON_CPU = 16
BATCH_ON_GPU = 256


class SequenceModel(Protocol):
    """What an engine asks of a model beside being a `torch.nn.Module`."""

    input_bp: int
    alphabet: str
    n_outputs: int


class Engine(Protocol):
    """Computes the scores of blocks."""

    def score(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the scores of a stretch's block, NaN where a base is not wanted."""
        ...


def default_device() -> str:
    """Return ``"cuda"`` where a GPU can be used, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """Return what a device is called by its maker, for the record of a run."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


class WindowEngine:
    """Scores blocks window by window.

    Parameters
    ----------
    model : torch.nn.Module
        Maps float (N, 4, input_bp) to logits (N, n_outputs); has `input_bp`, `alphabet` and `n_outputs`. The
        engine takes it over: it is moved to `device`, frozen and put in evaluation mode.
    scoring : Scoring
        Which number is computed.
    batch_size : int, optional
        Windows that go through the model together. It changes the time, not the scores.
    device : str, optional
        Where to compute; a GPU if there is one.

    Raises
    ------
    ValueError
        If the scoring is for windows of another length than the model's, or names an output that the model
        does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        scoring: Scoring,
        *,
        batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        if scoring.input_bp != model.input_bp:
            raise ValueError(f"the plan's windows have {scoring.input_bp} bp, the model's {model.input_bp}")
        largest = max(max(track.outputs) for track in scoring.tracks)
        if largest >= int(model.n_outputs):  # type: ignore[arg-type]
            raise ValueError(f"output {largest} of {model.n_outputs} is asked for")
        self.device = torch.device(device or default_device())
        self.model = model.to(self.device).requires_grad_(False).eval()
        self.scoring = scoring
        self.lattice = scoring.lattice
        self.batch_size = batch_size or (BATCH_ON_GPU if self.device.type == "cuda" else BATCH_ON_CPU)
        alphabet = str(model.alphabet)
        self._one_hot = torch.from_numpy(one_hot_table(alphabet)).to(self.device)
        self._to_acgt = torch.from_numpy(channel_of_base(alphabet)).to(self.device)
        complement = channel_of_base(alphabet)[[3 - BASES.index(base) for base in alphabet]]
        self._complement = torch.from_numpy(complement).to(self.device)

    def score(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the scores of a stretch's block.

        Parameters
        ----------
        codes : uint8 (stretch.end - stretch.start,)
            The sequence under the stretch's windows.
        stretch : Stretch
        wanted : bool (len(block),)
            The bases to score; windows that hold none of them are not computed.

        Returns
        -------
        float32 (T, len(block)), or (T, 4, len(block)) for ``values="tism"``
            Positive mean TISM where the reference base supports the output; NaN where a base is not wanted or
            is not A, C, G or T.
        """
        block = slice(stretch.block.start - stretch.start, stretch.block.end - stretch.start)
        target = np.zeros(len(codes), dtype=np.bool_)
        target[block] = wanted & is_acgt(codes[block])
        shape = (len(self.scoring.tracks), self.scoring.n_channels, len(codes))
        total = torch.zeros(shape, device=self.device)
        n_windows = torch.zeros(len(codes), device=self.device)
        where = _needed_windows(target, self._reach(), self.lattice.stride, stretch.n_windows)
        all_codes = torch.from_numpy(np.ascontiguousarray(codes)).to(self.device)
        windows = all_codes.unfold(0, self.lattice.input_bp, self.lattice.stride)
        start = 0
        while start < len(where):
            batch = where[start : start + self.batch_size]
            try:
                scores = self._score_windows(windows[torch.from_numpy(batch).to(self.device)])
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                torch.cuda.empty_cache()
                log.warning("the device is out of memory; going on with batches of %d", self.batch_size)
                continue
            self._add(scores, batch, total, n_windows)
            start += len(batch)
        stitched = (total / n_windows)[:, :, block].cpu().numpy()
        stitched[:, :, ~target[block]] = np.nan
        return stitched if self.scoring.values == "tism" else stitched[:, 0]

    def _reach(self) -> slice:
        """Return the part of a window whose scores are used."""
        if self.scoring.stitch == "mean":
            return slice(0, self.lattice.input_bp)
        return slice(self.lattice.flank, self.lattice.flank + self.lattice.stride)

    def _add(self, scores: Tensor, batch: NDArray[np.int64], total: Tensor, n_windows: Tensor) -> None:
        """Add windows' scores, in their order, to the sums over the stretch."""
        reach = self._reach()
        for i_window, window_scores in zip(batch.tolist(), scores, strict=True):
            start = i_window * self.lattice.stride
            here = slice(start + reach.start, start + reach.stop)
            total[:, :, here] += window_scores
            n_windows[here] += 1

    def _score_windows(self, codes: Tensor) -> Tensor:
        """Return the scores, float32 (N, T, channels, reach), of windows' codes, uint8 (N, input_bp)."""
        X = self._one_hot[codes.long()].transpose(1, 2).contiguous()
        gradient = self._gradient(X)
        if self.scoring.strands == "both":
            other = self._gradient(X.flip(2)[:, self._complement])
            gradient = (gradient + other.flip(3)[:, :, self._complement]) / 2
        gradient = gradient[..., self._reach()][:, :, self._to_acgt]
        reference = X[..., self._reach()][:, None, self._to_acgt]
        if self.scoring.values == "tism":
            return tism_from_gradient(gradient, reference)
        return mean_tism_from_gradient(gradient, reference).unsqueeze(2)

    def _gradient(self, X: Tensor) -> Tensor:
        """Return df/dX, float32 (N, T, 4, input_bp), of each track."""
        X = X.detach().requires_grad_()
        with torch.enable_grad():
            outputs = self.model(X)
            if self.scoring.output_space == "probability":
                outputs = outputs.sigmoid()
            n_tracks = len(self.scoring.tracks)
            gradients = [
                torch.autograd.grad(_track_output(outputs, track), X, retain_graph=i_track + 1 < n_tracks)[0]
                for i_track, track in enumerate(self.scoring.tracks)
            ]
        return torch.stack(gradients, dim=1)


def _track_output(outputs: Tensor, track: Track) -> Tensor:
    """Return a track's weighted sum of outputs, summed over the batch: its gradient is each window's own."""
    if len(track.outputs) == 1 and track.weights[0] == 1:
        return outputs[:, track.outputs[0]].sum()
    weights = outputs.new_tensor(track.weights)
    return (outputs[:, list(track.outputs)] * weights).sum()


def _needed_windows(
    target: NDArray[np.bool_], reach: slice, stride: int, n_windows: int
) -> NDArray[np.int64]:
    """Return the windows of a stretch that score at least one of the bases aimed at."""
    n_before = np.concatenate(([0], np.cumsum(target)))
    starts = np.arange(n_windows) * stride
    return np.flatnonzero(n_before[starts + reach.stop] > n_before[starts + reach.start])
