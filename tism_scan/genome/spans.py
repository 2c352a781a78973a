"""Spans: bases of a chrom as sorted (start, end) pairs, and what can be asked of them.

Coordinates are 0-based and half-open, in bp.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.intervals import Interval

# Of one chrom: sorted, apart from each other, none of them empty.
Spans: TypeAlias = tuple[tuple[int, int], ...]


def merge(intervals: Iterable[Interval]) -> dict[str, Spans]:
    """Return the union of intervals; those that overlap or touch become one, empty ones vanish."""
    merged: dict[str, list[tuple[int, int]]] = {}
    for interval in sorted(intervals, key=lambda it: (it.start, it.end)):
        if interval.start >= interval.end:
            continue
        spans = merged.setdefault(interval.chrom, [])
        if spans and interval.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], interval.end))
        else:
            spans.append((interval.start, interval.end))
    return {chrom: tuple(spans) for chrom, spans in merged.items()}


def subtract(spans: Mapping[str, Spans], holes: Mapping[str, Spans]) -> dict[str, Spans]:
    """Return what is in `spans` and not in `holes`; chroms without any base left are left out."""
    left = {chrom: _subtract_on_chrom(spans[chrom], holes.get(chrom, ())) for chrom in spans}
    return {chrom: kept for chrom, kept in left.items() if kept}


def span_mask(spans: Spans, start: int, end: int) -> NDArray[np.bool_]:
    """Return which of the bases [start, end) are in a chrom's spans, bool (end - start,)."""
    mask = np.zeros(end - start, dtype=np.bool_)
    for i in range(_first_ending_after(spans, start), len(spans)):
        if spans[i][0] >= end:
            break
        mask[max(spans[i][0] - start, 0) : spans[i][1] - start] = True
    return mask


def overlaps(spans: Spans, start: int, end: int) -> bool:
    """Return whether any of the bases [start, end) is in a chrom's spans."""
    i = _first_ending_after(spans, start)
    return start < end and i < len(spans) and spans[i][0] < end


def _first_ending_after(spans: Spans, position: int) -> int:
    return bisect_right(spans, position, key=lambda span: span[1])


def _subtract_on_chrom(spans: Spans, holes: Spans) -> Spans:
    left = []
    i_first = 0  # holes before this one end before every span to come
    for start, end in spans:
        while i_first < len(holes) and holes[i_first][1] <= start:
            i_first += 1
        for i in range(i_first, len(holes)):
            hole_start, hole_end = holes[i]
            if hole_start >= end:
                break
            if hole_start > start:
                left.append((start, hole_start))
            start = hole_end
        if start < end:
            left.append((start, end))
    return tuple(left)
