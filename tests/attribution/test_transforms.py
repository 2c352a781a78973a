"""The formulas that turn a gradient into attributions."""

import numpy as np
import pytest
import torch
from toy_models import LENGTH_BP, inputs

from tism_scan.attribution import mean_tism_from_gradient, tism_from_gradient, transform
from tism_scan.attribution.transforms import KINDS

N, N_TRACKS = 3, 2
X = inputs(N, has_n=True)
IS_N = ~X.any(1)
GRADIENT = np.random.default_rng(0).normal(size=(N, N_TRACKS, 4, LENGTH_BP)).astype(np.float32)
GC40 = np.array([0.3, 0.2, 0.2, 0.3], dtype=np.float32)


def _by_hand(kind: str, baseline: np.ndarray) -> np.ndarray:
    """Return the attribution from its definition, one value at a time."""
    result = np.empty_like(GRADIENT)
    for n, t, base, i in np.ndindex(*GRADIENT.shape):
        g, x, p = GRADIENT[n, t, :, i], X[n, :, i], baseline[n, :, i]
        result[n, t, base, i] = {
            "local": g[base],
            "global": g[base] * (x[base] - p[base]),
            "corrected": g[base] - g.mean(),
            "hypothetical": sum(g[c] * ((c == base) - p[c]) for c in range(4)),
            "tism": g[base] - g[x.argmax()] if x.any() else np.nan,
        }[kind]
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_follows_its_definition_for_many_sequences_and_tracks(kind):
    baseline = np.random.default_rng(1).dirichlet(np.ones(4), (N, LENGTH_BP)).transpose(0, 2, 1)
    given = baseline if kind in ("global", "hypothetical") else None
    result = transform(GRADIENT, X, kind, given)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, _by_hand(kind, baseline), atol=1e-6)


@pytest.mark.parametrize("kind", ["global", "hypothetical"])
def test_baselines_of_all_three_shapes_agree(kind):
    full = np.broadcast_to(GC40[:, None], (N, 4, LENGTH_BP))
    expected = transform(GRADIENT, X, kind, full)
    np.testing.assert_array_equal(transform(GRADIENT, X, kind, GC40), expected)
    np.testing.assert_array_equal(transform(GRADIENT, X, kind, full[0]), expected)


def test_default_baseline_is_zero_for_global_and_uniform_for_hypothetical():
    np.testing.assert_array_equal(transform(GRADIENT, X, "global"), GRADIENT * X[:, None])
    corrected = transform(GRADIENT, X, "corrected")
    np.testing.assert_allclose(transform(GRADIENT, X, "hypothetical"), corrected, atol=1e-6)


def test_tism_is_zero_at_the_reference_and_nan_exactly_at_n():
    tism = transform(GRADIENT, X, "tism")
    np.testing.assert_array_equal(np.isnan(tism), np.broadcast_to(IS_N[:, None, None], tism.shape))
    assert (tism[np.broadcast_to(X[:, None] == 1, tism.shape)] == 0).all()


def test_mean_tism_is_four_thirds_of_the_corrected_gradient_at_the_reference_base():
    corrected = (transform(GRADIENT, X, "corrected") * X[:, None]).sum(2)
    mean_tism = mean_tism_from_gradient(torch.tensor(GRADIENT), torch.tensor(X)[:, None]).numpy()
    known = np.broadcast_to(~IS_N[:, None], mean_tism.shape)
    np.testing.assert_allclose(mean_tism[known], 4 / 3 * corrected[known], atol=1e-6)
    assert np.isnan(mean_tism[~known]).all()


def test_corrected_and_hypothetical_follow_from_tism():
    tism = transform(GRADIENT, X, "tism")
    known = np.broadcast_to(~IS_N[:, None, None], tism.shape)
    corrected = tism - tism.mean(2, keepdims=True)
    np.testing.assert_allclose(corrected[known], transform(GRADIENT, X, "corrected")[known], atol=1e-6)
    hypothetical = tism - (tism * GC40[:, None]).sum(2, keepdims=True)
    expected = transform(GRADIENT, X, "hypothetical", GC40)
    np.testing.assert_allclose(hypothetical[known], expected[known], atol=1e-6)


def test_mean_tism_is_minus_the_mean_of_the_three_substitutions():
    g, x = torch.tensor(GRADIENT), torch.tensor(X)[:, None]
    expected = -tism_from_gradient(g, x).sum(2) / 3
    torch.testing.assert_close(mean_tism_from_gradient(g, x), expected, equal_nan=True)


def test_torch_in_gives_torch_out_and_numpy_in_numpy_out():
    from_torch = transform(torch.tensor(GRADIENT, dtype=torch.float64), X, "tism")
    assert isinstance(from_torch, torch.Tensor)
    assert from_torch.dtype == torch.float32
    np.testing.assert_allclose(from_torch.numpy(), transform(GRADIENT, torch.tensor(X), "tism"), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_arrays_are_not_changed(kind):
    gradient, x = GRADIENT.copy(), X.copy()
    transform(gradient, x, kind)[:] = 9
    np.testing.assert_array_equal(gradient, GRADIENT)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GRADIENT[0], X, "tism"), r"shape \(2, 4, 24\); expected \(N, T, 4, L\)"),
        ((GRADIENT, X[..., :5], "tism"), r"X has shape \(3, 4, 5\).*expected \(3, 4, 24\)"),
        ((GRADIENT, X, "deltas"), "kind 'deltas' is unknown; expected one of local, global"),
        ((GRADIENT, X, "tism", GC40), "kind 'tism' has no baseline"),
        ((GRADIENT, X, "global", np.zeros((7, 4))), r"baseline has shape \(7, 4\); expected \(4,\)"),
        ((GRADIENT, X * 0.5, "tism"), "X is not one-hot"),
        ((GRADIENT, np.ones_like(X), "tism"), "X is not one-hot"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        transform(*arguments)
