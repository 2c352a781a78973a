"""The agreement of TISM with exact ISM."""

import numpy as np
import pytest
import torch
from scipy import stats
from toy_models import inputs, linear_model, smooth_model

from tism_scan.attribution import concordance, ism, mean_tism, tism
from tism_scan.attribution.agreement import compare, pearson, slope_of, spearman
from tism_scan.plan.tracks import Track

X = inputs(4, has_n=True)


def test_a_linear_model_agrees_perfectly():
    report = concordance(linear_model().double(), X, None, slice(None))
    assert len(report.per_track) == 5
    for agreement in (*report.per_track, report.overall):
        assert agreement.tism_pearson == pytest.approx(1, abs=1e-6)
        assert agreement.mean_tism_pearson == pytest.approx(1, abs=1e-6)
        # rounding may swap the ranks of values that are all but equal
        assert agreement.tism_spearman == pytest.approx(1, abs=1e-3)
        assert agreement.mean_tism_spearman == pytest.approx(1, abs=1e-3)


def test_correlations_are_those_over_substitutions_without_reference_bases_and_n():
    model, positions = smooth_model(), [2, 5, 11, 20]
    report = concordance(model, X, [3, 0], positions)
    mask = ((X == 0) & X.any(1, keepdims=True))[..., positions]
    approximate, exact = tism(model, X, 3)[:, 0][..., positions], ism(model, X, 3)[:, 0][..., positions]
    means = (
        mean_tism(model, X, 3)[:, 0][..., positions],
        ism(model, X, 3, output="mean_effect")[:, 0][..., positions],
    )
    known = ~np.isnan(means[0])
    first = report.per_track[0]
    assert (first.track, first.n_substitutions, first.n_positions) == ("3", mask.sum(), known.sum())
    assert first.n_substitutions == 3 * (4 * 4 - 1)
    assert first.tism_pearson == pytest.approx(stats.pearsonr(approximate[mask], exact[mask])[0], abs=1e-5)
    assert first.tism_spearman == pytest.approx(stats.spearmanr(approximate[mask], exact[mask])[0], abs=1e-3)
    assert first.mean_tism_pearson == pytest.approx(stats.pearsonr(*(m[known] for m in means))[0], abs=1e-5)
    assert first.slope == pytest.approx(np.polyfit(approximate[mask], exact[mask], 1)[0], abs=1e-4)
    assert report.overall.n_substitutions == 2 * first.n_substitutions
    both = [np.stack([of(model, X, i)[:, 0][..., positions] for i in (3, 0)])[:, mask] for of in (tism, ism)]
    assert report.overall.slope == pytest.approx(np.polyfit(*(each.ravel() for each in both), 1)[0], abs=1e-4)


def test_times_of_both_are_measured():
    report = concordance(smooth_model(), X, 0, range(5))
    assert report.tism_seconds > 0
    assert report.ism_seconds > 0


def test_tracks_keep_their_names():
    report = concordance(smooth_model(), X, [Track("CTCF", (0, 1), (0.5, 0.5)), 4], [3])
    assert [agreement.track for agreement in report.per_track] == ["CTCF", "4"]


def test_correlations_are_scipys_with_ties():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (2, 50)).astype(float)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0])
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0])


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_values_without_spread_have_no_correlation_and_no_slope(a, b):
    assert np.isnan(pearson(np.array(a), np.array(b)))
    assert np.isnan(slope_of(np.array(a), np.array(b)))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([3, 24], "position 24 is outside X; expected 0-23"),
        ([-1], "position -1 is outside X"),
        ([], "expected at least one position"),
        ([0.5], "are no list of integers"),
    ],
)
def test_positions_outside_the_input_are_refused(positions, message):
    with pytest.raises(ValueError, match=message):
        concordance(linear_model(), X, 0, positions)


def test_a_comparison_shows_a_bar_only_if_it_may(capsys):
    for progress in (True, False):
        compare(
            smooth_model(),
            torch.from_numpy(X),
            [0],
            torch.arange(2),
            [(1.0,)],
            batch_size=64,
            progress=progress,
        )
        assert ("ISM" in capsys.readouterr().err) is progress
