"""Seqlets: runs of high magnitude, where the model sees something.

A base is high if its magnitude is among the highest of its track, by a quantile over all scored bases or by
limits that are given. High bases that are close together, with every base between them scored, are one
seqlet, from the first to the last; a seqlet with too few of them is dropped. The callers of tangermeme
(TF-MoDISco's and the recursive one) take their null from the array that they are given and hold it in memory,
so what they call would depend on how a genome is cut. This rule takes one pass for the threshold and one for
the calls, a block at a time, and its calls do not depend on the blocks.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.magnitudes import Magnitudes
from tism_scan.errors import InputError

Scores = NDArray[np.float32]

_MANTISSA_BITS = 12


@dataclass(frozen=True)
class Limits:
    """From which magnitude on a base is high, track by track.

    Attributes
    ----------
    magnitudes : tuple of float
        Of every track of the store; infinite if no base is.
    origin : str
        What they are, for the head of a file.
    """

    magnitudes: tuple[float, ...]
    origin: str


@dataclass(frozen=True)
class SeqletRule:
    """What counts as a seqlet.

    Parameters
    ----------
    quantile : float
        At least this part of a track's scored bases is not high, unless there are limits.
    max_gap : int
        Bases between two high ones of a seqlet, at most.
    min_high : int
        High bases of a seqlet, at least.
    limits : Limits, optional
        They take the place of the quantile.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    quantile: float = 0.997
    max_gap: int = 5
    min_high: int = 3
    limits: Limits | None = None

    def __post_init__(self) -> None:
        faults = []
        if not 0.5 <= self.quantile < 1:
            faults.append(
                f"quantile {self.quantile} is not from 0.5 to below 1; expected a number such as 0.997"
            )
        if self.max_gap < 0:
            faults.append(f"a gap of {self.max_gap} bases is impossible; expected 0 or more")
        if self.min_high < 1:
            faults.append(f"{self.min_high} high bases are no seqlet; expected 1 or more")
        if faults:
            raise InputError("; ".join(faults))

    def __str__(self) -> str:
        begins = f"quantile {self.quantile}" if self.limits is None else self.limits.origin
        return f"{begins}, gap {self.max_gap}, at least {self.min_high} high bases"

    def expected_by_chance(self, n_bases: int, n_high: int) -> float:
        """Return how many seqlets high bases would make if they were scattered independently.

        Scores of neighbours are alike, so the true number is higher.
        """
        if n_bases == 0:
            return 0.0
        is_high = n_high / n_bases
        is_alone = (1 - is_high) ** (self.max_gap + 1)
        return n_high * is_alone * float((1 - is_alone) ** (self.min_high - 1))


@dataclass(frozen=True)
class Seqlets:
    """Seqlets of one track on one chrom, in order.

    Attributes
    ----------
    start, end : int64 (n,)
        Half-open, 0-based.
    total : float64 (n,)
        Sum of the scores of all bases within, high or not.
    magnitude : float64 (n,)
        Sum of their magnitudes.
    extreme : float32 (n,)
        The score of the greatest magnitude, with its sign.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    total: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    extreme: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.start)


class ScoredMagnitudes(Magnitudes):
    """Counts how often each magnitude comes in a track, to within 1/4096 of it."""

    def __init__(self) -> None:
        super().__init__(_MANTISSA_BITS)

    def add(self, scores: Scores) -> None:
        """Count the scores that are numbers.

        Raises
        ------
        ValueError
            If one is infinite.
        """
        numbers = scores[~np.isnan(scores)]
        if np.isinf(numbers).any():
            raise ValueError("a score is infinite")
        super().add(numbers)

    @property
    def n_bases(self) -> int:
        """How many scores were counted."""
        return int(self.counts.sum())

    def n_high(self, threshold: float) -> int:
        """Return how many magnitudes are at or above a threshold; exact for those of `threshold`."""
        if math.isinf(threshold):
            return 0
        return int(self.counts[int(self.bins(np.array([threshold]))[0]) :].sum())

    def threshold(self, quantile: float) -> float:
        """Return the lowest edge of a filled bin that no more than ``1 - quantile`` of all magnitudes reach.

        Infinity if there is no such edge. Never 0: a base without any effect is not high.
        """
        allowed = (1 - quantile) * self.n_bases
        reaching = np.cumsum(self.counts[::-1])[::-1]
        edges = np.flatnonzero(reaching[1:] <= allowed) + 1
        if not len(edges) or reaching[edges[0]] == 0:
            return math.inf
        return self.lowest_in(int(edges[0] + np.flatnonzero(self.counts[edges[0] :])[0]))

    @property
    def highest(self) -> float:
        """The upper edge of the highest magnitude's bin; 0 if there is none."""
        filled = np.flatnonzero(self.counts)
        return self.highest_in(int(filled[-1])) if len(filled) else 0.0


