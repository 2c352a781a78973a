"""Exact ISM of models with a trunk, by strips of it."""

import numpy as np
import pytest
import torch
from stacked_models import INPUT_BP, TRUNKS, WithTrunk
from torch import nn
from toy_models import N_OUTPUTS

from tism_scan.attribution import ism, mutagenesis
from tism_scan.attribution.mutagenesis import predict_substitutions
from tism_scan.genome.alphabet import one_hot
from tism_scan.plan.tracks import Track


@pytest.fixture
def X():  # noqa: N802  # the field's name for a batch of inputs
    codes = np.random.default_rng(6).integers(0, 4, (3, INPUT_BP)).astype(np.uint8)
    codes[0, 20:23] = 4
    codes[2] = 4
    return one_hot(codes)


@pytest.fixture
def whole(monkeypatch):
    """Return exact ISM by whole passes of the model."""

    def compute(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(mutagenesis, "LEAST_POSITIONS", 10**9)
            return ism(*arguments, **options)

    return compute


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_strips_give_what_whole_passes_give(trunk, batch_size, X, whole):
    model = WithTrunk(TRUNKS[trunk]())
    computed = ism(model, X, batch_size=batch_size)
    assert model.n_read < 10
    np.testing.assert_allclose(computed, whole(model, X), atol=1e-6)


@pytest.mark.parametrize("output", ["prediction", "centered", "mean_effect"])
def test_every_output_is_made_of_them(output, X, whole):
    model = WithTrunk(TRUNKS["like Beluga's"]())
    tracks = [3, Track("pair", (0, 4), (0.5, -0.5))]
    options = {"output": output, "start": 5, "end": -3}
    np.testing.assert_allclose(
        ism(model, X, tracks, **options), whole(model, X, tracks, **options), atol=1e-6
    )


def test_a_head_of_any_kind_will_do(X, whole):
    head = nn.Sequential(nn.Conv1d(6, N_OUTPUTS, 3), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    model = WithTrunk(TRUNKS["like Beluga's"](), head)
    np.testing.assert_allclose(ism(model, X), whole(model, X), atol=1e-6)
    assert model.n_read > 300  # by the whole passes


def test_positions_in_any_order_will_do(X):
    model, x = WithTrunk(TRUNKS["like Beluga's"]()), torch.tensor(X)
    positions = torch.randperm(INPUT_BP, generator=torch.Generator().manual_seed(0))[:40]
    in_order = predict_substitutions(model, x, 1, torch.arange(INPUT_BP))[0]
    torch.testing.assert_close(
        predict_substitutions(model, x, 1, positions)[0], in_order[..., positions], atol=1e-6, rtol=0
    )


def test_a_model_that_is_not_what_it_declares_is_read_whole(X, whole):
    class Scaled(WithTrunk):
        def forward(self, X):
            return super().forward(X) * 2

    model = Scaled(TRUNKS["one layer"]())
    np.testing.assert_array_equal(ism(model, X), whole(model, X))


@pytest.mark.parametrize(
    "trunk",
    [[nn.Conv1d(4, 3, 5, padding=2)], [nn.Conv1d(4, 3, 2, stride=3)]],
    ids=["padded", "with gaps"],
)
def test_trunks_that_have_no_strips_are_read_whole(trunk, X, whole):
    model = WithTrunk(trunk)
    np.testing.assert_array_equal(ism(model, X), whole(model, X))


def test_a_few_positions_are_read_whole_as_other_tools_do(X):
    model = WithTrunk(TRUNKS["one layer"]())
    ism(model, X[1:2], start=10, end=20)
    assert model.n_read == 2 + 10 * 3  # the input itself is read beside a copy
