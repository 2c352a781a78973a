"""Exact ISM of the bases of a block: what `tism_scan.attribution.ism` gives, whatever is shared."""

import copy

import numpy as np
import pytest
import torch
from scan_models import INPUT_BP as SMOOTH_BP
from scan_models import blocks_scored_by, smooth_model
from stacked_models import INPUT_BP, TRUNKS, WithTrunk
from torch import nn
from toy_models import N_OUTPUTS

from tism_scan.attribution import ism
from tism_scan.engine.convolution import Convolution
from tism_scan.engine.trunk import trunk_layers
from tism_scan.genome.alphabet import channel_of_base, is_acgt, one_hot, reverse_complement
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.refine import make_ism_engine
from tism_scan.refine.engines import TrunkIsm, WindowIsm

TRACKS = (Track("a", (0,), (1.0,)), Track("pair", (1, 2), (0.5, -0.5)))
STRIDES = {"strides that leave a rest": 30}


@pytest.fixture(scope="module")
def codes():
    codes = np.random.default_rng(3).integers(0, 4, 403).astype(np.uint8)
    codes[150:157] = 4
    return codes


@pytest.fixture(scope="module")
def wanted(codes):
    wanted = np.random.default_rng(4).random(len(codes)) < 0.08
    wanted[[0, 151, len(codes) - 1]] = True
    wanted[220:260] = False  # no base of some windows
    return wanted


def exact(model, scoring, codes, wanted):
    """Return exact ISM of each wanted base in the window of its core, by `ism` in float64, base by base."""
    model, input_bp = copy.deepcopy(model).double(), scoring.input_bp
    if scoring.output_space == "probability":
        model = nn.Sequential(model, nn.Sigmoid())
    padded = np.concatenate([np.full(input_bp, 4, np.uint8), codes, np.full(2 * input_bp, 4, np.uint8)])
    effects = np.full((len(scoring.tracks), 4, len(codes)), np.nan)
    order = channel_of_base("AGCT").tolist()

    def effect(window, position):
        X = torch.tensor(one_hot(window, "AGCT")[None], dtype=torch.float64)
        return ism(model, X, scoring.tracks, start=position, end=position + 1)[0, :, order, 0].numpy()

    for base in np.flatnonzero(wanted & is_acgt(codes)):
        start = base // scoring.stride * scoring.stride - (input_bp - scoring.stride) // 2
        window, position = padded[start + input_bp : start + 2 * input_bp], base - start
        effects[..., base] = effect(window, position)
        if scoring.strands == "both":
            turned = np.ascontiguousarray(reverse_complement(window))
            effects[..., base] += effect(turned, input_bp - 1 - position)[:, ::-1]
            effects[..., base] /= 2
    return effects


