"""Ranks of magnitudes among very many, exact, in one or two passes and bounded memory.

PHRED is -10 log10(rank / N), where the rank of a magnitude is the number of those at or above it. To two
decimals, it takes about 1,000 steps for each power of ten of N; each step begins right above one order
statistic. The first pass counts magnitudes in bins of 1/2**14 of their size, which says in which bins these
order statistics are; the second counts every float32 number of those bins. Where the scores were rounded to
14 bits of mantissa or fewer, each bin is one number, and there is no second pass.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.magnitudes import Magnitudes, magnitude_bits

MANTISSA_BITS = 14
_SUB_BITS = 23 - MANTISSA_BITS
_N_SUB = 1 << _SUB_BITS
_SUB_MASK = np.uint32(_N_SUB - 1)
STEPS_OF_TEN = 1_000  # PHRED's hundredths for each power of ten

Scores = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class RankTable:
    """What gives magnitudes their PHRED.

    Attributes
    ----------
    n : int
        How many magnitudes were ranked.
    edges : float32 (K,)
        In order; a magnitude above `edges[i]` has a PHRED of at least `hundredths[i]` / 100.
    hundredths : int32 (K,)
    """

    n: int
    edges: NDArray[np.float32]
    hundredths: NDArray[np.int32]

    def phred(self, scores: Scores) -> NDArray[np.float64]:
        """Return the PHRED of scores to two decimals, float64; 0 for the least magnitude, NaN for NaN."""
        steps = np.concatenate([np.zeros(1, dtype=np.int32), self.hundredths])
        found = steps[np.searchsorted(self.edges, np.abs(scores), side="left")] / 100
        ranked: NDArray[np.float64] = np.where(np.isnan(scores), np.nan, found)
        return ranked

    def lowest_above(self, phred: float) -> float:
        """Return the magnitude above which PHRED is at least so much; infinity if none has so much."""
        i = int(np.searchsorted(self.hundredths, round(100 * phred), side="left"))
        return float(self.edges[i]) if i < len(self.edges) else math.inf


def ranks_of_steps(n: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return, for each step of PHRED that any rank reaches, the last rank that does, and the step.

    Returns
    -------
    int64 (K,), int32 (K,)
        Steps are hundredths, rounded to the nearest; of several with the same last rank, the highest.
    """
    n_steps = math.floor(STEPS_OF_TEN * math.log10(n) + 0.5) if n else 0
    steps = np.arange(1, n_steps + 1)
    ranks = np.floor(n * 10.0 ** (-(steps - 0.5) / STEPS_OF_TEN)).astype(np.int64)
    is_last = np.append(ranks[1:] != ranks[:-1], True)[: len(ranks)] & (ranks > 0)
    return ranks[is_last], steps[is_last].astype(np.int32)


class Tally(Magnitudes):
    """The counts of a first pass.

    Attributes
    ----------
    counts : int64 (2**22,)
        How many magnitudes are in each bin.
    is_exact : bool
        Whether every bin holds its lowest number only.
    """

    def __init__(self) -> None:
        super().__init__(MANTISSA_BITS)
        self.is_exact = True

    def add(self, scores: Scores) -> None:
        """Count scores, float32 (n,), all finite."""
        super().add(scores)
        if self.is_exact:
            lower = (np.bitwise_or.reduce(bits) & _SUB_MASK for _, bits in magnitude_bits(scores))
            self.is_exact = not any(lower)


def places_from_top(
    counts: Counts, targets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bin of each target-th largest value, and which largest of its bin it is.

    Parameters
    ----------
    counts : int64 (B,)
        In ascending order of what is counted.
    targets : int64 (K,)
        From 1 for the largest.
    """
    filled = np.flatnonzero(counts)[::-1]
    reached = np.cumsum(counts[filled])
    i = np.searchsorted(reached, targets, side="left")
    before = np.concatenate([[0], reached])[i]
    return filled[i], targets - before


class Refinement:
    """Counts every float32 number of some bins.

    Parameters
    ----------
    bins : int64 (n,)
        Sorted, each once.

    Attributes
    ----------
    counts : int64 (n, 512)
    """

    def __init__(self, bins: NDArray[np.int64]) -> None:
        self._bins = bins
        self._is_refined = np.zeros(1 << (8 + MANTISSA_BITS), dtype=bool)
        self._is_refined[bins] = True
        self.counts = np.zeros((len(bins), _N_SUB), dtype=np.int64)

    def add(self, scores: Scores) -> None:
        """Count scores, float32 (n,), all finite; those in other bins are ignored."""
        for _, bits in magnitude_bits(scores):
            within = bits[self._is_refined[(bits >> _SUB_BITS).astype(np.intp)]]
            slots = np.searchsorted(self._bins, within >> _SUB_BITS)
            np.add.at(self.counts.ravel(), slots * _N_SUB + (within & _SUB_MASK), 1)


def bins_to_refine(counts: Counts) -> NDArray[np.int64]:
    """Return the bins that hold the order statistics of a table, sorted, each once."""
    ranks, _ = ranks_of_steps(int(counts.sum()))
    bins, _ = places_from_top(counts, ranks + 1)
    return np.unique(bins)


def rank_table(counts: Counts, bins: NDArray[np.int64], refined: Counts) -> RankTable:
    """Return the table of what both passes counted.

    Parameters
    ----------
    counts : int64 (B,)
        Of the first pass.
    bins : int64 (n,)
        See `bins_to_refine`.
    refined : int64 (n, 512)
        Of the second pass.
    """
    n = int(counts.sum())
    ranks, steps = ranks_of_steps(n)
    in_bin, nth = places_from_top(counts, ranks + 1)
    slots = np.searchsorted(bins, in_bin)
    above = _n_above(refined.sum(axis=1))[slots]  # in higher bins that were refined
    places, _ = places_from_top(refined.ravel(), above + nth)
    edges = (in_bin << _SUB_BITS) + places % _N_SUB
    return _without_repeats(n, edges.astype(np.uint32).view(np.float32), steps)


def exact_table(counts: Counts) -> RankTable:
    """Return the table of a first pass whose bins each hold their lowest number only."""
    n = int(counts.sum())
    ranks, steps = ranks_of_steps(n)
    bins, _ = places_from_top(counts, ranks + 1)
    return _without_repeats(n, (bins << _SUB_BITS).astype(np.uint32).view(np.float32), steps)


def _n_above(counts: Counts) -> Counts:
    """Return how many values are in the bins after each."""
    above: Counts = counts.sum() - np.cumsum(counts)
    return above


def _without_repeats(n: int, edges: NDArray[np.float32], steps: NDArray[np.int32]) -> RankTable:
    """Return a table with one step for each edge: the highest, since ties share their PHRED."""
    is_last: NDArray[np.bool_] = np.append(edges[1:] != edges[:-1], True)[: len(edges)]
    return RankTable(n, edges[is_last], steps[is_last])
