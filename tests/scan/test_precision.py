"""Precision "auto" on GPUs: the cheapest that agrees with float32 on the scan's own genome and weights."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sequences import random_sequence
from stand_in_weights import load_narrow_beluga

import tism_scan as ts
from tism_scan.cli import cli
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import Spans
from tism_scan.ray_scan import cluster
from tism_scan.scan import planning, precision
from tism_scan.scan.precision import (
    CANDIDATES,
    LEAST_PEARSON,
    Agreement,
    PrecisionChoice,
    cheapest_precision,
    first_that_agrees,
    pearson_of_tracks,
    position_of,
    sampled_blocks,
)
from tism_scan.scan.result import ScanResult
from tism_scan.store.score_store import ScoreStore

DEMO = files("tism_scan.demo") / "demo_beluga.pth"


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return a FASTA file with a long run of N, whose chroms are as unlike in length as may be."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    chroms = {
        "chr1": random_sequence(20_000, 1) + "N" * 40_000 + random_sequence(30_000, 2),
        "short": "GATTACA",
    }
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in chroms.items()))
    return path


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Return the weights file of a narrow network of noise."""
    folder = tmp_path_factory.mktemp("weights")
    load_narrow_beluga(7, folder)
    return folder / "narrow_seed7.pth"


@pytest.fixture
def few_windows(monkeypatch):
    monkeypatch.setattr(precision, "MOST_WINDOWS", 64)


@given(st.lists(st.floats(0, 1) | st.just(LEAST_PEARSON), min_size=4, max_size=4))
def test_choice_is_the_cheapest_that_agrees_and_no_dearer_one_is_tried(pearsons):
    known = dict(zip(CANDIDATES, pearsons, strict=True))
    chosen, tried = first_that_agrees(lambda each: Agreement(each, known[each], "a"))
    n_tried = len(tried)
    assert [each.precision for each in tried] == list(CANDIDATES[:n_tried])
    assert all(known[each] < LEAST_PEARSON for each in CANDIDATES[: n_tried - 1])
    if chosen == "fp32":
        assert n_tried == 4
        assert known["mixed"] < LEAST_PEARSON
    else:
        assert chosen == CANDIDATES[n_tried - 1]
        assert known[chosen] >= LEAST_PEARSON


def test_precision_that_this_pytorch_has_no_products_for_is_not_tried(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.7.1")
    _, tried = first_that_agrees(lambda each: Agreement(each, 0.0, "a"))
    assert [each.precision for each in tried] == ["bf16", "mixed"]


def test_pearson_of_each_track_is_numpys_and_never_nan():
    exact = np.random.default_rng(1).normal(size=(6, 50)).astype(np.float32) * 1e-30
    rounded = exact + np.random.default_rng(2).normal(size=exact.shape).astype(np.float32) * 1e-31
    exact[1] = rounded[1] = 0  # a dead output
    exact[2] = 0.5  # constant, and not met
    exact[3, 7] = np.nan
    rounded[4, 7] = np.inf  # overflow
    found = pearson_of_tracks(exact, rounded)
    expected = [np.corrcoef(exact[i].astype(float), rounded[i].astype(float))[0, 1] for i in (0, 5)]
    np.testing.assert_allclose(found[[0, 5]], expected, rtol=1e-12)
    assert found[1:5].tolist() == [1, 0, 0, 0]
    assert pearson_of_tracks(exact[:, :0], rounded[:, :0]).tolist() == [1] * 6


def test_agreement_is_never_printed_as_more_than_it_is():
    assert str(Agreement("fp16", 0.99989999, "267 JunD")) == "fp16 0.999899 (267 JunD)"


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6))
def test_every_base_of_spans_has_its_position(gaps_and_lengths):
    ends = np.cumsum(gaps_and_lengths)
    spans = Spans(list(zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True)))
    bases = [position for start, end in spans for position in range(start, end)]
    assert [position_of(spans, i) for i in range(len(bases))] == bases


