"""Several models as one: what is loaded, in which order, and what is refused."""

import pickle

import pytest
import torch
from scan_models import ScanModel, smooth_model
from torch import nn

from tism_scan.errors import ModelError, WeightsError
from tism_scan.models.ensemble import Ensemble, EnsembleSource, mean_of, members_of
from tism_scan.models.source import GivenModel, ModelSource, model_source, parameters_digest
from tism_scan.storage.digests import n_joined, short_digest

FACTORY = """
import torch


class Net(torch.nn.Module):
    input_bp, alphabet, output_names = 24, "ACGT", ("one", "two")

    def __init__(self, weights):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(96, 2))
        self.body.load_state_dict(torch.load(weights, weights_only=True))

    def forward(self, X):
        return self.body(X)
"""


@pytest.fixture
def folds(tmp_path):
    """Return three sources of one factory, each with weights of its own."""
    (tmp_path / "folds_of_a_test.py").write_text(FACTORY)
    sources = []
    for i in range(3):
        torch.manual_seed(i)
        path = tmp_path / f"fold_{i}.pt"
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(96, 2)).state_dict(), path)
        sources.append(ModelSource("folds_of_a_test:Net", path, folder=tmp_path))
    return sources


def test_outputs_are_the_mean_of_the_models(folds):
    X = torch.rand((5, 4, 24))
    loaded = model_source(folds).load()
    expected = sum(source.load()(X).double() for source in folds) / 3
    torch.testing.assert_close(loaded(X), expected.float(), rtol=0, atol=1e-7)
    assert (loaded.input_bp, loaded.alphabet, loaded.n_outputs) == (24, "ACGT", 2)
    assert loaded.output_names == ("one", "two")
    assert len(members_of(loaded)) == 3
    assert members_of(folds[0].load())[0].n_outputs == 2


def test_order_in_which_models_are_given_does_not_matter(folds):
    X = torch.rand((2, 4, 24))
    one, other = model_source(folds), model_source([folds[2], folds[0], folds[1]])
    assert one.identity() == other.identity()
    assert torch.equal(one.load()(X), other.load()(X))


def test_identity_holds_the_digest_of_each_models_weights(folds):
    name, digest = model_source(folds).identity()
    assert name == "folds_of_a_test:Net"
    assert digest == "+".join(sorted(source.identity()[1] for source in folds))
    assert n_joined(digest) == 3
    assert short_digest(digest) == "+".join(part[:12] for part in digest.split("+"))


def test_mean_of_equal_models_is_theirs_to_the_bit():
    outputs = torch.rand((7, 3))
    assert torch.equal(mean_of([outputs] * 5), outputs)


def test_modules_in_memory_may_be_several():
    models = [smooth_model(seed=seed) for seed in (5, 6)]
    source = model_source(models)
    name, digest = source.identity(source.load())
    assert name == "scan_models:ScanModel"
    assert set(digest.split("+")) == {parameters_digest(GivenModel(each).load()) for each in models}
    with pytest.raises(ModelError, match="is in the memory of this process"):
        source.absolute()


def test_single_model_in_a_list_is_that_model(folds):
    assert model_source(folds[:1]) == folds[0]


@pytest.mark.parametrize("given", [[], ()])
def test_no_model_at_all_is_refused(given):
    with pytest.raises(ModelError, match="an ensemble of 0 models was asked for; expected two or more"):
        model_source(given)


def test_same_weights_twice_are_refused_whatever_their_name(folds, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(folds[1].weights.read_bytes())
    again = ModelSource(folds[1].spec, copy, folder=tmp_path)
    with pytest.raises(ModelError, match=r"are the same model .*, which would count twice"):
        model_source([*folds, again]).identity()
    with pytest.raises(ModelError, match=r"are the same model"):
        model_source([folds[0], folds[0]]).load()


def named_model(names=None, **attributes):
    """Return a model of random weights that is called something else."""
    model = ScanModel(
        nn.Sequential(nn.Flatten(), nn.Linear(4 * attributes.get("input_bp", 24), 3)), **attributes
    )
    if names is not None:
        model.output_names = names
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (named_model(input_bp=30), r"has input_bp (24|30), and .* has (24|30)"),
        (named_model(alphabet="ACGT"), r"has alphabet '\w+', and .* has '\w+'"),
        (named_model(["a", "b", "d"]), r"has output_names .*, and .* has"),
    ],
    ids=["input_bp", "alphabet", "names"],
)
def test_models_that_differ_are_refused_in_one_line(model, message):
    source = model_source([named_model(), model])
    with pytest.raises(ModelError, match=message) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    assert "expected models with the same inputs and outputs" in str(caught.value)


def test_number_of_outputs_must_be_the_same():
    wide = ScanModel(nn.Sequential(nn.Flatten(), nn.Linear(96, 4)), n_outputs=4)
    with pytest.raises(ModelError, match=r"has n_outputs [34], and .* has [34]"):
        model_source([named_model(), wide]).load()


def test_weights_that_are_missing_are_named(folds, tmp_path):
    lost = ModelSource(folds[0].spec, tmp_path / "lost.pt", folder=tmp_path)
    with pytest.raises(WeightsError, match=r"lost\.pt"):
        model_source([*folds, lost]).load()


def test_source_travels_without_what_was_found_here(folds):
    source = model_source(folds)
    source.identity()
    there = pickle.loads(pickle.dumps(source.absolute())).at_hand("of no use")
    folds[0].weights.write_bytes(folds[1].weights.read_bytes())
    with pytest.raises(ModelError, match="are the same model"):
        there.identity()
    assert len(source.files) == 3


def test_gradient_of_an_ensemble_is_the_mean_of_gradients(folds):
    loaded = model_source(folds).load()
    assert isinstance(loaded, Ensemble)
    X = torch.rand((1, 4, 24), requires_grad=True)
    (found,) = torch.autograd.grad(loaded(X)[0, 1], X)
    each = [torch.autograd.grad(source.load()(X)[0, 1], X)[0] for source in folds]
    torch.testing.assert_close(found, torch.stack(each).mean(0))


def test_long_names_are_cut(folds):
    assert str(EnsembleSource(tuple(folds))).endswith("fold_0.pt + 2 more")
