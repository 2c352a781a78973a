"""How often each magnitude comes in a stream of scores, in memory that does not grow."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_EXPONENT_BITS, _MANTISSA_BITS = 8, 23
_SIGNLESS = np.uint32(0x7FFFFFFF)
_PIECE = 1 << 16  # as much as a core's cache holds


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

    def bins(self, scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the bin of each score's magnitude."""
        bins = np.empty(len(scores), dtype=np.intp)
        for start, bits in magnitude_bits(scores):
            bins[start : start + len(bits)] = bits >> self._dropped_bits
        return bins

    def lowest_in(self, i_bin: int) -> float:
        """Return the lowest magnitude of a bin."""
        return _float_of(i_bin << int(self._dropped_bits))

    def highest_in(self, i_bin: int) -> float:
        """Return the highest magnitude of a bin."""
        return _float_of(((i_bin + 1) << int(self._dropped_bits)) - 1)


def magnitude_bits(scores: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Yield the bits of scores without their sign, some at once, and where these begin.

    As numbers, they are in the order of the magnitudes.
    """
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    for start in range(0, len(bits), _PIECE):
        yield start, bits[start : start + _PIECE] & _SIGNLESS


def _float_of(bits: int) -> float:
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
