"""Precision "auto" suits what the actors compute on, whatever the driver's own machine has."""

from pathlib import Path

import pytest
import ray
import torch
from click.testing import CliRunner

import tism_scan as ts
from tism_scan.cli import cli
from tism_scan.ray_scan import cluster
from tism_scan.ray_scan.cluster import RayOptions, takes_gpus
from tism_scan.scan import planning
from tism_scan.scan.precision import PrecisionChoice
from tism_scan.scan.result import ScanResult
from tism_scan.store.score_store import ScoreStore


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """Have every trial of the precisions choose "split"."""
    choice = PrecisionChoice("split", (), n_windows=1, n_bases=1, n_tracks=1, seed=0, device="cpu")
    monkeypatch.setattr(planning, "cheapest_precision", lambda *_: choice)


@pytest.fixture
def joined(monkeypatch):
    """Return the nodes of a cluster that this process seems to have joined."""
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    return nodes


def scan(tiny_genome, narrow_beluga_weights, out, *options):
    command = ["run", "--genome", str(tiny_genome), "--weights", str(narrow_beluga_weights)]
    done = CliRunner().invoke(cli, [*command, "--tracks", "0", "--out", str(out), *options])
    assert done.exception is None, done.output
    return ScoreStore.open(out).plan.scoring.precision


@pytest.fixture
def no_scan(monkeypatch):
    monkeypatch.setattr("tism_scan.ray_scan.driver.scan_on_ray", lambda store, *_, **__: ScanResult())


@pytest.mark.parametrize(
    ("gpus", "options", "expected"),
    [
        ({"GPU": 1.0}, [], "split"),
        ({}, [], "fp32"),
        ({}, ["--gpus-per-actor", "0.5"], "split"),
        ({"GPU": 1.0}, ["--precision", "fp32"], "fp32"),
    ],
    ids=["a node has a GPU", "no node has one", "GPUs are to come", "a precision is named"],
)
def test_scan_from_a_driver_without_a_gpu_has_the_precision_of_its_actors(
    joined, no_scan, tiny_genome, narrow_beluga_weights, tmp_path, gpus, options, expected
):
    joined.append({"Alive": True, "Resources": {"CPU": 4.0, **gpus}})
    options = ["--address", "auto", *options]
    assert scan(tiny_genome, narrow_beluga_weights, tmp_path / "scores.zarr", *options) == expected


def test_begun_store_keeps_its_precision_on_a_cluster_with_gpus(
    joined, no_scan, tiny_genome, narrow_beluga_weights, tmp_path
):
    out = tmp_path / "scores.zarr"
    assert scan(tiny_genome, narrow_beluga_weights, out) == "fp32"
    joined[0]["Resources"]["GPU"] = 1.0
    assert scan(tiny_genome, narrow_beluga_weights, out) == "fp32"


def test_dead_nodes_gpus_count_for_nothing(joined):
    joined.append({"Alive": False, "Resources": {"GPU": 8.0}})
    assert not takes_gpus(RayOptions("auto"))


def test_cluster_is_left_once_it_was_asked_for_its_gpus(monkeypatch):
    calls = []
    monkeypatch.setattr(ray, "init", lambda **arguments: calls.append(arguments["address"]))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"GPU": 1.0}}])
    monkeypatch.setattr(cluster, "_knock", lambda address: None)
    assert takes_gpus(RayOptions("auto", ships_package=True))
    assert calls == ["auto", "shutdown"]


@pytest.mark.parametrize(
    ("is_seen", "n_gpus", "expected"), [(True, None, None), (False, None, 0), (False, 2, 2)]
)
def test_local_ray_gets_no_gpu_that_pytorch_cannot_use(monkeypatch, is_seen, n_gpus, expected):
    given = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_seen)
    monkeypatch.setattr(ray, "init", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    options = RayOptions(n_gpus=n_gpus)
    with cluster.connected(options):
        assert given["num_gpus"] == expected
    assert takes_gpus(options) is (expected != 0)


@pytest.mark.parametrize(("on_gpus", "expected"), [(True, "split"), (False, "fp32")])
def test_plan_made_in_python_may_say_what_will_compute_it(
    tiny_genome, narrow_beluga_weights, monkeypatch, on_gpus, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not on_gpus)
    planned = ts.plan_scan(tiny_genome, Path(narrow_beluga_weights), tracks=0, on_gpus=on_gpus)
    assert planned.plan.scoring.precision == expected
