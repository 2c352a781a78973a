"""What other people's implementations say of the same models: tangermeme, captum and torch.func."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from toy_models import inputs, linear_model, relu_model, smooth_model

from tism_scan.attribution import deep_lift_shap, gradient, ism, tism
from tism_scan.demo.genome import make_genome
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.beluga import load_beluga

pytest.importorskip("tangermeme")
pytest.importorskip("captum")

X = inputs(3)
TRACKS = [4, 0, 2]
MODELS = [smooth_model, relu_model, linear_model]
# tangermeme's own tolerance for the convergence of DeepLIFT/SHAP.
CONVERGENCE = 1e-3


def _ism_by_tangermeme(model, X, start=0, end=-1):
    """Return the effect of every substitution, (N, T, 4, L); an end of -1 is the last base here."""
    from tangermeme.saturation_mutagenesis import saturation_mutagenesis

    raw = saturation_mutagenesis(
        model.eval(), torch.tensor(X), start=start, end=end, raw_outputs=True, device="cpu"
    )
    return (raw.y_hat - raw.y0[:, None, None]).permute(0, 3, 1, 2).numpy()


@pytest.mark.parametrize("make_model", MODELS)
def test_exact_ism_is_tangermemes(make_model):
    model = make_model()
    np.testing.assert_allclose(ism(model, X), _ism_by_tangermeme(model, X), atol=1e-5)
    np.testing.assert_allclose(
        ism(model, X, TRACKS, start=5, end=11), _ism_by_tangermeme(model, X, 5, 11)[:, TRACKS], atol=1e-5
    )


def test_centered_ism_is_tangermemes_hypothetical_attribution():
    from tangermeme.saturation_mutagenesis import saturation_mutagenesis

    model = smooth_model().eval()
    theirs = saturation_mutagenesis(model, torch.tensor(X), target=2, hypothetical=True, device="cpu")
    np.testing.assert_allclose(ism(model, X, 2, output="centered")[:, 0], theirs.numpy(), atol=1e-5)


def test_tism_of_a_linear_model_is_tangermemes_ism():
    model = linear_model()
    np.testing.assert_allclose(tism(model, X), _ism_by_tangermeme(model, X), atol=1e-5)


@pytest.mark.parametrize("make_model", MODELS)
def test_the_gradient_is_captums(make_model):
    from captum.attr import Saliency

    model = make_model().eval()
    ours = gradient(model, X, TRACKS)
    for i, track in enumerate(TRACKS):
        x = torch.tensor(X, requires_grad=True)
        theirs = Saliency(model).attribute(x, target=track, abs=False)
        np.testing.assert_allclose(ours[:, i], theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("make_model", MODELS)
def test_the_gradient_is_that_of_torch_func(make_model):
    model = make_model().eval()

    def outputs_of(x):
        return model(x[None])[0]

    theirs = torch.func.vmap(torch.func.jacrev(outputs_of))(torch.tensor(X))  # (N, outputs, 4, L)
    np.testing.assert_allclose(gradient(model, X), theirs.detach().numpy(), atol=1e-6)


def test_the_corrected_gradient_is_tangermemes_saliency():
    from tangermeme.saliency import saliency

    from tism_scan.attribution import transform

    model = relu_model().eval()
    theirs = saliency(model, torch.tensor(X), target=3, hypothetical=True, device="cpu")
    np.testing.assert_allclose(transform(gradient(model, X, 3), X, "corrected")[:, 0], theirs, atol=1e-6)


@pytest.fixture(scope="module")
def demo():
    """Return the demo's model, and two windows of its genome around planted sites."""
    made = make_genome()["chr1"]
    model = load_beluga(str(files("tism_scan.demo") / "demo_beluga.pth"))
    starts = [site.start - 1000 for site in made.sites[10:12]]
    codes = np.stack([made.codes[start : start + model.input_bp] for start in starts])
    return model, one_hot(codes, model.alphabet)


@pytest.mark.parametrize("track", [0, 6])
def test_contributions_to_the_demos_model_are_complete_within_tangermemes_tolerance(demo, track):
    from tangermeme.ersatz import dinucleotide_shuffle

    model, windows = demo
    contributions = deep_lift_shap(
        model, windows, track, kind="global", n_references=3, warning_threshold=CONVERGENCE
    )
    shuffles = dinucleotide_shuffle(torch.tensor(windows), n=3, random_state=0)
    with torch.no_grad():
        at_references = model(shuffles.flatten(0, 1))[:, track].view(len(windows), 3)
        change = model(torch.tensor(windows))[:, track] - at_references.mean(1)
    assert change.abs().max() > 1
    np.testing.assert_allclose(contributions[:, 0].sum((1, 2)), change, atol=CONVERGENCE)


def test_exact_ism_of_the_demos_model_is_tangermemes(demo):
    model, windows = demo
    theirs = _ism_by_tangermeme(model, windows, 995, 1015)
    ours = ism(model, windows, start=995, end=1015)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
