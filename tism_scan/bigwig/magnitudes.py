"""How often each magnitude comes in a stream of scores, in memory that does not grow."""

import numpy as np
from numpy.typing import NDArray

_EXPONENT_BITS, _MANTISSA_BITS = 8, 23


class Magnitudes:
    """A histogram of magnitudes whose bins are float32 numbers without sign and lowest bits.

    Parameters
    ----------
    mantissa_bits : int
        Bits of mantissa that tell bins apart: a bin is 1/2**mantissa_bits of its magnitude wide.

    Attributes
    ----------
    counts : int64 (2**(8 + mantissa_bits),)
    """

    def __init__(self, mantissa_bits: int) -> None:
        self._dropped_bits = np.uint32(_MANTISSA_BITS - mantissa_bits)
        self.counts = np.zeros(1 << (_EXPONENT_BITS + mantissa_bits), dtype=np.int64)

    def add(self, scores: NDArray[np.float32]) -> None:
        """Count scores, float32 (n,), all finite."""
        found = np.bincount(self.bins(scores))
        self.counts[: len(found)] += found

    def bins(self, scores: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Return the bin of each score's magnitude."""
        bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF)
        bins: NDArray[np.uint32] = bits >> self._dropped_bits
        return bins

    def lowest_in(self, i_bin: int) -> float:
        """Return the lowest magnitude of a bin."""
        return _float_of(i_bin << int(self._dropped_bits))

    def highest_in(self, i_bin: int) -> float:
        """Return the highest magnitude of a bin."""
        return _float_of(((i_bin + 1) << int(self._dropped_bits)) - 1)


def _float_of(bits: int) -> float:
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