def test_sample_is_of_wanted_bases_that_have_a_score_and_the_same_each_time(genome, noise):
    plan = ts.plan_scan(
        genome, noise, tracks=0, regions=["chr1:1,001-58,000", "short"], precision="fp32"
    ).plan
    with Genome(genome) as opened:
        sample, again = (sampled_blocks(opened, plan, 48) for _ in range(2))
    assert [each.block for each in sample] == [each.block for each in again]
    assert len({each.block.start for each in sample}) == len(sample) > 2
    for each in sample:
        assert each.is_scored.any()
        assert each.block.start % 256 == 0
        assert each.block.chrom == "short" or each.block.start < 20_000
    n_cores = sum(len(np.unique(np.flatnonzero(each.is_scored) // 256)) for each in sample)
    assert 48 <= n_cores < 48 + 16


@pytest.mark.parametrize(
    "settings",
    [
        {"tracks": "0,3", "groups": "mean=1,2,5", "strands": "both", "values": "tism"},
        {"tracks": "4", "path": (1, 0.5), "stitch": "mean", "output_space": "probability"},
    ],
)
def test_figures_are_those_of_the_scores_that_are_asked_for(genome, noise, monkeypatch, settings):
    monkeypatch.setattr(precision, "MOST_WINDOWS", 32)
    monkeypatch.setattr(precision, "CANDIDATES", ("bf16",))
    planned = ts.plan_scan(genome, noise, precision="fp32", **settings)
    with Genome(genome) as opened:
        choice = cheapest_precision(planned.loaded, opened, planned.plan, planned.sharing)
        sample = sampled_blocks(opened, planned.plan, choice.n_windows)
    (found,) = choice.agreements
    scoring = ts.plan_scan(genome, noise, precision="bf16", **settings | {"values": "mean"}).plan.scoring
    engines = (
        WindowEngine(planned.loaded, ts.plan_scan(genome, noise, precision="fp32", **settings).plan.scoring),
        TrunkEngine(planned.loaded, scoring),
    )
    exact, rounded = (
        np.concatenate([engine.score(each.codes, each.stretch, each.wanted) for each in sample], axis=-1)
        for engine in engines
    )
    if exact.ndim == 3:
        exact = -exact.sum(1) / 3
    is_base = np.isfinite(exact[0])
    each_track = [np.corrcoef(x[is_base], y[is_base])[0, 1] for x, y in zip(exact, rounded, strict=True)]
    assert choice.n_bases == is_base.sum()
    assert found.pearson == pytest.approx(min(each_track), abs=1e-6)
    worst = scoring.tracks[int(np.argmin(each_track))]
    assert worst.name in found.track


@pytest.mark.parametrize("weights", ["demo", "noise"])
def test_pearson_rises_with_what_a_precision_costs(genome, noise, monkeypatch, few_windows, weights):
    monkeypatch.setattr(precision, "LEAST_PEARSON", 2.0)  # so that all are tried
    path = str(DEMO) if weights == "demo" else noise
    choice = ts.plan_scan(genome, path, tracks=0, on_gpus=True).measured
    bf16, fp16, split, mixed = (each.pearson for each in choice.agreements)
    assert bf16 < fp16 < split <= 1
    assert mixed > fp16
    assert min(split, mixed) >= LEAST_PEARSON > bf16
    assert choice.precision == "fp32"


def test_trained_weights_take_one_product(genome, few_windows):
    planned = ts.plan_scan(genome, str(DEMO), tracks=0, on_gpus=True)
    assert planned.plan.scoring.precision == planned.measured.precision == "fp16"
    assert PrecisionChoice.from_json(json.loads(json.dumps(planned.measured.to_json()))) == planned.measured


@pytest.mark.parametrize("region", ["chr1:1,001-1,002", "chr1:21,000-30,000"], ids=["few bases", "all N"])
def test_few_bases_are_scored_in_float32(genome, noise, region):
    choice = ts.plan_scan(genome, noise, tracks=0, regions=region, on_gpus=True).measured
    assert (choice.precision, choice.agreements) == ("fp32", ())
    assert "bases are too few to compare others on" in str(choice)


def test_of_many_tracks_a_sample_is_compared(genome, noise, monkeypatch, few_windows):
    monkeypatch.setattr(precision, "MOST_TRACKS", 3)
    choice = ts.plan_scan(genome, noise, tracks="all", on_gpus=True).measured
    assert choice.n_tracks == 3


def test_model_is_left_as_it_was(genome, noise, few_windows):
    planned = ts.plan_scan(genome, noise, tracks=0, on_gpus=True)
    assert {parameter.device.type for parameter in planned.loaded.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    "settings",
    [{"on_gpus": False}, {"on_gpus": True, "precision": "mixed"}, {"on_gpus": True, "stride": 250}],
    ids=["on CPUs", "a precision is named", "windows share no stack"],
)
def test_nothing_is_measured_where_there_is_no_choice(genome, noise, monkeypatch, settings):
    monkeypatch.setattr(planning, "cheapest_precision", None)
    planned = ts.plan_scan(genome, noise, tracks=0, **settings)
    assert planned.plan.scoring.precision == settings.get("precision", "fp32")
    assert planned.measured is None


def chosen(name):
    """Return a trial that chooses a precision, whatever the model."""
    return lambda *_: PrecisionChoice(name, (Agreement(name, 0.99995, "0 a"),), 256, 65536, 1, 0, "cpu")


def test_store_keeps_its_own_precision_and_its_figures_though_another_would_be_chosen_now(
    genome, noise, monkeypatch, tmp_path
):
    for name in ("split", "fp16"):
        monkeypatch.setattr(planning, "cheapest_precision", chosen(name))
        store = ts.plan_scan(genome, noise, tracks=0, on_gpus=True).create_store(tmp_path / "scores.zarr")
        assert store.plan.scoring.precision == "split"
        assert planning.precision_choice(store) == chosen("split")()


def test_run_records_its_choice_says_it_and_does_not_measure_again(
    genome, noise, monkeypatch, tmp_path, few_windows
):
    monkeypatch.setattr(cluster, "takes_gpus", lambda options: True)
    monkeypatch.setattr("tism_scan.ray_scan.driver.scan_on_ray", lambda *_, **__: ScanResult())
    out = tmp_path / "scores.zarr"
    command = ["--genome", str(genome), "--weights", str(noise), "--tracks", "0"]
    first = CliRunner().invoke(cli, ["run", *command, "--out", str(out)])
    assert first.exception is None, first.output
    choice = planning.precision_choice(ScoreStore.open(out))
    assert choice.precision == ScoreStore.open(out).plan.scoring.precision
    monkeypatch.setattr(planning, "cheapest_precision", None)
    second = CliRunner().invoke(cli, ["run", *command, "--out", str(out)])
    assert second.exception is None, second.output
    for done in (first, second):
        assert str(choice) in " ".join(done.output.split())


def test_plan_says_what_run_would_choose(genome, noise, monkeypatch):
    monkeypatch.setattr(planning, "cheapest_precision", chosen("split"))
    command = ["plan", "--genome", str(genome), "--weights", str(noise), "--tracks", "0", "--seconds", "0.01"]
    for options, expected in ([], "fp32"), (["--gpus-per-actor", "1"], "split"):
        done = CliRunner().invoke(cli, [*command, *options, "--json"])
        figures = json.loads(done.output.splitlines()[-1])
        assert figures["precision"] == expected
    assert figures["precision_choice"]["agreements"][0]["track"] == "0 a"
    done = CliRunner().invoke(cli, [*command, "--gpus-per-actor", "1"])
    assert "precision split, the cheapest" in " ".join(done.output.split())
