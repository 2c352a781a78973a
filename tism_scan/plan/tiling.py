"""The lattice of windows, cores and blocks: integers only.

Core k of a chrom covers ``[k * stride, (k + 1) * stride)``; its window, `input_bp` long, has the core at its
centre and may reach past the chrom's ends, where it is padded with N. A block is a run of consecutive cores.
Coordinates are 0-based, half-open, in bp.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import PlanError

Stitch = Literal["center", "mean", "all"]
DEFAULT_STRIDE = 256


@dataclass(frozen=True)
class Block:
    """Consecutive cores of one chrom: what is computed, written and resumed as one unit.

    Attributes
    ----------
    chrom : str
        Or `tism_scan.plan.packing.PACK`, for short chroms that share an array.
    i_block : int
        Position among the chrom's blocks.
    start, end : int
        The block's bases; the last block of a chrom stops at the chrom's end.
    label : str
        What users read, if it is not the interval.
    gap_bp : int
        How many of its positions are no bases, but gaps between short chroms.
    n_chosen : int or None
        How many of its bases are computed, where the time goes by them and not by the block's windows.
    """

    chrom: str
    i_block: int
    start: int
    end: int
    label: str = field(default="", compare=False)
    gap_bp: int = field(default=0, compare=False)
    n_chosen: int | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def n_bases(self) -> int:
        """Number of bases."""
        return len(self) - self.gap_bp

    @property
    def size(self) -> int:
        """How much of a scan it is: its bases, or those of them that are chosen."""
        return self.n_bases if self.n_chosen is None else self.n_chosen

    def __str__(self) -> str:
        return self.label or f"{self.chrom}:{self.start + 1:,}-{self.end:,}"


@dataclass(frozen=True)
class Stretch:
    """The windows that one block needs, and the sequence that these windows cover.

    Attributes
    ----------
    block : Block
    first_window, end_window : int
        Indices of the windows on the chrom's lattice, half-open.
    start, end : int
        The sequence under all the windows; may be negative or pass the chrom's end.
    has_window : bool (n_windows,) or None
        Which windows there are; None if all of them, as there are but between short chroms that share an
        array.
    """

    block: Block
    first_window: int
    end_window: int
    start: int
    end: int
    has_window: NDArray[np.bool_] | None = field(default=None, compare=False)

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return self.end_window - self.first_window

    def existing(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of some windows there are; all are given by their positions in the stretch."""
        return windows if self.has_window is None else windows[self.has_window[windows]]


@dataclass(frozen=True)
class Lattice:
    """Where the windows of a chrom are placed.

    Parameters
    ----------
    input_bp : int
        Length of a window.
    stride : int
        Distance between consecutive windows, at most `input_bp`; their difference is even, so that a core
        is at its window's centre.

    Raises
    ------
    PlanError
        If the stride does not fit the window.
    """

    input_bp: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.input_bp or (self.input_bp - self.stride) % 2:
            parity = "odd" if self.input_bp % 2 else "even"
            raise PlanError(
                f"stride {self.stride} does not fit a window of {self.input_bp:,} bp; "
                f"expected an {parity} number from {2 - self.input_bp % 2} to {self.input_bp:,}"
            )

    @property
    def flank(self) -> int:
        """Bases of a window on either side of its core."""
        return (self.input_bp - self.stride) // 2

    def n_cores(self, chrom_bp: int) -> int:
        """Return the number of cores, and so of windows, of a chrom."""
        return -(-chrom_bp // self.stride)

    def block_bp(self, chrom_bp: int, block_bp: int) -> int:
        """Return the length of a chrom's blocks: no longer than its cores together."""
        return min(block_bp, self.n_cores(chrom_bp) * self.stride)

    def n_blocks(self, chrom_bp: int, block_bp: int) -> int:
        """Return the number of blocks of a chrom."""
        return -(-chrom_bp // block_bp)

    def blocks(self, chrom: str, chrom_bp: int, block_bp: int) -> Iterator[Block]:
        """Yield a chrom's blocks in order; together they hold every base once."""
        for i_block in range(self.n_blocks(chrom_bp, block_bp)):
            yield self.block(chrom, chrom_bp, block_bp, i_block)

    def block(self, chrom: str, chrom_bp: int, block_bp: int, i_block: int) -> Block:
        """Return one block of a chrom.

        Raises
        ------
        ValueError
            If a block's length is no multiple of the stride.
        """
        if block_bp % self.stride:
            raise ValueError(f"a block of {block_bp} bp is no multiple of the stride {self.stride}")
        start = i_block * block_bp
        return Block(chrom, i_block, start, min(start + block_bp, chrom_bp))

    def stretch(self, block: Block, chrom_bp: int, stitch: Stitch) -> Stretch:
        """Return the windows that give a block its scores.

        Parameters
        ----------
        block : Block
            Starts at a core's start.
        chrom_bp : int
        stitch : {"center", "mean", "all"}
            With "center" the windows whose cores are in the block; else every window of the chrom's lattice
            that holds one of its bases.
        """
        first, end = block.start // self.stride, -(-block.end // self.stride)
        if stitch != "center":
            first = max(0, (block.start - self.flank - self.stride) // self.stride + 1)
            end = min(self.n_cores(chrom_bp), -(-(block.end + self.flank) // self.stride))
        return Stretch(
            block, first, end, self.window_start(first), self.window_start(end - 1) + self.input_bp
        )

    def window_start(self, i_window: int) -> int:
        """Return where a window starts; negative before the chrom's start."""
        return i_window * self.stride - self.flank
