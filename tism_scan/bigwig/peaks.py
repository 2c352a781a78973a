"""Where the largest magnitudes of a bigWig are, by its zoom levels, without a pass over all scores."""

from pathlib import Path
from types import TracebackType

import numpy as np
import pyBigWig
from numpy.typing import NDArray

BIN_BP = 1 << 15  # 32 x 4^5: whole records of a zoom level


class Peaks:
    """A bigWig, open for a look at its peaks; a context manager.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._bigwig = pyBigWig.open(str(path))
        self._chroms: dict[str, int] = dict(self._bigwig.chroms())

    def __enter__(self) -> "Peaks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bigwig.close()

    def bins(self) -> list[tuple[float, str, int, int]]:
        """Return bound on the magnitudes, chrom, start and end of all bins with scores, the largest first."""
        found = []
        for chrom, length in self._chroms.items():
            n_whole = length // BIN_BP
            ends = [n_whole * BIN_BP] * bool(n_whole) + [length] * bool(length % BIN_BP)
            start = 0
            for end in ends:
                n_bins = max(1, (end - start) // BIN_BP)
                bounds = np.maximum(
                    np.abs(self._stats(chrom, start, end, "max", n_bins)),
                    np.abs(self._stats(chrom, start, end, "min", n_bins)),
                )
                for i in np.flatnonzero(bounds > 0):
                    first = start + int(i) * BIN_BP
                    found.append((float(bounds[i]), chrom, first, min(first + BIN_BP, end)))
                start = end
        return sorted(found, key=lambda each: (-each[0], *each[1:]))

    def scores(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Return the scores of a place, NaN where there is none; what is past the chrom's end is left out."""
        end = min(end, self._chroms[chrom])
        found: NDArray[np.float32] = self._bigwig.values(chrom, start, end, numpy=True)
        return found

    def _stats(self, chrom: str, start: int, end: int, kind: str, n_bins: int) -> NDArray[np.float64]:
        values = self._bigwig.stats(chrom, start, end, type=kind, nBins=n_bins, exact=False)
        return np.nan_to_num(np.array([0 if value is None else value for value in values], np.float64))
