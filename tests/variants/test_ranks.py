import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tism_scan.store.arrays import rounded
from tism_scan.variants.ranks import (
    RankTable,
    Refinement,
    Tally,
    bins_to_refine,
    exact_table,
    rank_table,
    ranks_of_steps,
)


def table_of(values):
    first = Tally()
    first.add(values)
    bins = bins_to_refine(first.counts)
    second = Refinement(bins)
    for piece in np.array_split(values, 3):
        second.add(piece)
    return rank_table(first.counts, bins, second.counts)


def by_sorting(values, asked):
    """Return PHRED by the definition: the rank is the number of magnitudes at or above."""
    in_order = np.sort(np.abs(values))
    rank = len(values) - np.searchsorted(in_order, np.abs(asked), side="left")
    with np.errstate(divide="ignore"):
        return np.round(-10 * np.log10(rank / len(values)), 2)


numbers = st.one_of(
    st.floats(-10, 10, width=32), st.sampled_from([0.0, 1.0, 1.0000001, -1.0, 1e-40, 3e38, 1e-5])
)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float32, st.integers(1, 400), elements=numbers))
def test_phred_is_that_of_the_rank_whatever_the_ties(values):
    assert table_of(values).phred(values) == pytest.approx(by_sorting(values, values), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float32, st.integers(1, 400), elements=numbers), st.integers(1, 3_000))
def test_magnitudes_above_the_lowest_are_those_with_so_much_phred(values, hundredths):
    table, phred = table_of(values), hundredths / 100
    is_above = np.abs(values) > np.float32(table.lowest_above(phred))
    assert is_above.tolist() == (table.phred(values) >= phred).tolist()


def test_each_step_has_its_own_lowest_magnitude():
    table = table_of(np.arange(1, 3_001, dtype=np.float32))
    assert [table.lowest_above(step / 100) for step in table.hundredths.tolist()] == table.edges.tolist()


@pytest.mark.parametrize("n", [1, 2, 9, 1_000, 200_000])
@pytest.mark.parametrize("draw", ["normal", "standard_cauchy"])
def test_phred_is_exact_for_many_values(n, draw):
    values = getattr(np.random.default_rng(n), draw)(size=n).astype(np.float32)
    assert table_of(values).phred(values) == pytest.approx(by_sorting(values, values), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(arrays(np.float32, st.integers(1, 400), elements=numbers), st.integers(1, 14))
def test_one_pass_is_enough_for_scores_of_few_bits(values, keep_bits):
    kept = rounded(values, keep_bits)
    tally = Tally()
    for piece in np.array_split(kept, 3):
        tally.add(piece)
    is_enough = not (kept.view(np.uint32) & 0x1FF).any()  # what would be infinite is not rounded
    assert tally.is_exact == is_enough
    if is_enough:
        assert exact_table(tally.counts).phred(kept) == pytest.approx(by_sorting(kept, kept), abs=1e-9)


def test_one_number_of_many_bits_asks_for_a_second_pass():
    values = np.ones(200_000, np.float32)
    values[150_000] = np.float32(1.0000001)
    tally = Tally()
    tally.add(values)
    assert not tally.is_exact


def test_values_of_one_bin_are_told_apart():
    near = (np.float32(1).view(np.uint32) + np.arange(300, dtype=np.uint32)).view(np.float32)
    assert table_of(near).phred(near[-1:]) == pytest.approx([round(10 * np.log10(300), 2)])
    assert len(np.unique(table_of(near).phred(near))) > 200


def test_step_holds_the_ranks_that_round_to_it():
    ranks, steps = ranks_of_steps(1_000_000)
    exact = -10 * np.log10(np.arange(1, 1_000_001) / 1_000_000)
    for rank, step in zip(ranks[::97], steps[::97], strict=True):
        assert round(exact[rank - 1], 2) >= step / 100
        assert round(exact[rank], 2) < step / 100
    assert ranks[-1] == 1
    assert steps[-1] == 6_000


def test_table_of_nothing_gives_zero():
    empty = RankTable(0, np.empty(0, np.float32), np.empty(0, np.int32))
    assert empty.phred(np.array([1, np.nan], np.float32)).tolist() == pytest.approx([0, np.nan], nan_ok=True)
