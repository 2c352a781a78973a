"""The engine of an ensemble: each model's own engine, and the mean of their scores of a block.

TISM is linear in the gradient, so that TISM of the mean of the models' outputs is the mean of their TISM.
With output space "probability", it is that of the mean of their probabilities.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.queue import Queued
from tism_scan.errors import PlanError
from tism_scan.genome.alphabet import Codes
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import Ensemble
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Stretch


class EnsembleEngine:
    """Scores blocks by the mean over models, or by the mean and the standard deviation.

    Parameters
    ----------
    engines : sequence of Engine
        One for each model, made for what `scoring_of_member` returns.
    scoring : Scoring
        With values "mean+sd", the standard deviation of mean TISM over the n models, with n - 1 in the
        denominator, stands beside the mean.
    """

    def __init__(self, engines: Sequence[Engine], scoring: Scoring) -> None:
        self.scoring, self._engines = scoring, list(engines)
        self._n_done = 0

    @property
    def name(self) -> str:
        """The engine's kind, and of how many models."""
        kinds = dict.fromkeys(engine.name for engine in self._engines)
        return f"{len(self._engines)} x {' or '.join(kinds)}"

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""
        return self._engines[0].device

    @property
    def share_done(self) -> float:
        """The part of a block's windows that were computed, over all models, while `queue` runs; else 0."""
        return (self._n_done + sum(engine.share_done for engine in self._engines)) / len(self._engines)

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, that a window's scores need in a long stretch."""
        return sum(engine.flop_per_window() for engine in self._engines)

    def score(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the mean of the models' scores of a stretch's block, and their standard deviation.

        Parameters
        ----------
        codes, stretch, wanted
            As for `BlockEngine.score`, whose errors this method shares.

        Returns
        -------
        float32 (T, len(block)), (T, 4, len(block)) for ``values="tism"``, (T, 2, len(block)) for "mean+sd"
        """
        return self.queue(codes, stretch, wanted).scores()

    def queue(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> Queued:
        """Have the device compute what `score` returns; see `BlockEngine.queue`."""
        sums = _Sums(has_sd=self.scoring.values == "mean+sd")
        try:
            last = self._engines[0].queue(codes, stretch, wanted)
            spans = last.spans
            for engine in self._engines[1:]:
                self._n_done += 1
                last, before = engine.queue(codes, stretch, wanted), last
                spans += last.spans
                sums.add(before.scores())  # while the device goes on
        finally:
            self._n_done = 0
        return replace(last, spans=spans, finish=lambda values: sums.ended_by(last.finish(values)))


class _Sums:
    """What the mean over models, and their standard deviation, are made of.

    Sums are float64, and of differences from the first model, so that equal models have their own scores as
    mean, to the bit, and a standard deviation of 0.
    """

    def __init__(self, *, has_sd: bool) -> None:
        self._has_sd, self._n = has_sd, 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """Add the scores of one more model."""
        self._n += 1
        if self._n == 1:
            self._first, self._total = scores, np.zeros(scores.shape)
            self._squares = np.zeros(scores.shape if self._has_sd else 0)
            return
        with np.errstate(invalid="ignore", over="ignore"):  # infinity is refused where scores are checked
            apart = scores.astype(np.float64) - self._first
            self._total += apart
            if self._has_sd:
                self._squares += apart**2

    def ended_by(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the scores of the last model, and return the mean, with the standard deviation if asked for."""
        self.add(scores)
        with np.errstate(invalid="ignore", over="ignore"):
            mean: NDArray[np.float32] = (self._first + self._total / self._n).astype(np.float32)
            if not self._has_sd:
                return mean
            variance = np.maximum(self._squares - self._total**2 / self._n, 0) / (self._n - 1)
            sd = np.sqrt(variance).astype(np.float32)
        return np.stack([mean, sd], axis=1)


def scoring_of_member(scoring: Scoring) -> Scoring:
    """Return what the engine of one model of an ensemble computes."""
    return replace(scoring, values="mean") if scoring.values == "mean+sd" else scoring


def check_has_several(model: Model, scoring: Scoring) -> None:
    """Raise unless there are several models, where their standard deviation is asked for.

    Raises
    ------
    PlanError
    """
    if scoring.values == "mean+sd" and not isinstance(model, Ensemble):
        raise PlanError(
            "values 'mean+sd' is the standard deviation over several models, and there is one; expected two "
            "or more; give --weights for each of them, or use --values mean"
        )
