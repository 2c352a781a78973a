"""In which order blocks are computed: wide ones first, so that the last ones to end are short."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.spans import Spans
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block


class WidestFirst:
    """Blocks in the order in which they are best computed on many workers.

    Those with most wanted bases come first; among equals, those of longer arrays. 16 bytes are held for each
    block.

    Parameters
    ----------
    plan : ScanPlan
    blocks : iterable of Block
        Of that plan.

    Attributes
    ----------
    size : int
        The sum of their sizes.
    """

    def __init__(self, plan: ScanPlan, blocks: Iterable[Block]) -> None:
        self._plan = plan
        self._arrays = tuple(plan.arrays)
        i_array = {array: i for i, array in enumerate(self._arrays)}
        self.size = 0
        held: list[tuple[int, int, int, int]] = []
        columns = []
        for block in blocks:
            self.size += block.size
            held.append((i_array[block.chrom], block.i_block, block.start, block.end))
            if len(held) == 4096:
                columns.append(self._measured(np.array(held)))
                held.clear()
        columns.append(self._measured(np.array(held, np.int64).reshape(-1, 4)))
        self._blocks = np.concatenate(columns)
        lengths = np.array(list(plan.arrays.values()))
        self._order = np.lexsort((-lengths[self._blocks["i_array"]], -self._blocks["n_wanted"]))

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        for i in self._order:
            array = self._arrays[self._blocks["i_array"][i]]
            block = self._plan.block(array, int(self._blocks["i_block"][i]))
            if block is not None:  # as all are that the plan gave
                yield block

    def _measured(self, blocks: NDArray[np.int64]) -> NDArray[np.void]:
        """Return position and width of blocks that are given as rows of (i_array, i_block, start, end)."""
        measured = np.empty(len(blocks), [("i_array", "i4"), ("i_block", "i4"), ("n_wanted", "i4")])
        measured["i_array"], measured["i_block"] = blocks[:, 0], blocks[:, 1]
        for i_array in np.unique(blocks[:, 0]):
            own = blocks[:, 0] == i_array
            spans = self._plan.spans(self._arrays[i_array])
            ends = _n_wanted_before(spans, blocks[own, 3])
            measured["n_wanted"][own] = ends - _n_wanted_before(spans, blocks[own, 2])
        return measured


def _n_wanted_before(spans: Spans, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bases of sorted spans are before each position."""
    starts, ends = spans.starts, spans.ends
    before = np.concatenate([[0], np.cumsum(ends - starts)])
    i_span = np.searchsorted(starts, positions, side="right")  # spans that start at or before it
    past = np.where(i_span > 0, ends[i_span - 1] - positions, 0)
    return np.asarray(before[i_span] - np.maximum(past, 0))
