"""DeepLIFT/SHAP through tangermeme."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import LENGTH_BP, Square, TwoHeads, inputs, linear_model, relu_model

from tism_scan.attribution import deep_lift_shap, gradient, transform
from tism_scan.attribution.transforms import KINDS
from tism_scan.errors import InputError, TrackError

pytest.importorskip("tangermeme")

X = inputs(3, has_n=True)
RNG = np.random.default_rng(5)
TWO_FOR_ALL = inputs(2, seed=8)
TWO_FOR_EACH = np.stack([inputs(2, seed=seed) for seed in (20, 21, 22)])
SOFT = RNG.dirichlet(np.ones(4), LENGTH_BP).T.astype(np.float32)


def _outputs(model: nn.Module, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(X, dtype=torch.float32)).numpy()


@pytest.mark.parametrize(
    ("references", "expanded"),
    [
        ("uniform", np.full((3, 1, 4, LENGTH_BP), 0.25)),
        ("zero", np.zeros((3, 1, 4, LENGTH_BP))),
        (
            np.array([0.3, 0.2, 0.2, 0.3]),
            np.tile(np.array([0.3, 0.2, 0.2, 0.3])[:, None], (3, 1, 1, LENGTH_BP)),
        ),
        (SOFT, np.tile(SOFT, (3, 1, 1, 1))),
        (TWO_FOR_ALL, np.tile(TWO_FOR_ALL, (3, 1, 1, 1))),
        (TWO_FOR_EACH, TWO_FOR_EACH),
    ],
    ids=["uniform", "zero", "by channel", "one for all", "two for all", "two for each"],
)
def test_contributions_sum_to_the_change_of_the_output(references, expanded):
    model = relu_model()
    contributions = deep_lift_shap(model, X, references=references, kind="global", batch_size=4)
    change = _outputs(model, X) - np.stack([_outputs(model, refs).mean(0) for refs in expanded])
    np.testing.assert_allclose(contributions.sum((2, 3)), change, atol=1e-5)


def test_contributions_sum_to_the_change_from_dinucleotide_shuffles():
    from tangermeme.ersatz import dinucleotide_shuffle

    model = relu_model()
    shuffles = dinucleotide_shuffle(torch.tensor(X), n=6, random_state=4, allow_N=True).numpy()
    change = _outputs(model, X) - np.stack([_outputs(model, refs).mean(0) for refs in shuffles])
    contributions = deep_lift_shap(model, X, kind="global", n_references=6, random_state=4, batch_size=5)
    np.testing.assert_allclose(contributions.sum((2, 3)), change, atol=1e-5)


def test_a_callable_makes_the_references():
    def shifted(X, n, random_state):
        return torch.stack([X.roll(i + random_state, -1) for i in range(n)], 1)

    model = relu_model()
    references = shifted(torch.tensor(X), 3, 1).numpy()
    np.testing.assert_array_equal(
        deep_lift_shap(model, X, references=shifted, n_references=3, random_state=1),
        deep_lift_shap(model, X, references=references),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_a_linear_model_is_that_of_its_gradient(kind):
    model = linear_model()
    baseline = np.full(4, 0.25) if kind in ("global", "hypothetical") else None
    expected = transform(gradient(model, X, [1, 4]), X, kind, baseline)
    result = deep_lift_shap(model, X, [1, 4], references="uniform", kind=kind)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_hypothetical_contributions_are_tangermemes_own():
    from tangermeme.deep_lift_shap import deep_lift_shap as original

    model, x, refs = relu_model(), torch.tensor(X[1:]), torch.tensor(TWO_FOR_EACH[1:])
    expected = original(model, x, target=2, references=refs, hypothetical=True, device="cpu")
    result = deep_lift_shap(model, x, 2, references=refs)
    torch.testing.assert_close(result[:, 0], expected, atol=1e-5, rtol=0)


def test_batches_give_what_single_sequences_and_tracks_give():
    model = TwoHeads(relu_model())
    together = deep_lift_shap(model, X, references=TWO_FOR_EACH, batch_size=5)
    for n, track in np.ndindex(3, 5):
        alone = deep_lift_shap(model, X[[n]], track, references=TWO_FOR_EACH[[n]], batch_size=1)
        np.testing.assert_allclose(together[n, track], alone[0, 0], atol=1e-5)


def test_shuffles_are_the_same_for_the_same_seed_and_any_batch_size():
    model = relu_model()
    first = deep_lift_shap(model, X, n_references=4, batch_size=32)
    np.testing.assert_allclose(first, deep_lift_shap(model, X, n_references=4, batch_size=3), atol=1e-5)
    assert not np.allclose(first, deep_lift_shap(model, X, n_references=4, random_state=9), atol=1e-3)


def test_the_warning_about_deltas_reaches_the_user():
    model = nn.Sequential(relu_model(), Square())
    with pytest.warns(RuntimeWarning, match="[Cc]onvergence deltas"):
        deep_lift_shap(model, X, 0, references="uniform")


def test_the_model_is_left_as_it_was_even_after_an_error():
    model = relu_model().train()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    deep_lift_shap(model, X, 0, references="zero")
    with pytest.raises(TrackError, match="track 9"):
        deep_lift_shap(model, X, 9)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._backward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references": "shuffle"}, "references 'shuffle' are unknown; expected 'dinucleotide'"),
        ({"references": np.zeros((5, 3, 4, LENGTH_BP))}, r"references have shape \(5, 3, 4, 24\)"),
        ({"references": np.zeros((4, 7))}, r"references have shape \(4, 7\)"),
        ({"kind": "raw"}, "kind 'raw' is unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        deep_lift_shap(relu_model(), X, **options)


def test_without_tangermeme_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tangermeme.deep_lift_shap", None)
    with pytest.raises(InputError, match=r"pip install 'tism-scan\[attribution\]'"):
        deep_lift_shap(relu_model(), X)