def find_seqlets(
    pieces: Iterable[tuple[int, Scores]], threshold: float, rule: SeqletRule
) -> Iterator[Seqlets]:
    """Yield the seqlets of a chrom, however it is cut into pieces.

    Parameters
    ----------
    pieces : iterable of (start, scores)
        In order; where one does not begin at the end of the one before, the bases between have no score.
        Memory is that of a piece and of the longest seqlet.
    threshold : float
        Magnitude from which on a base is high.
    rule : SeqletRule
    """
    held, offset = np.empty(0, dtype=np.float32), 0
    for start, scores in pieces:
        if start != offset + len(held):
            yield _seqlets(held, offset, _runs(held, threshold, rule.max_gap), rule)
            held, offset = held[:0], start
        held = np.concatenate([held, scores])
        runs = _runs(held, threshold, rule.max_gap)
        # The next piece may begin with a high base that belongs to the last run.
        is_open = len(runs[0]) > 0 and len(held) - runs[1][-1] <= rule.max_gap
        n_whole = len(runs[0]) - is_open
        keep_from = int(runs[0][-1]) if is_open else len(held)
        first, last, n_high = runs
        yield _seqlets(held, offset, (first[:n_whole], last[:n_whole], n_high[:n_whole]), rule)
        held, offset = held[keep_from:], offset + keep_from
    yield _seqlets(held, offset, _runs(held, threshold, rule.max_gap), rule)


_Runs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _runs(scores: Scores, threshold: float, max_gap: int) -> _Runs:
    """Return where the runs of high bases begin and end, and how many high bases each has."""
    high = np.flatnonzero(np.abs(scores) >= threshold)
    if not len(high):
        return high, high, high
    n_unscored = np.cumsum(np.isnan(scores))[high]
    begins = np.flatnonzero((np.diff(high) > max_gap + 1) | (np.diff(n_unscored) > 0)) + 1
    begins = np.concatenate([[0], begins])
    ends = np.append(begins[1:], len(high))
    return high[begins], high[ends - 1] + 1, ends - begins


def _seqlets(scores: Scores, offset: int, runs: _Runs, rule: SeqletRule) -> Seqlets:
    """Return the seqlets among runs, whose positions count from `offset`."""
    is_kept = runs[2] >= rule.min_high
    first, end = runs[0][is_kept], runs[1][is_kept]
    if not len(first):
        return Seqlets(first, end, np.empty(0), np.empty(0), np.empty(0, dtype=np.float32))
    # One value more, so that a run may end at the scores' end; every second segment is between two runs.
    padded = np.append(scores, np.float32(0))
    cuts = np.stack([first, end], axis=1).ravel()
    exact = padded.astype(np.float64)
    total, magnitude = np.add.reduceat(exact, cuts)[::2], np.add.reduceat(np.abs(exact), cuts)[::2]
    highest, lowest = np.fmax.reduceat(padded, cuts)[::2], np.fmin.reduceat(padded, cuts)[::2]
    extreme = np.where(highest >= -lowest, highest, lowest)
    return Seqlets(first + offset, end + offset, total, magnitude, extreme)