def assert_close(found, expected):
    """Compare to 1e-5 of the largest effect, and to the rounding of outputs, which are about 1."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    tolerance = 1e-5 * np.nanmax(np.abs(expected)) + 5e-7
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def scoring_of(stride, input_bp=INPUT_BP, **settings):
    return Scoring(TRACKS, input_bp, stride, values="tism", **settings)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize(("whole_windows", "strands"), [(False, "both"), (True, "forward")])
def test_a_trunk_gives_what_ism_gives(trunk, whole_windows, strands, codes, wanted):
    model = WithTrunk(TRUNKS[trunk]()).float()
    stride = INPUT_BP if whole_windows else STRIDES.get(trunk, 12)
    scoring = scoring_of(stride, strands=strands)
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    assert isinstance(engine, TrunkIsm)
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("output_space", ["logit", "probability"])
def test_any_model_gives_what_ism_gives(strands, output_space, codes, wanted):
    scoring = scoring_of(8, SMOOTH_BP, strands=strands, output_space=output_space)
    engine = make_ism_engine(smooth_model(), scoring, device="cpu")
    assert isinstance(engine, WindowIsm)
    found = blocks_scored_by(engine, codes, block_bp=80, wanted=wanted)
    assert_close(found, exact(smooth_model(), scoring, codes, wanted))


def test_products_with_whole_kernels_give_the_same(monkeypatch, codes, wanted):
    monkeypatch.setattr("tism_scan.refine.changes._multiplies_padding", lambda layer: True)
    model, scoring = WithTrunk(TRUNKS["like Beluga's"]()).float(), scoring_of(12)
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


def test_a_head_of_any_kind_will_do(codes, wanted):
    head = nn.Sequential(nn.Conv1d(6, N_OUTPUTS, 3), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    model = WithTrunk(TRUNKS["like Beluga's"](), head).float()
    scoring = scoring_of(12, output_space="probability")
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


@pytest.mark.parametrize("output_space", ["logit", "probability"])
def test_a_head_of_two_linear_layers_gives_what_ism_gives(output_space, codes, wanted):
    n_values = WithTrunk(TRUNKS["like Beluga's"]()).head[2].in_features
    head = nn.Sequential(nn.Flatten(), nn.Linear(n_values, 9), nn.ReLU(), nn.Linear(9, N_OUTPUTS))
    model = WithTrunk(TRUNKS["like Beluga's"](), head).float()
    scoring = scoring_of(12, output_space=output_space)
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    assert isinstance(engine, TrunkIsm)
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


def test_wide_layers_give_what_ism_gives(codes, wanted):
    trunk = [nn.Conv1d(4, 128, 4), nn.ReLU(), nn.Conv1d(128, 128, 8), nn.ReLU(), nn.MaxPool1d(4)]
    model, scoring = WithTrunk(trunk).float(), scoring_of(12)
    wide = [layer for layer in trunk_layers(model.trunk) if isinstance(layer, Convolution)][1]
    assert wide.halved() is not wide
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


@pytest.mark.parametrize("kind", [TrunkIsm, WindowIsm])
def test_batches_change_the_time_and_not_the_effects(kind, codes, wanted):
    scoring = scoring_of(12)
    found = [
        blocks_scored_by(
            kind(WithTrunk(TRUNKS["like Beluga's"]()).float(), scoring, batch_size=n, device="cpu"),
            codes,
            block_bp=block_bp,
            wanted=wanted,
        )
        for n, block_bp in ((1, 36), (3, 120), (None, 408))
    ]
    for each in found[1:]:
        assert_close(each, found[0])


def test_only_what_a_substitution_changes_is_computed(codes, wanted):
    model = WithTrunk(TRUNKS["like Beluga's"]()).float()
    engine = make_ism_engine(model, scoring_of(12), device="cpu")
    model.n_read = 0
    blocks_scored_by(engine, codes, wanted=wanted)
    assert model.n_read == 0


def test_windows_without_a_chosen_base_are_not_computed(codes):
    model = smooth_model()
    engine = make_ism_engine(model, scoring_of(8, SMOOTH_BP), device="cpu")
    model.n_windows_seen = 0
    wanted = np.zeros(len(codes), bool)
    wanted[[20, 21, 300]] = True
    blocks_scored_by(engine, codes, wanted=wanted)
    assert model.n_windows_seen <= 2 + 2 + 3 * 3  # each window as it is, beside a copy, and 9 substitutions


def test_a_trunk_that_leaves_bases_out_is_computed_by_whole_windows(codes, wanted):
    trunk = [nn.Conv1d(4, 5, 4), nn.ReLU(), nn.Conv1d(5, 5, 2, stride=3), nn.ReLU()]
    model, scoring = WithTrunk(trunk).float(), scoring_of(12)
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    assert isinstance(engine, WindowIsm)
    found = blocks_scored_by(engine, codes, block_bp=120, wanted=wanted)
    assert_close(found, exact(model, scoring, codes, wanted))


def test_a_stride_that_the_trunk_cannot_share_is_computed_by_whole_windows(codes, wanted):
    model = WithTrunk(TRUNKS["like Beluga's"]()).float()
    scoring = scoring_of(6)
    engine = make_ism_engine(copy.deepcopy(model), scoring, device="cpu")
    assert isinstance(engine, WindowIsm)
    assert_close(
        blocks_scored_by(engine, codes, block_bp=120, wanted=wanted), exact(model, scoring, codes, wanted)
    )


@pytest.mark.parametrize("of", [TrunkIsm, WindowIsm])
def test_both_strands_take_twice_the_arithmetic(of):
    model = WithTrunk(next(iter(TRUNKS.values()))()).float()
    one, two = (of(model, scoring_of(16, strands=strands), device="cpu") for strands in ("forward", "both"))
    assert two.flop_per_window() == 2 * one.flop_per_window() > 0
