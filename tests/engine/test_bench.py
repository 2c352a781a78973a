"""How fast an engine is: the arithmetic that is counted, and what the command prints."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from command_line import tism_scan

from tism_scan.cli import cli
from tism_scan.engine import bench as bench_module
from tism_scan.engine.bench import bench, product_rate, time_windows
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.models.beluga import Beluga, random_beluga
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

ONE_TRACK = (Track("0", (0,), (1.0,)),)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Beluga((8, 8, 12, 12, 16, 16), 24, 5).eval()


def scoring_of(stride=256, stitch="center", **choices):
    return Scoring(ONE_TRACK, 2000, stride, stitch, **choices)


def test_arithmetic_of_a_window_is_that_of_its_layers(small):
    lengths = (1993, 1986, 489, 482, 113, 106)
    channels = (4, 8, 8, 12, 12, 16, 16)
    forward = sum(
        2 * 8 * n_in * n_out * length
        for n_in, n_out, length in zip(channels, channels[1:], lengths, strict=False)
    )
    forward += 2 * (16 * 106 * 24 + 24 * 5)
    assert WindowEngine(small, scoring_of(), device="cpu").flop_per_window() == 2 * forward


@pytest.mark.parametrize(("precision", "expected"), [("mixed", 6.1), ("fp32", 9.8)])
def test_arithmetic_of_full_beluga_is_six_times_less_when_the_trunk_is_shared_and_ten_times_when_halved(
    precision, expected
):
    with torch.device("meta"):
        model = Beluga()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.zero_()
    ratio = (
        WindowEngine(model, scoring_of(), device="cpu").flop_per_window()
        / TrunkEngine(model, scoring_of(precision=precision), device="cpu").flop_per_window()
    )
    assert ratio == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_arithmetic_grows_by_the_same_for_every_track_and_twice_for_both_strands(small, stitch):
    tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(3))
    one, two, three = (
        TrunkEngine(small, Scoring(tracks[:n], 2000, 256, stitch), device="cpu").flop_per_window()
        for n in (1, 2, 3)
    )
    assert three - two == two - one > 0
    both = TrunkEngine(small, Scoring(tracks[:1], 2000, 256, stitch, "both"), device="cpu")
    assert both.flop_per_window() == 2 * one


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_windows_that_are_timed_are_those_that_a_block_needs(small, stitch):
    engine = TrunkEngine(small, scoring_of(stitch=stitch), device="cpu")
    timed = time_windows(engine, np.zeros(5_000, np.uint8), seconds=1e-9)
    assert timed.n_windows == {"center": 32, "mean": 36}[stitch]
    assert timed.seconds > timed.device_seconds > 0


def test_block_after_block_is_scored_until_the_seconds_are_over(small, monkeypatch):
    monkeypatch.setattr(bench_module, "_MOST_CORES", 64)
    engine = TrunkEngine(small, scoring_of(), device="cpu")
    timed = time_windows(engine, np.zeros(5_000, np.uint8), seconds=0.6)
    assert timed.seconds >= 0.6
    assert timed.n_windows > 64
    assert timed.n_windows % 64 == 0


def test_figures_of_a_benchmark_fit_together(small):
    result = bench(small, scoring_of(), seconds=0.05, device="cpu")
    assert result.engine == "TrunkEngine"
    assert result.seconds >= 0.05
    assert 0 < result.device_seconds < result.seconds
    assert result.bases_per_s == pytest.approx(256 * result.n_windows / result.seconds)
    assert result.flop_per_s == pytest.approx(result.flop_per_window * result.bases_per_s / 256)
    assert result.share == pytest.approx(result.flop_per_s / result.product_flop_per_s)
    assert result.peak_bytes > 2**26
    assert json.loads(json.dumps(result.to_json()))["share"] == result.share


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rate_of_products_is_one_of_a_computer(precision):
    assert 1e9 < product_rate(torch.device("cpu"), precision) < 1e15


def test_random_beluga_is_the_same_for_a_seed_and_answers_to_its_input():
    one, again = random_beluga(3), random_beluga(3)
    assert all(map(torch.equal, one.parameters(), again.parameters()))
    assert sum(parameter.numel() for parameter in one.parameters()) == 149_536_251
    with torch.no_grad():
        logits = one(torch.eye(4)[torch.randint(4, (2, 2000))].transpose(1, 2))
    assert 0.1 < logits.std() < 10


def test_bench_prints_json_for_a_model_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tism_scan.models.beluga import Beluga\n"
        "def load(weights=None):\n"
        "    return Beluga((8, 8, 8, 8, 8, 8), 8, 5)\n"
    )
    command = ["bench", "--model", "mine:load", "--tracks", "5", "--device", "cpu"]
    done = tism_scan(*command, "--seconds", "0.1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["n_tracks"] == 5
    assert figures["bases_per_s"] > 0


def test_bench_refuses_more_tracks_than_the_model_has(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from tism_scan.models.beluga import Beluga\nload = lambda: Beluga((8,) * 6, 8, 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["bench", "--model", "mine:load", "--tracks", "6"])
    assert "6 tracks were asked for; the model has 5 outputs" in str(result.exception)


@pytest.mark.parametrize(("slowness", "is_warned"), [(7.2, True), (0.4, False)])
def test_bench_says_if_bfloat16_is_imitated(monkeypatch, caplog, slowness, is_warned):
    monkeypatch.setattr(bench_module, "slowness_of_bfloat16", lambda device: slowness)
    model = Beluga((2,) * 6, 2, 5).eval()
    # a stride that the trunk engine does not take, which multiplies in float32 there
    scoring = Scoring((Track("a", (0,), (1.0,)),), model.input_bp, 250, precision="bf16")
    bench_module.bench(model, scoring, seconds=0.01, batch_size=1, device="cpu")
    expected = "this device has no fast bfloat16: its products take 7 times as long as in float32; use --pre"
    told = [line[: len(expected)] for line in caplog.messages if line.startswith("this device")]
    assert told == [expected] * is_warned


def test_bench_of_imitated_bfloat16_ends_soon(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tism_scan.models.beluga import Beluga\nload = lambda: Beluga((2,) * 6, 2, 5)\n"
    )
    command = [sys.executable, "-m", "tism_scan", "bench", "--model", "mine:load", "--precision", "bf16"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--seconds", "0.01", "--json"],
        cwd=tmp_path,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout)["product_flop_per_s"] > 0


@pytest.mark.parametrize("seconds_a_product", [1e-6, 10.0])
def test_product_that_is_timed_is_as_large_as_time_allows(monkeypatch, seconds_a_product):
    sizes = []

    def timed(way, device, dtype, n, repeats):
        sizes.append(n)
        return seconds_a_product

    monkeypatch.setattr(bench_module, "_product_s", timed)
    product_rate(torch.device("cpu"), "bf16")
    assert sizes[-1] == (2048 if seconds_a_product < 1 else 256)
