"""Short chroms that share one stored array, the pack: where each of them stands in it.

A draft assembly or a transcriptome has chroms by the thousand. As an array each, every one of them would
cost a few files, and a call of its own to compute it. In the pack they stand one after the other, each at the
start of a core, with N between them as far as a window reaches: no window sees two chroms, and the scores are
those that each chrom has by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.plan.tiling import Lattice, Stretch

PACK = "short chroms"  # no chrom has this name: in a FASTA, a space ends it
MOST_ARRAYS_OF_SHORT_CHROMS = 100
_SHORT_CHROMS_PER_BLOCK = 4  # a chrom is short if as many fit in a block
_GAPS_PER_BLOCK = 16


class Part(NamedTuple):
    """Bases of one chrom in the pack.

    Attributes
    ----------
    chrom : str
    start, end : int
        The bases, on the chrom.
    at : int
        Where the first of them stands in the pack.
    """

    chrom: str
    start: int
    end: int
    at: int


@dataclass(frozen=True, eq=False)
class Pack:
    """Short chroms in one array.

    Attributes
    ----------
    chroms : tuple of str
        In FASTA order.
    starts, lengths : int64 (n_chroms,)
        Where each begins in the array, and its length, bp.
    stride : int
        Of the lattice; each chrom begins at a multiple of it.
    """

    chroms: tuple[str, ...]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    stride: int

    @classmethod
    def of(cls, chroms: Mapping[str, int], lattice: Lattice) -> "Pack":
        """Return the pack of some chroms, given with their lengths."""
        lengths = np.fromiter(chroms.values(), np.int64, len(chroms))
        slots = _whole(lengths, lattice.stride) + gap_bp(lattice)
        return cls(tuple(chroms), np.cumsum(slots) - slots, lengths, lattice.stride)

    def __len__(self) -> int:
        """Return the length of the array, bp."""
        return int(self.starts[-1] + self.lengths[-1])

    @cached_property
    def start_of(self) -> dict[str, int]:
        """Where each chrom begins in the array."""
        return dict(zip(self.chroms, self.starts.tolist(), strict=True))

    def parts(self, start: int, end: int) -> list[Part]:
        """Return what stands at the positions [start, end) of the array, in order."""
        first = int(np.searchsorted(self.starts + self.lengths, start, side="right"))
        last = int(np.searchsorted(self.starts, end, side="left"))
        parts = []
        for chrom, at, length in zip(
            self.chroms[first:last],
            self.starts[first:last].tolist(),
            self.lengths[first:last].tolist(),
            strict=True,
        ):
            begin = max(start - at, 0)
            parts.append(Part(chrom, begin, min(end - at, length), at + begin))
        return parts

    def has_window(self, stretch: Stretch) -> NDArray[np.bool_]:
        """Return which windows of a stretch are of some chrom's lattice, bool (n_windows,).

        Those with their core in a gap are of none, even if they reach the end of a chrom.
        """
        cores = np.arange(stretch.first_window, stretch.end_window) * self.stride
        i_chrom = np.searchsorted(self.starts, cores, side="right") - 1
        has_window: NDArray[np.bool_] = cores < self.starts[i_chrom] + self.lengths[i_chrom]
        return has_window


def gap_bp(lattice: Lattice) -> int:
    """Return the number of N between two chroms of a pack: as far as a window reaches from its core."""
    return int(_whole(np.int64(lattice.flank), lattice.stride))


def short_chroms(chroms: Mapping[str, int], lattice: Lattice, block_bp: int) -> dict[str, int]:
    """Return the chroms that are better packed, with their lengths; none, if there are only a few of them.

    Parameters
    ----------
    chroms : mapping from str to int
        Length of every chrom that is to be scored, bp.
    lattice : Lattice
        A pack of windows that reach too far would hold little else than gaps.
    block_bp : int
    """
    short = {name: length for name, length in chroms.items() if length * _SHORT_CHROMS_PER_BLOCK <= block_bp}
    is_worthwhile = gap_bp(lattice) * _GAPS_PER_BLOCK <= block_bp
    return short if is_worthwhile and len(short) > MOST_ARRAYS_OF_SHORT_CHROMS else {}


def _whole(length_bp: "NDArray[np.int64] | np.int64", stride: int) -> "NDArray[np.int64] | np.int64":
    """Return lengths rounded up to whole cores."""
    return -(-length_bp // stride) * stride
