import time

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tism_scan.genome.intervals import Interval
from tism_scan.genome.spans import Spans, merge, n_bases_within, overlaps, span_mask, subtract

N_BASES = 40

interval_lists = st.lists(
    st.tuples(st.integers(0, N_BASES), st.integers(0, N_BASES)).map(
        lambda ends: Interval("chr1", min(ends), max(ends))
    ),
    max_size=12,
)


def mask_of(intervals, n_bases=N_BASES):
    mask = np.zeros(n_bases, dtype=bool)
    for interval in intervals:
        mask[interval.start : interval.end] = True
    return mask


def test_touching_intervals_become_one_and_empty_ones_vanish():
    intervals = [Interval("b", 5, 9), Interval("b", 0, 5), Interval("a", 3, 3), Interval("b", 10, 12)]
    assert merge(intervals) == {"b": ((0, 9), (10, 12))}


@given(interval_lists)
def test_merged_spans_hold_the_same_bases_sorted_and_apart(intervals):
    spans = merge(intervals).get("chr1", ())
    assert np.array_equal(span_mask(spans, 0, N_BASES), mask_of(intervals))
    flat = [position for span in spans for position in span]
    assert flat == sorted(set(flat))


@given(interval_lists, interval_lists)
def test_subtraction_leaves_the_bases_that_are_not_taken_away(intervals, holes):
    left = subtract(merge(intervals), merge(holes))
    expected = mask_of(intervals) & ~mask_of(holes)
    assert np.array_equal(span_mask(left.get("chr1", ()), 0, N_BASES), expected)
    assert ("chr1" in left) == expected.any()


@given(interval_lists, interval_lists)
def test_subtracted_spans_are_sorted_and_not_empty(intervals, holes):
    spans = subtract(merge(intervals), merge(holes)).get("chr1", ())
    flat = [position for span in spans for position in span]
    assert flat == sorted(set(flat))


@given(interval_lists, st.integers(-5, N_BASES + 5), st.integers(-5, N_BASES + 5))
def test_mask_of_a_stretch_is_that_stretch_of_the_mask(intervals, a, b):
    start, end = min(a, b), max(a, b)
    spans = merge(intervals).get("chr1", ())
    whole = np.concatenate([np.zeros(5, dtype=bool), mask_of(intervals), np.zeros(5, dtype=bool)])
    assert np.array_equal(span_mask(spans, start, end), whole[start + 5 : end + 5])


@given(interval_lists, st.integers(-5, N_BASES + 5), st.integers(-5, N_BASES + 5))
@example([Interval("chr1", 3, 9)], 5, 5)
@example([Interval("chr1", 3, 9)], 9, 12)
def test_stretch_overlaps_if_its_mask_holds_a_base(intervals, a, b):
    start, end = min(a, b), max(a, b)
    spans = merge(intervals).get("chr1", ())
    assert overlaps(spans, start, end) == span_mask(spans, start, end).any()
    assert n_bases_within(spans, start, end) == span_mask(spans, start, end).sum()


def test_look_ups_among_a_million_spans_do_not_walk_them():
    spans = Spans((10 * i, 10 * i + 5) for i in range(1_000_000))
    began = time.perf_counter()
    for i in range(1_000):
        assert overlaps(spans, 10_000 * i, 10_000 * i + 1)
        assert span_mask(spans, 9_000 * i, 9_000 * i + 10).sum() == 5
    assert time.perf_counter() - began < 5
