"""The zoom levels of a bigWig: what its bases come to in ever longer bins, accumulated as they stream by."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.headers import FIRST_REDUCTION, REDUCTION_STEP

RECORD = np.dtype(
    [
        ("chrom", "<u4"),
        ("start", "<u4"),
        ("end", "<u4"),
        ("n_bases", "<u4"),
        ("minimum", "<f4"),
        ("maximum", "<f4"),
        ("total", "<f4"),
        ("squares", "<f4"),
    ]
)

# `bins`, float64 (5, n), have these rows: scored bases, their sum, sum of squares, minimum and maximum. Sums
# are rounded to float32 only when they go into a record.
_NOTHING = np.array([[0.0], [0.0], [0.0], [np.inf], [-np.inf]])
_LARGEST = float(np.finfo(np.float32).max)

Bins = NDArray[np.float64]
Records = NDArray[np.void]


class ZoomLevels:
    """Turns the scores of one chrom after another into the records of every zoom level.

    Memory does not grow with the chrom: each level keeps the bins, fewer than four, that do not fill one of
    its own yet.

    Parameters
    ----------
    reductions : sequence of int
        Bases per record of each level: 32 x 4^n.
    """

    def __init__(self, reductions: Sequence[int]) -> None:
        self._reductions = tuple(reductions)
        self.begin_chrom(0, 0)

    def begin_chrom(self, i_chrom: int, length: int) -> None:
        """Begin a chrom; of the one before, all bases were added."""
        self._i_chrom, self._length = i_chrom, length
        self._n_bases = 0
        self._waiting = [_NOTHING[:, :0] for _ in self._reductions]
        self._n_done = [0 for _ in self._reductions]

    def add(self, scores: NDArray[np.float32]) -> Iterator[tuple[int, Records]]:
        """Yield level and records of all bins that the next bases fill.

        Parameters
        ----------
        scores : float32 (n,)
            Finite, or NaN for a gap. The number of bases is a multiple of 32, or they end the chrom.
        """
        self._n_bases += len(scores)
        is_end = self._n_bases == self._length
        bins = finest_bins(scores)
        for level, reduction in enumerate(self._reductions):
            if level:
                bins = np.concatenate([self._waiting[level], bins], axis=1)
                n_full = bins.shape[1] // REDUCTION_STEP * REDUCTION_STEP
                if is_end:
                    missing = -bins.shape[1] % REDUCTION_STEP
                    bins = np.concatenate([bins, np.repeat(_NOTHING, missing, axis=1)], axis=1)
                    n_full = bins.shape[1]
                self._waiting[level] = bins[:, n_full:]
                bins = merged(bins[:, :n_full])
            yield level, self._records(level, reduction, bins)

    def _records(self, level: int, reduction: int, bins: Bins) -> Records:
        """Return a record of each bin that has a score."""
        filled = np.flatnonzero(bins[0])
        records = np.zeros(len(filled), RECORD)
        starts = (self._n_done[level] + filled) * reduction
        self._n_done[level] += bins.shape[1]
        records["chrom"] = self._i_chrom
        records["start"] = starts
        records["end"] = np.minimum(starts + reduction, self._length)
        bounded = np.clip(bins[:, filled], -_LARGEST, _LARGEST)  # sums of very large scores are no float32
        for row, field in enumerate(("n_bases", "total", "squares", "minimum", "maximum")):
            records[field] = bounded[row]
        return records


def finest_bins(scores: NDArray[np.float32]) -> Bins:
    """Return the bins of the finest level, float64 (5, n), of bases that begin at the first one's start."""
    missing = -len(scores) % FIRST_REDUCTION
    if missing:
        scores = np.concatenate([scores, np.full(missing, np.nan, np.float32)])
    # With the bases of a bin below each other, each step below is one sweep over long rows.
    columns = np.ascontiguousarray(scores.reshape(-1, FIRST_REDUCTION).T)
    is_scored = ~np.isnan(columns)
    bins = np.empty((5, columns.shape[1]))
    bins[0] = is_scored.sum(axis=0)
    if is_scored.all():
        bins[3], bins[4] = columns.min(axis=0), columns.max(axis=0)
    else:
        bins[3] = np.where(is_scored, columns, np.float32(np.inf)).min(axis=0)
        bins[4] = np.where(is_scored, columns, np.float32(-np.inf)).max(axis=0)
        columns = np.where(is_scored, columns, np.float32(0))
    wide = columns.astype(np.float64)
    bins[1] = wide.sum(axis=0)
    bins[2] = np.einsum("ij,ij->j", wide, wide)
    return bins


def merged(bins: Bins) -> Bins:
    """Return bins of four times the length."""
    fours = bins.reshape(5, -1, REDUCTION_STEP)
    longer = np.empty(fours.shape[:2])
    fours[:3].sum(axis=2, out=longer[:3])
    fours[3].min(axis=1, out=longer[3])
    fours[4].max(axis=1, out=longer[4])
    return longer
