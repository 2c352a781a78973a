"""In which order blocks are computed: wide ones first, so that the last ones to end are short."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block


class WidestFirst:
    """Blocks in the order in which they are best computed on many workers.

    Those with most wanted bases come first; among equals, those of longer chroms. 16 bytes are held for each
    block.

    Parameters
    ----------
    plan : ScanPlan
    blocks : iterable of Block
        Of that plan.

    Attributes
    ----------
    n_blocks, n_bp : int
        How many there are, and their length.
    """

    def __init__(self, plan: ScanPlan, blocks: Iterable[Block]) -> None:
        self._plan = plan
        self._chroms = tuple(plan.wanted)
        i_chrom = {chrom: i for i, chrom in enumerate(self._chroms)}
        self.n_bp = 0
        held: list[tuple[int, int, int, int]] = []
        columns = []
        for block in blocks:
            self.n_bp += len(block)
            held.append((i_chrom[block.chrom], block.i_block, block.start, block.end))
            if len(held) == 4096:
                columns.append(self._measured(np.array(held)))
                held.clear()
        columns.append(self._measured(np.array(held, np.int64).reshape(-1, 4)))
        self._blocks = np.concatenate(columns)
        self.n_blocks = len(self._blocks)
        lengths = np.array([plan.chroms[chrom] for chrom in self._chroms])
        self._order = np.lexsort((-lengths[self._blocks["i_chrom"]], -self._blocks["n_wanted"]))

    def __iter__(self) -> Iterator[Block]:
        lattice, chroms = self._plan.scoring.lattice, self._plan.chroms
        for i in self._order:
            chrom = self._chroms[self._blocks["i_chrom"][i]]
            block_bp = self._plan.chrom_block_bp(chrom)
            yield lattice.block(chrom, chroms[chrom], block_bp, int(self._blocks["i_block"][i]))

    def _measured(self, blocks: NDArray[np.int64]) -> NDArray[np.void]:
        """Return position and width of blocks that are given as rows of (i_chrom, i_block, start, end)."""
        measured = np.empty(len(blocks), [("i_chrom", "i4"), ("i_block", "i4"), ("n_wanted", "i4")])
        measured["i_chrom"], measured["i_block"] = blocks[:, 0], blocks[:, 1]
        for i_chrom in np.unique(blocks[:, 0]):
            own = blocks[:, 0] == i_chrom
            spans = np.array(self._plan.wanted[self._chroms[i_chrom]])
            ends = _n_wanted_before(spans, blocks[own, 3])
            measured["n_wanted"][own] = ends - _n_wanted_before(spans, blocks[own, 2])
        return measured


def _n_wanted_before(spans: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bases of sorted spans are before each position."""
    starts, ends = spans[:, 0], spans[:, 1]
    before = np.concatenate([[0], np.cumsum(ends - starts)])
    i_span = np.searchsorted(starts, positions, side="right")  # spans that start at or before it
    past = np.where(i_span > 0, ends[i_span - 1] - positions, 0)
    return np.asarray(before[i_span] - np.maximum(past, 0))
