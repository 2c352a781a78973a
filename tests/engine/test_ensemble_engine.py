"""The mean over models of blocks' scores, and its standard deviation, against plain loops over the models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scan_models import TRACKS, ScanModel, blocks_scored_by, mean_of, naive_scores, smooth_model
from torch import nn

from tism_scan.engine.bench import time_windows
from tism_scan.engine.choice import least_shared, make_engine, sharing_of
from tism_scan.engine.ensemble_engine import EnsembleEngine
from tism_scan.errors import PlanError
from tism_scan.models.ensemble import Ensemble
from tism_scan.plan.scoring import Scoring
from tism_scan.refine.engines import make_ism_engine

CODES = np.random.default_rng(5).integers(0, 5, 100).astype(np.uint8)
SCORING = Scoring(TRACKS, 24, 6)


@pytest.fixture
def models():
    return [smooth_model(seed=seed) for seed in (5, 6, 7)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stitch": "mean", "strands": "both"},
        {"output_space": "probability"},
        {"path": (1.0, 0.5)},
    ],
    ids=str,
)
def test_mean_is_that_of_a_loop_over_the_models(models, changes):
    scoring = replace(SCORING, **changes)
    expected = np.mean([mean_of(naive_scores(model, scoring, CODES)) for model in models], axis=0)
    found = blocks_scored_by(make_engine(Ensemble(models), scoring, device="cpu"), CODES)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_all_four_bases_are_the_mean_of_the_models(models):
    scoring = replace(SCORING, values="tism")
    expected = np.mean([naive_scores(model, scoring, CODES) for model in models], axis=0)
    found = blocks_scored_by(make_engine(Ensemble(models), scoring, device="cpu"), CODES)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_share_that_is_done_rises_over_all_models(models, monkeypatch):
    engine = make_engine(Ensemble(models), SCORING, device="cpu", batch_size=4)
    shares = []
    for member in models:
        forward = member.forward
        monkeypatch.setattr(
            member, "forward", lambda X, of=forward: shares.append(engine.share_done) or of(X)
        )
    blocks_scored_by(engine, CODES)
    assert shares == sorted(set(shares))
    assert shares[0] == engine.share_done == 0
    assert [any(i <= 3 * share < i + 1 for share in shares) for i in range(3)] == [True] * 3
    assert shares[-1] < 1


def test_standard_deviation_is_that_of_the_models_scores(models):
    scoring = replace(SCORING, values="mean+sd")
    each = np.stack([blocks_scored_by(make_engine(model, SCORING, device="cpu"), CODES) for model in models])
    found = blocks_scored_by(make_engine(Ensemble(models), scoring, device="cpu"), CODES)
    assert found.shape == (2, 2, len(CODES))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], each.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], each.std(0, dtype=np.float64, ddof=1), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(found[:, 0]), np.isnan(found[:, 1]))
    np.testing.assert_array_equal(np.isnan(found[0, 0]), CODES == 4)


@pytest.mark.parametrize("n", [2, 5, 7])
def test_equal_models_have_their_own_scores_and_no_deviation(n):
    alone = blocks_scored_by(make_engine(smooth_model(), SCORING, device="cpu"), CODES)
    ensemble = Ensemble([smooth_model() for _ in range(n)])
    found = blocks_scored_by(make_engine(ensemble, replace(SCORING, values="mean+sd"), device="cpu"), CODES)
    np.testing.assert_array_equal(found[:, 0], alone)
    assert np.nanmax(found[:, 1]) == 0


def test_each_model_goes_through_the_fastest_engine_for_it(models):
    def trunked(seed):
        torch.manual_seed(seed)
        model = ScanModel(nn.Identity())
        model.trunk = nn.Sequential(nn.Conv1d(4, 5, 5), nn.ReLU())
        model.head = nn.Sequential(nn.Flatten(), nn.Linear(100, 3))
        model.body = nn.Sequential(model.trunk, model.head)
        return model

    engine = make_engine(Ensemble([trunked(1), trunked(2)]), SCORING, device="cpu")
    assert engine.name == "2 x TrunkEngine"
    mixed = Ensemble([trunked(1), models[0]])
    assert make_engine(mixed, SCORING, device="cpu").name == "2 x TrunkEngine or WindowEngine"
    assert sharing_of(Ensemble([trunked(1), trunked(2)]), SCORING) == ("stack", "stack")
    assert sharing_of(mixed, SCORING) == ("stack", "none")
    assert [least_shared(each) for each in (("stack", "none"), ("trunk", "stack"))] == ["none", "trunk"]
    assert make_engine(mixed, SCORING, sharing=("stack", "none")).name == "2 x TrunkEngine or WindowEngine"
    one = make_engine(trunked(1), SCORING, device="cpu")
    assert engine.flop_per_window() == 2 * one.flop_per_window()
    blocks_scored_by(engine, CODES)
    assert time_windows(engine, CODES, 0.0).device_seconds > 0
    assert engine.device == torch.device("cpu")


def test_exact_ism_is_the_mean_over_the_models(models):
    scoring = replace(SCORING, values="tism")
    each = [blocks_scored_by(make_ism_engine(model, scoring, device="cpu"), CODES) for model in models]
    engine = make_ism_engine(Ensemble(models), scoring, device="cpu")
    assert isinstance(engine, EnsembleEngine)
    np.testing.assert_allclose(blocks_scored_by(engine, CODES), np.mean(each, axis=0), atol=1e-6)


def test_standard_deviation_of_a_single_model_is_refused(models):
    with pytest.raises(PlanError, match=r"and there is one; expected two or more; give --weights for each"):
        make_engine(models[0], replace(SCORING, values="mean+sd"))


def test_infinite_scores_of_one_model_are_not_hidden(models):
    class Broken(nn.Module):
        def forward(self, X):
            return X.sum((1, 2), keepdim=True)[:, :, 0].expand(-1, 3) * torch.inf

    found = blocks_scored_by(make_engine(Ensemble([models[0], ScanModel(Broken())]), SCORING), CODES)
    assert not np.isfinite(found).any()
