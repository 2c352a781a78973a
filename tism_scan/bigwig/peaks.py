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
            for i, bound in enumerate(self._bounds(chrom, n_whole)):
                found.append((bound, chrom, i * BIN_BP, (i + 1) * BIN_BP))
            if length % BIN_BP:
                # Of many short chroms, to read the scores takes a third of the time.
                magnitudes = np.abs(self.scores(chrom, n_whole * BIN_BP, length))
                bound = float(np.nan_to_num(magnitudes).max())
                found.append((bound, chrom, n_whole * BIN_BP, length))
        return sorted((each for each in found if each[0] > 0), key=lambda each: (-each[0], *each[1:]))

    def scores(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Return the scores of a place, NaN where there is none; what is past the chrom's end is left out."""
        end = min(end, self._chroms[chrom])
        found: NDArray[np.float32] = self._bigwig.values(chrom, start, end, numpy=True)
        return found

    def _bounds(self, chrom: str, n_bins: int) -> list[float]:
        """Return the bounds of a chrom's whole bins, from the zoom levels."""
        if not n_bins:
            return []
        extremes = [
            self._bigwig.stats(chrom, 0, n_bins * BIN_BP, type=kind, nBins=n_bins, exact=False)
            for kind in ("max", "min")
        ]
        return [
            max(abs(highest or 0.0), abs(lowest or 0.0)) for highest, lowest in zip(*extremes, strict=True)
        ]
