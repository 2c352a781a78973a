"""What a track holds in sum, counted while its scores stream by."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.magnitudes import Magnitudes

LIMIT_QUANTILE = Fraction(999, 1000)

_MANTISSA_BITS = 8


@dataclass(frozen=True)
class BigWigSummary:
    """What a bigWig holds. A track without any score has the number 0 everywhere.

    Attributes
    ----------
    path : Path
    n_bases : int
        Bases that have a score.
    minimum, maximum : float
    total : float
        Sum of all scores, added up in float64.
    limit : float
        Where a browser's axis should end, on either side of 0: 99.9 % of all scores are within it. The 99.9th
        percentile of their magnitudes, or up to 1/256 more.
    """

    path: Path
    n_bases: int
    minimum: float
    maximum: float
    total: float
    limit: float


class Tally:
    """Counts finite scores as they come, in memory that does not grow.

    Attributes
    ----------
    n_bases : int
    total, total_of_squares : float
        Added up in float64, block by block.
    """

    def __init__(self) -> None:
        self.n_bases = 0
        self._minimum, self._maximum = math.inf, -math.inf
        self.total = 0.0
        self.total_of_squares = 0.0
        self._magnitudes = Magnitudes(_MANTISSA_BITS)

    def add(self, scores: NDArray[np.float32]) -> None:
        """Count scores, float32 (n,), all finite."""
        if not len(scores):
            return
        self.n_bases += len(scores)
        self._minimum = min(self._minimum, float(scores.min()))
        self._maximum = max(self._maximum, float(scores.max()))
        wide = scores.astype(np.float64)
        self.total += float(wide.sum())
        self.total_of_squares += float(wide @ wide)
        self._magnitudes.add(scores)

    @property
    def minimum(self) -> float:
        """The lowest score, 0 if there is none."""
        return self._minimum if self.n_bases else 0.0

    @property
    def maximum(self) -> float:
        """The highest score, 0 if there is none."""
        return self._maximum if self.n_bases else 0.0

    @property
    def limit(self) -> float:
        """The 99.9th percentile of the scores' magnitudes, or the largest number in its bin."""
        if not self.n_bases:
            return 0.0
        rank = math.ceil(LIMIT_QUANTILE * self.n_bases)
        i_bin = int(np.searchsorted(np.cumsum(self._magnitudes.counts), rank))
        return min(self._magnitudes.highest_in(i_bin), max(abs(self.minimum), abs(self.maximum)))

    def summary(self, path: Path) -> BigWigSummary:
        """Return what the bigWig at a path holds, after all scores were counted."""
        return BigWigSummary(path, self.n_bases, self.minimum, self.maximum, self.total, self.limit)
