"""Spans: bases of a chrom as sorted (start, end) pairs, held as arrays, and what can be asked of them.

Coordinates are 0-based and half-open, in bp.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.intervals import Interval

Pair = tuple[int, int]


class Spans(Sequence[Pair]):
    """Pairs of start and end on one chrom, as immutable as a tuple of tuples and equal to it.

    A BED file may have a million: as arrays they take 16 bytes each.

    Parameters
    ----------
    pairs : iterable of (start, end), or int64 (n, 2)

    Attributes
    ----------
    starts, ends : int64 (n,)
    """

    __slots__ = ("ends", "starts")

    def __init__(self, pairs: "Iterable[Pair] | NDArray[np.int64]" = ()) -> None:
        bounds = pairs if isinstance(pairs, np.ndarray) else np.array(list(pairs), dtype=np.int64)
        bounds = np.ascontiguousarray(bounds.reshape(-1, 2).T, dtype=np.int64)
        bounds.flags.writeable = False
        self.starts, self.ends = bounds

    @classmethod
    def of(cls, spans: "Spans | Iterable[Pair]") -> "Spans":
        """Return spans as they are, or made of pairs."""
        return spans if isinstance(spans, Spans) else cls(spans)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Pair]:
        return iter(zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    @overload
    def __getitem__(self, i: int) -> Pair: ...
    @overload
    def __getitem__(self, i: slice) -> "Spans": ...
    def __getitem__(self, i: "int | slice") -> "Pair | Spans":
        if isinstance(i, slice):
            return Spans(self.pairs()[i])
        return int(self.starts[i]), int(self.ends[i])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spans | tuple | list):
            return NotImplemented
        return bool(np.array_equal(self.pairs(), Spans.of(other).pairs()))

    def __hash__(self) -> int:
        return hash(self.pairs().tobytes())

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"Spans([{shown}{', ...' if len(self) > 3 else ''}])"

    def pairs(self) -> NDArray[np.int64]:
        """Return the pairs as rows, int64 (n, 2)."""
        return np.stack([self.starts, self.ends], axis=1)

    @property
    def n_bases(self) -> int:
        """Number of bases in them."""
        return int((self.ends - self.starts).sum())

    def are_merged(self, length: int) -> bool:
        """Return whether they are in order, apart, not empty, and on a chrom of some length."""
        bounds = self.pairs().ravel()
        is_within = not len(bounds) or bool(bounds[0] >= 0 and bounds[-1] <= length)
        return is_within and bool((bounds[1:] > bounds[:-1]).all())


def merge(intervals: Iterable[Interval]) -> dict[str, Spans]:
    """Return the union of intervals; those that overlap or touch become one, empty ones vanish."""
    by_chrom: dict[str, list[Pair]] = {}
    for interval in intervals:
        if interval.start < interval.end:
            by_chrom.setdefault(interval.chrom, []).append((interval.start, interval.end))
    return {chrom: merged_pairs(np.array(pairs, dtype=np.int64)) for chrom, pairs in by_chrom.items()}


def merged_pairs(pairs: NDArray[np.int64]) -> Spans:
    """Return the union of pairs on one chrom, int64 (n, 2), none of them empty, in any order."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    furthest = np.maximum.accumulate(pairs[:, 1])
    is_first = np.concatenate(([True], pairs[1:, 0] > furthest[:-1]))
    firsts = np.flatnonzero(is_first)
    lasts = np.append(firsts[1:], len(pairs)) - 1
    return Spans(np.stack([pairs[firsts, 0], furthest[lasts]], axis=1))


def subtract(spans: Mapping[str, Spans], holes: Mapping[str, Spans]) -> dict[str, Spans]:
    """Return what is in `spans` and not in `holes`; chroms without any base left are left out."""
    left = {
        chrom: Spans(_subtract_on_chrom(own, holes[chrom])) if chrom in holes else own
        for chrom, own in spans.items()
    }
    return {chrom: kept for chrom, kept in left.items() if kept}


def span_mask(spans: Iterable[Pair], start: int, end: int) -> NDArray[np.bool_]:
    """Return which of the bases [start, end) are in a chrom's spans, bool (end - start,)."""
    spans = Spans.of(spans)
    mask = np.zeros(end - start, dtype=np.bool_)
    here = slice(_first_ending_after(spans, start), int(np.searchsorted(spans.starts, end)))
    for first, last in zip(spans.starts[here].tolist(), spans.ends[here].tolist(), strict=True):
        mask[max(first - start, 0) : last - start] = True
    return mask


def overlaps(spans: Iterable[Pair], start: int, end: int) -> bool:
    """Return whether any of the bases [start, end) is in a chrom's spans."""
    spans = Spans.of(spans)
    i = _first_ending_after(spans, start)
    return start < end and i < len(spans) and bool(spans.starts[i] < end)


def n_bases_within(spans: Iterable[Pair], start: int, end: int) -> int:
    """Return how many of the bases [start, end) are in a chrom's spans."""
    spans = Spans.of(spans)
    inside = slice(_first_ending_after(spans, start), int(np.searchsorted(spans.starts, end)))
    return int((np.minimum(spans.ends[inside], end) - np.maximum(spans.starts[inside], start)).sum())


def _first_ending_after(spans: Spans, position: int) -> int:
    return int(np.searchsorted(spans.ends, position, side="right"))


def _subtract_on_chrom(spans: Iterable[Pair], holes: Iterable[Pair]) -> list[Pair]:
    holes, left = list(holes), []
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
    return left
