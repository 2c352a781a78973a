import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tism_scan.bigwig.summary import BigWigSummary, Tally

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def tally_of(scores, n_at_a_time=7):
    tally = Tally()
    for start in range(0, len(scores), n_at_a_time):
        tally.add(scores[start : start + n_at_a_time])
    return tally


def percentile(scores):
    """Return the smallest magnitude that 99.9 % of all scores do not exceed."""
    return np.sort(np.abs(scores))[math.ceil(len(scores) * 999 / 1000) - 1]


@given(scores=hnp.arrays(np.float32, st.integers(1, 50), elements=FINITE))
@example(scores=np.array([3.4028235e38, -3.4028235e38], np.float32))
def test_limit_is_the_percentile_or_slightly_more(scores):
    exact = float(percentile(scores))
    assert exact <= tally_of(scores).limit <= exact * (1 + 2**-8)


@pytest.mark.parametrize("n", [999, 1000, 1001, 100_000])
def test_limit_leaves_out_no_more_than_one_score_in_a_thousand(n):
    scores = np.random.default_rng(n).standard_t(2, n).astype(np.float32)
    limit, exact = tally_of(scores, 10_000).limit, percentile(scores)
    assert exact <= limit <= exact * (1 + 2**-8)
    assert (np.abs(scores) > limit).mean() <= 1e-3


@pytest.mark.parametrize("value", [0, -0.0, 1e-3, -2.5])
def test_limit_of_a_constant_is_its_magnitude(value):
    assert tally_of(np.full(20, value, np.float32)).limit == abs(np.float32(value))


@given(scores=hnp.arrays(np.float32, st.integers(1, 50), elements=st.integers(-999, 999)))
def test_counts_do_not_depend_on_how_the_scores_come(scores):
    wide = scores.astype(np.float64)
    for n_at_a_time in (1, 7, 50):
        tally = tally_of(scores, n_at_a_time)
        assert (tally.n_bases, tally.minimum, tally.maximum) == (len(scores), wide.min(), wide.max())
        assert (tally.total, tally.total_of_squares) == (wide.sum(), (wide**2).sum())


def test_a_track_without_a_score_is_all_zero():
    tally = tally_of(np.zeros(0, np.float32))
    tally.add(np.zeros(0, np.float32))
    assert tally.summary(Path("a.bw")) == BigWigSummary(Path("a.bw"), 0, 0.0, 0.0, 0.0, 0.0)
