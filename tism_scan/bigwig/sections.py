"""Scores as the sections of a bigWig, compressed; NaN, a gap, is in none of them.

A section is a header and up to 4,096 items of one chrom: consecutive bases (``fixedStep``), or bases each
with its position (``variableStep``), which takes less room where gaps are many.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.headers import ITEMS_PER_SECTION, SECTION_HEADER

# A section costs some 70 bytes, and time, beside its scores; the position of a base costs 2 bytes (measured).
SHORT_RUN_BP = 64

_VARIABLE_STEP, _FIXED_STEP = 2, 3
_ITEM = np.dtype([("start", "<u4"), ("score", "<f4")])


@dataclass(frozen=True)
class Packed:
    """A compressed part of the file, and the bases from its first to its last.

    Attributes
    ----------
    first_chrom, start, last_chrom, end : int
        Numbers of chroms and positions in them.
    content : bytes
    """

    first_chrom: int
    start: int
    last_chrom: int
    end: int
    content: bytes


def pack_sections(i_chrom: int, start: int, scores: NDArray[np.float32]) -> list[Packed]:
    """Return the sections of consecutive bases.

    Parameters
    ----------
    i_chrom : int
    start : int
        Position of the first base.
    scores : float32 (n,)
        Finite, or NaN for a gap.
    """
    is_scored = ~np.isnan(scores)
    runs = np.flatnonzero(np.diff(is_scored, prepend=False, append=False)).reshape(-1, 2)
    n_scored = int((runs[:, 1] - runs[:, 0]).sum())
    if n_scored < SHORT_RUN_BP * len(runs):
        return list(_variable_step(i_chrom, start, scores, np.flatnonzero(is_scored)))
    return list(_fixed_step(i_chrom, start, scores, runs))


def _fixed_step(
    i_chrom: int, start: int, scores: NDArray[np.float32], runs: NDArray[np.intp]
) -> Iterator[Packed]:
    values = memoryview(scores.astype("<f4").tobytes())
    for run_start, run_end in runs.tolist():
        for first in range(run_start, run_end, ITEMS_PER_SECTION):
            last = min(first + ITEMS_PER_SECTION, run_end)
            header = SECTION_HEADER.pack(
                i_chrom, start + first, start + last, 1, 1, _FIXED_STEP, 0, last - first
            )
            content = compressed_scores(header, values[4 * first : 4 * last])
            yield Packed(i_chrom, start + first, i_chrom, start + last, content)


def _variable_step(
    i_chrom: int, start: int, scores: NDArray[np.float32], scored: NDArray[np.intp]
) -> Iterator[Packed]:
    items = np.empty(len(scored), _ITEM)
    items["start"] = start + scored
    items["score"] = scores[scored]
    for first in range(0, len(items), ITEMS_PER_SECTION):
        section = items[first : first + ITEMS_PER_SECTION]
        span = int(section["start"][0]), int(section["start"][-1]) + 1
        header = SECTION_HEADER.pack(i_chrom, *span, 0, 1, _VARIABLE_STEP, 0, len(section))
        yield Packed(i_chrom, span[0], i_chrom, span[1], zlib.compress(header + section.tobytes(), 1))


def compressed_scores(header: bytes, values: memoryview) -> bytes:
    """Return a fixedStep section as a zlib stream.

    Mantissas of scores repeat nowhere, so the search for earlier matches finds none: without it zlib is twice
    as fast as at its level 1, and the result as small (measured). Runs of one byte are still found.
    """
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1, zlib.Z_RLE)
    return deflate.compress(header) + deflate.compress(values) + deflate.flush()
