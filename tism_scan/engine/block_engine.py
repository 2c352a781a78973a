"""What the engines have in common: from the scores of windows to those of a block."""

from abc import abstractmethod
from functools import partial
from typing import Protocol, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.devices import default_device, device_name
from tism_scan.engine.fitting import FittingBatches
from tism_scan.engine.half import sums_in_float32
from tism_scan.engine.limits import Limits
from tism_scan.engine.queue import Mark, Queued, to_device, to_host
from tism_scan.engine.tism import mean_tism_from_gradient, tism_from_gradient
from tism_scan.errors import PlanError, ScanError
from tism_scan.genome.alphabet import Codes, channel_of_base, complement_channels, is_acgt, one_hot_table
from tism_scan.models.contract import Model
from tism_scan.models.frozen import check_batch_size, frozen
from tism_scan.models.rounding import rounding
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Stretch


class Engine(Protocol):
    """Computes the scores of blocks.

    Attributes
    ----------
    scoring : Scoring
        Which number is computed.
    name : str
        The engine's kind.
    device : torch.device
    share_done : float
        The part of a block's windows that were computed, below 1, while `queue` runs; else 0. Another thread
        may read it.
    """

    scoring: Scoring

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def share_done(self) -> float: ...  # noqa: D102

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, that a window's scores need in a long stretch."""
        ...

    def queue(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> Queued:
        """Have the device compute the scores of a stretch's block, NaN where a base is not wanted."""
        ...

    def score(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the scores of a stretch's block, NaN where a base is not wanted."""
        ...


class BlockEngine(FittingBatches):
    """What the engines have in common: from windows' scores to those of a block.

    Parameters
    ----------
    model : Model
        Maps float (N, 4, input_bp) to logits (N, n_outputs); has `input_bp`, `alphabet` and `n_outputs`. The
        engine takes it over: it is moved to `device`, frozen and put in evaluation mode.
    scoring : Scoring
        Which number is computed.
    limits
        See `Limits`; a subclass chooses the batch size that is left out.

    Raises
    ------
    ValueError
        If the scoring is for windows of another length than the model's, or names an output that the model
        does not have, or the batch size is less than 1.
    PlanError
        If the device does not know the scoring's precision.

    Attributes
    ----------
    device, share_done
        As for `Engine`.
    """

    device: torch.device
    share_done: float

    def __init__(self, model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> None:
        if scoring.input_bp != model.input_bp:
            raise ValueError(f"the plan's windows have {scoring.input_bp} bp, the model's {model.input_bp}")
        largest = max(max(track.outputs) for track in scoring.tracks)
        if largest >= model.n_outputs:
            raise ValueError(f"output {largest} of {model.n_outputs} is asked for")
        batch_size = limits.get("batch_size")
        self.batch_size = 1 if batch_size is None else batch_size
        check_batch_size(self.batch_size)
        self.device = torch.device(limits.get("device") or default_device())
        if scoring.precision == "tf32" and self.device.type != "cuda":
            raise PlanError(
                f"precision 'tf32' is a GPU's, and this device is {device_name(str(self.device))}; use "
                "--precision fp32, mixed, split, fp16 or bf16, or compute where there is a GPU"
            )
        if scoring.precision in ("split", "fp16") and self.device.type == "cuda" and not sums_in_float32():
            raise PlanError(
                f"precision {scoring.precision!r} needs PyTorch 2.8 or later on a GPU, and this is "
                f"{torch.__version__}; install it, or use --precision mixed"
            )
        self.model = model.to(self.device).requires_grad_(False).eval()
        self.scoring = scoring
        self.lattice = scoring.lattice
        self.share_done = 0.0
        alphabet = model.alphabet
        self._one_hot = torch.from_numpy(one_hot_table(alphabet)).to(self.device)
        self._to_acgt = torch.from_numpy(channel_of_base(alphabet)).to(self.device)
        self._complement = torch.from_numpy(complement_channels(alphabet)).to(self.device)

    @property
    def name(self) -> str:
        """The engine's kind."""
        return type(self).__name__

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

        Raises
        ------
        ScanError
            If a single window is too much for the device's memory.
        """
        return self.queue(codes, stretch, wanted).scores()

    def queue(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> Queued:
        """Have the device compute what `score` returns; the thread that takes the scores may be another.

        Parameters and errors are those of `score`.
        """
        block = slice(stretch.block.start - stretch.start, stretch.block.end - stretch.start)
        target = np.zeros(len(codes), dtype=np.bool_)
        target[block] = wanted & is_acgt(codes[block])
        where = needed_windows(target, self.scoring.reach, self.lattice.stride, stretch.n_windows)
        where = stretch.existing(where)
        to_tf32 = self.scoring.precision in ("tf32", "bf16")  # what bfloat16 leaves to float32 needs no more
        began = Mark(self.device)
        try:
            with frozen(self.model), rounding(self.device, to_tf32=to_tf32):
                on_host = self._fitted(partial(self._stitched, codes, where, block))
        finally:
            self.share_done = 0.0

        def finish(stitched: NDArray[np.float32]) -> NDArray[np.float32]:
            stitched[:, :, ~target[block]] = np.nan
            return stitched if self.scoring.values == "tism" else stitched[:, 0]

        return Queued(on_host, ((began, Mark(self.device)),), finish)

    def _stitched(self, codes: Codes, where: NDArray[np.int64], block: slice) -> Tensor:
        """Return the scores of a block, (T, channels, len(block)), from the windows that are needed."""
        shape = (len(self.scoring.tracks), self.scoring.n_channels, len(codes))
        total = torch.zeros(shape, dtype=torch.float32, device=self.device)
        all_codes = to_device(codes, self.device)
        n_done = 0
        while n_done < len(where):
            self.share_done = n_done / len(where)
            n_done += self._add_first(all_codes, where[n_done:], total)
        here = total[:, :, block]
        if self.scoring.stitch == "mean":
            n_windows = _windows_over(where, self.scoring.reach, self.lattice.stride, len(codes))[block]
            here /= to_device(n_windows, self.device)
        return to_host(here)

    @abstractmethod
    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, that a window's scores need in a long stretch."""

    @abstractmethod
    def _add_first(self, codes: Tensor, where: NDArray[np.int64], total: Tensor) -> int:
        """Add the scores of the first windows to a stretch's sums, and return how many windows were added.

        Parameters
        ----------
        codes : uint8 (L,)
            Of the whole stretch.
        where : int64 (n,)
            The windows that are still to be computed, in order.
        total : float32 (T, channels, L)
            Sums of scores.
        """

    def _too_large(self, memory: str) -> str:
        return (
            f"one window of {len(self.scoring.tracks):,} tracks does not fit {memory}; scan fewer tracks at "
            "once, or use a larger device"
        )

    def _encode(self, codes: Tensor) -> Tensor:
        """Return codes, uint8 (N, L), as the model reads them, float32 (N, 4, L)."""
        return self._one_hot[codes.long()].transpose(1, 2).contiguous()

    def _to_scores(self, gradient: Tensor, X: Tensor) -> Tensor:
        """Return scores, (N, T, channels, L), of gradients, (N, T, 4, L), in the model's channel order."""
        gradient, reference = gradient[:, :, self._to_acgt], X[:, None, self._to_acgt]
        if self.scoring.values == "tism":
            return tism_from_gradient(gradient, reference)
        return mean_tism_from_gradient(gradient, reference).unsqueeze(2)


def needed_windows(target: NDArray[np.bool_], reach: slice, stride: int, n_windows: int) -> NDArray[np.int64]:
    """Return the windows of a stretch that score at least one of the bases aimed at.

    Parameters
    ----------
    target : bool (L,)
        The bases aimed at, of a stretch's L.
    reach : slice
        Where a window's scores are used, within it.
    stride, n_windows : int
        Of the stretch.

    Returns
    -------
    int64 (n,)
        Positions of windows within the stretch.
    """
    if not n_windows:
        return np.zeros(0, dtype=np.int64)
    # In parts a stride long, of which a reach is whole ones and the beginning of one more.
    n_whole, rest = divmod(reach.stop - reach.start, stride)
    parts = target[reach.start : reach.start + (n_windows - 1 + n_whole) * stride].reshape(-1, stride)
    is_needed = _any_of_the_next(np.logical_or.reduce(parts, axis=1), n_whole, n_windows)
    if rest:
        ends = np.lib.stride_tricks.sliding_window_view(target[reach.start + n_whole * stride :], rest)
        is_needed |= ends[::stride][:n_windows].any(1)
    return np.flatnonzero(is_needed)


def _any_of_the_next(is_set: NDArray[np.bool_], n: int, n_windows: int) -> NDArray[np.bool_]:
    """Return for each of the first windows whether one of `n` parts from its own on is set."""
    n_before = np.concatenate(([0], np.cumsum(is_set)))
    firsts = np.arange(n_windows)
    found: NDArray[np.bool_] = n_before[firsts + n] > n_before[firsts]
    return found


def check_finite(
    scores: NDArray[np.float32], is_due: NDArray[np.bool_], chrom: str, start: int, *, remedy: str
) -> None:
    """Raise unless every base that must have scores has finite ones.

    Parameters
    ----------
    scores : float32 (..., L)
    is_due : bool (L,)
        The bases that must have scores.
    chrom, start : str and int
        Where the first base is, 0-based.
    remedy : str
        What the user can do; it ends the error's message.

    Raises
    ------
    ScanError
        Names the first base where a score is NaN or infinite.
    """
    is_missing = np.zeros(is_due.shape, dtype=np.bool_)
    for place in np.ndindex(scores.shape[:-1]):
        is_missing |= is_due & ~np.isfinite(scores[place])
    if is_missing.any():
        first = start + int(np.flatnonzero(is_missing)[0]) + 1
        raise ScanError(f"the model gives NaN or infinity at {chrom}:{first:,}; {remedy}")


def _windows_over(where: NDArray[np.int64], reach: slice, stride: int, length: int) -> NDArray[np.float32]:
    """Return how many of some windows of a stretch reach each of its bases, (length,); 1 where none does."""
    steps = np.zeros(length + 1)
    steps[where * stride + reach.start] += 1
    steps[where * stride + reach.stop] -= 1
    return np.maximum(np.cumsum(steps[:-1]), 1).astype(np.float32)
