"""Exact ISM."""

import sys

import numpy as np
import pytest
import torch
from toy_models import LENGTH_BP, Square, inputs, linear_model, smooth_model

from tism_scan.attribution import ism, transform
from tism_scan.attribution import mutagenesis as mutagenesis_module

X = inputs(3, has_n=True)
IS_N = ~X.any(1)


def _brute_force(model) -> tuple[np.ndarray, np.ndarray]:
    """Return the prediction of every substitution (N, T, 4, L), and of the inputs (N, T)."""
    model.eval()
    with torch.no_grad():
        reference = model(torch.tensor(X)).numpy()
        predictions = np.empty((*reference.shape, 4, LENGTH_BP), dtype=np.float32)
        for n, base, i in np.ndindex(len(X), 4, LENGTH_BP):
            mutant = torch.tensor(X[n : n + 1])
            mutant[0, :, i] = torch.eye(4)[base]
            predictions[n, :, base, i] = model(mutant)[0].numpy()
    return predictions, reference


def test_predictions_and_effects_are_those_of_single_substitutions():
    model = smooth_model()
    predictions, reference = _brute_force(model)
    np.testing.assert_allclose(ism(model, X, output="prediction", batch_size=7), predictions, atol=1e-5)
    effect = np.where(IS_N[:, None, None], np.nan, predictions - reference[:, :, None, None])
    np.testing.assert_allclose(ism(model, X, batch_size=7), effect, atol=1e-5)


def test_effects_are_exactly_zero_at_the_reference_and_nan_at_n():
    effect = ism(smooth_model(), X)
    assert (effect[np.broadcast_to(X[:, None] == 1, effect.shape)] == 0).all()
    np.testing.assert_array_equal(np.isnan(effect), np.broadcast_to(IS_N[:, None, None], effect.shape))


def test_a_range_without_any_base_is_nan():
    effect = ism(smooth_model(), X[:1], start=4, end=7)
    assert effect.shape == (1, 5, 4, 3)
    assert np.isnan(effect).all()


def test_centered_and_mean_effect_follow_from_the_effect():
    model = smooth_model()
    effect = ism(model, X)
    centered = ism(model, X, output="centered")
    np.testing.assert_allclose(centered, effect - effect.mean(2, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(centered, transform(effect, X, "corrected"), atol=1e-6)
    np.testing.assert_allclose(ism(model, X, output="mean_effect"), -effect.sum(2) / 3, atol=1e-6)


def test_mean_effect_is_positive_where_the_reference_base_supports_the_output():
    model = linear_model()
    model[1].weight.data.zero_().view(-1, 4, LENGTH_BP)[0, 2, 9] = 1
    x = X.copy()
    x[:, :, 9] = [0, 0, 1, 0]
    assert (ism(model, x, 0, output="mean_effect")[:, 0, 9] > 0).all()


def test_the_last_base_is_included_by_default():
    effect = ism(smooth_model(), X)
    assert effect.shape[3] == LENGTH_BP
    assert (np.abs(effect[..., -1]).sum(axis=2) > 0).all()


@pytest.mark.parametrize(("start", "end"), [(3, 9), (None, 5), (20, None), (-4, None), (None, -20), (-6, -1)])
def test_start_and_end_count_like_a_slice(start, end):
    model = smooth_model()
    np.testing.assert_allclose(ism(model, X, start=start, end=end), ism(model, X)[..., start:end], atol=1e-6)


def test_all_tracks_are_read_off_the_same_passes():
    n_seen = []
    model = smooth_model()
    model.register_forward_hook(lambda module, args, output: n_seen.append(len(args[0])))
    ism(model, X[1:], [0, 1, 2], start=0, end=4, batch_size=5)
    assert sum(n_seen) == 2 + 2 * 4 * 3


def test_a_model_without_a_gradient_will_do():
    class Rounded(Square):
        def forward(self, X):
            return (super().forward(X).detach().round()[:, 0, :3]).sum(1, keepdim=True)

    assert np.isfinite(ism(Rounded(), X[1:])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "delta"}, "output 'delta' is unknown; expected one of effect, prediction"),
        ({"start": 9, "end": 9}, "start 9 and end 9 leave no base of 24"),
        ({"start": 30}, "start 30 and end None leave no base of 24"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ism(smooth_model(), X, **options)


def test_a_bar_appears_at_once_when_asked_for_and_never_when_not(capsys):
    ism(smooth_model(), X, end=2, progress=True)
    assert "ISM" in capsys.readouterr().err
    ism(smooth_model(), X, end=2, progress=False)
    assert capsys.readouterr().err == ""


def test_a_notebook_without_widgets_gets_a_bar_of_text_and_no_warning(capsys, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    ism(smooth_model(), X, end=2, progress=True)
    assert "ISM" in capsys.readouterr().err


def test_by_default_only_long_work_shows_a_bar(capsys, monkeypatch):
    ism(smooth_model(), X, end=2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(mutagenesis_module, "PATIENCE_S", 0.0)
    ism(smooth_model(), X, end=2)
    assert "ISM" in capsys.readouterr().err
