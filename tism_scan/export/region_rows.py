"""Rows of scores around peaks, kept in files without a name until they are written.

Rows come in any order, and each is put at its place. So memory is that of a batch of rows, however many peaks
there are, and an export that is killed leaves nothing of it behind.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import Codes
from tism_scan.genome.peaks import PeakSet

BATCH_BYTES = 8 << 20
_HALF_EXPONENT = 10  # the largest magnitude in float16 is from 2^9 to 2^10: room above for sums, below for
# small scores, of which those above 2^-14 keep all eleven bits


class Rows:
    """Rows of numbers in a file without a name: put in any order, read from the first to the last.

    Parameters
    ----------
    folder : Path
        On whose disk the file is; it is gone once it is closed, or the process ends.
    shape : tuple of int
        Number of rows, and the shape of one.
    dtype : type
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close`
        self.shape = shape
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._row_bytes: int = math.prod(shape[1:]) * self._dtype.itemsize

    def put(self, places: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write rows, (n, ...), at their places, (n,)."""
        values = np.ascontiguousarray(values, dtype=self._dtype)
        breaks: list[int] = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
        for first, last in zip([0, *breaks], [*breaks, len(places)], strict=True):
            self._file.seek(int(places[first]) * self._row_bytes)
            self._file.write(values[first:last].tobytes())

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, some at once."""
        self._file.seek(0)
        n_rows, n_at_once = self.shape[0], rows_at_once(self.shape[-1])
        for first in range(0, n_rows, n_at_once):
            n_here = min(n_at_once, n_rows - first)
            content = self._file.read(n_here * self._row_bytes)
            yield np.frombuffer(content, dtype=self._dtype).reshape(n_here, *self.shape[1:])

    def close(self) -> None:
        """Give the file's room back."""
        self._file.close()


def rows_at_once(width: int) -> int:
    """Return how many rows of a width are held in memory at once."""
    return max(1, BATCH_BYTES // (16 * width))


@dataclass
class BaseCounts:
    """Bases of rows that are zeros, by reason; one that is in several rows counts in each.

    Attributes
    ----------
    n_off_chrom : int
        Past the ends of the chroms.
    n_unwanted : int
        Not among the bases that were to be scanned; of exact ISM, to be refined.
    n_without_score : int
        N in the genome, or in a block that was not computed.
    n_unsure : int
        Bases whose scores are there and do not tell which base it is.
    n_empty_rows : int
        Rows without any score.
    """

    n_off_chrom: int = 0
    n_unwanted: int = 0
    n_without_score: int = 0
    n_unsure: int = 0
    n_empty_rows: int = 0

    @property
    def n_zeros(self) -> int:
        """Bases whose scores are zeros for want of a score."""
        return self.n_off_chrom + self.n_unwanted + self.n_without_score


class RowBatch(NamedTuple):
    """Some rows, and where they belong.

    Attributes
    ----------
    places : int64 (n,)
        The positions of their peaks.
    codes : uint8 (n, width)
    scores : float32 (n, 4, width)
    """

    places: NDArray[np.int64]
    codes: Codes
    scores: NDArray[np.float32]


@dataclass
class TrackRows:
    """Sequence and scores of one track around all peaks.

    Attributes
    ----------
    codes : Rows, uint8 (n, width)
        `N_CODE` without a score in the scan.
    scores : Rows, float32 (n, 4, width)
        Hypothetical scores: TISM minus its mean over the four bases, in A, C, G, T order; 0 without a score.
    highest : float
        The largest magnitude.
    counts : BaseCounts
    """

    codes: Rows
    scores: Rows
    highest: float = 0.0
    counts: BaseCounts = field(default_factory=BaseCounts)

    @classmethod
    def filled(
        cls,
        folder: Path,
        shape: tuple[int, int],
        batches: Callable[[BaseCounts], Iterator[RowBatch]],
        on_rows: Callable[[int], None],
    ) -> "TrackRows":
        """Return rows of some number and width, read from batches; what was kept of them goes if that fails.

        Parameters
        ----------
        folder : Path
            Where the rows are kept.
        shape : (int, int)
            Their number and width.
        batches : callable
            From the counts, to which it adds, to the batches.
        on_rows : callable
            Told of the number of rows that were read, batch by batch.
        """
        n, width = shape
        rows = cls(Rows(folder, shape, np.uint8), Rows(folder, (n, 4, width), np.float32))
        try:
            for places, codes, scores in batches(rows.counts):
                rows.highest = max(rows.highest, float(np.abs(scores).max()))
                rows.codes.put(places, codes)
                rows.scores.put(places, scores)
                on_rows(len(places))
        except BaseException:
            rows.close()
            raise
        return rows

    @property
    def half_scale(self) -> float:
        """The power of two that brings the largest magnitude to between 2^9 and 2^10, for float16."""
        if not self.highest:
            return 1.0
        return math.ldexp(1.0, min(_HALF_EXPONENT - math.frexp(self.highest)[1], 127))

    def batches(self) -> Iterator[tuple[Codes, NDArray[np.float32]]]:
        """Yield codes and scores of all rows in order, some at once."""
        yield from zip(self.codes.batches(), self.scores.batches(), strict=True)

    def close(self) -> None:
        """Give the files' room back."""
        self.codes.close()
        self.scores.close()


def starts_of(peaks: PeakSet, width: int) -> NDArray[np.int64]:
    """Return where the row of each peak begins, int64 (n,); before the chrom it is below 0."""
    return peaks.centers - width // 2
