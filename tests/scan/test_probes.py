"""What a model computes is part of what a store is made with: a factory that is edited is found out."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from command_line import tism_scan
from stand_in_weights import load_narrow_beluga

import tism_scan as ts
from tism_scan.cli import cli
from tism_scan.engine import sharing
from tism_scan.errors import ModelError, ScanError, StoreError, WeightsError
from tism_scan.models.bpnet import BPNet, BPNetShape
from tism_scan.models.probe import probe_outputs
from tism_scan.models.source import ModelSource
from tism_scan.plan.probes import Probes
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan import precision
from tism_scan.scan.likeness import difference_from, probes_of
from tism_scan.scan.verify import Sample, verify_store
from tism_scan.scan.worker import BlockWorker, WorkerSetup

FACTORY = """
import torch


class Model(torch.nn.Module):
    input_bp, alphabet, output_names = 40, "ACGT", ("one", "two")

    def __init__(self, weights=None):
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Conv1d(4, 2, 9)

    def forward(self, X):
        y = self.layer(X).tanh().sum(2)
        return y
"""
EDITS = {
    "times -3": ("return y", "return -3 * y"),
    "one output": ("return y", "return y * torch.tensor([1.0, 1.01])"),
    "other channels": ('"ACGT"', '"AGCT"'),
    "NaN": ("return y", "return y / 0 * 0"),
}
TRACKS = (Track("one", (0,), (1.0,)), Track("both", (0, 1), (0.5, 0.5)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    sequence = "".join(np.random.default_rng(2).choice(list("ACGT"), 300))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    write_factory(tmp_path, FACTORY)
    yield tmp_path
    sys.modules.pop("edited", None)


def write_factory(folder, text):
    """Write the model's module, to be imported as a new process would."""
    (folder / "edited.py").write_text(text)
    (folder / "weights.pt").write_bytes(b"the same all the time")
    sys.modules.pop("edited", None)
    sys.dont_write_bytecode = True


def source(folder):
    return ModelSource("edited:Model", folder / "weights.pt", folder=folder)


def planned(folder):
    return ts.plan_scan(folder / "genome.fa", source(folder), tracks="all", groups="mix=one,two", stride=20)


def without_record(store):
    """Make a store of an earlier release of one: it says nothing of what the model computes."""
    path = store.path / ".scan" / "run.json"
    described = json.loads(path.read_text())
    del described["probes"]
    path.write_text(json.dumps(described))


@pytest.mark.parametrize("edit", EDITS)
def test_edited_factory_is_refused_and_the_difference_named(folder, edit):
    planned(folder).create_store(folder / "s.zarr")
    write_factory(folder, FACTORY.replace(*EDITS[edit]))
    with pytest.raises(
        StoreError, match=r"s\.zarr was made with a model that computes something else"
    ) as caught:
        planned(folder).create_store(folder / "s.zarr")
    said = str(caught.value)
    assert "\n" not in said
    assert ("track 'two' is" if edit == "one output" else "track '") in said
    assert "use the code that made it, another --out, or --overwrite" in said
    if edit == "times -3":
        record = ts.ScoreStore.open(folder / "s.zarr").plan.probes.values
        i = int(np.argmax([abs(row[0]) for row in record]))
        assert f"{record[i][0]:.4g}" in said
        assert f"{-3 * record[i][0]:.4g}" in said


def test_unedited_factory_and_rounding_are_accepted(folder):
    plan = planned(folder)
    plan.create_store(folder / "s.zarr")
    write_factory(folder, FACTORY.replace("return y", "return y * 1.0003"))
    again = planned(folder)
    assert again.plan.digest() == plan.plan.digest()
    again.create_store(folder / "s.zarr")


def test_store_without_the_record_is_accepted(folder):
    store = planned(folder).create_store(folder / "s.zarr")
    without_record(store)
    write_factory(folder, FACTORY.replace("return y", "return -3 * y"))
    planned(folder).create_store(folder / "s.zarr")


def test_worker_and_verification_refuse_a_model_that_computes_something_else(folder):
    plan = planned(folder)
    store = ts.scan(plan, folder / "s.zarr")
    sample = Sample(1, folder / "genome.fa", source(folder))
    assert verify_store(store.path, sample=sample).is_sound
    write_factory(folder, FACTORY.replace("return y", "return -3 * y"))
    setup = WorkerSetup(store.path, folder / "genome.fa", source(folder), plan.plan.digest(), None)
    with pytest.raises(
        ScanError, match=r"^on node .*: .*weights.pt.* computes something else here: track 'one'"
    ):
        BlockWorker(setup).start_on_node()
    with pytest.raises(WeightsError, match="computes something else than the store's: track 'one'"):
        verify_store(store.path, sample=sample)
    assert ts.ScoreStore.open(store.path).done_blocks() == store.done_blocks()


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (("y = self", "y = numpy.random.rand() * self"), "each time that it is called: track"),
        (("1)", "1)\n        self.bias = numpy.random.rand()"), "each time that it is loaded: track"),
    ],
)
def test_model_that_draws_at_random_is_told_so(folder, drawn, message):
    text = FACTORY.replace(*drawn, 1).replace("return y", "return y + getattr(self, 'bias', 0)")
    write_factory(folder, f"import numpy\n{text}")
    with pytest.raises(ModelError, match=f"gives other outputs {message}.*leave out what it draws at random"):
        ts.scan(planned(folder), folder / "s.zarr")


def test_command_refuses_in_one_line(folder):
    planned(folder).create_store(folder / "s.zarr")
    write_factory(folder, FACTORY.replace("return y", "return -3 * y"))
    arguments = ["--genome", "genome.fa", "--model", "edited:Model", "--weights", "weights.pt"]
    arguments += ["--actors", "1"]
    arguments += ["--tracks", "all", "--group", "mix=one,two", "--stride", "20", "--precision", "fp32"]
    result = tism_scan("run", *arguments, "--out", "s.zarr", cwd=folder)
    assert result.returncode == 2
    assert "computes something else: track 'one'" in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == [
        result.stderr.splitlines()[-1]
    ]


@pytest.mark.parametrize("record", [7, {"tolerance": 0.1}, {"tolerance": "x", "values": [[1, 1, 1]] * 2}])
def test_damaged_record_of_the_outputs_is_one_clear_error(folder, record):
    store = planned(folder).create_store(folder / "s.zarr")
    path = store.path / ".scan" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"probes": record}))
    with pytest.raises(StoreError, match=r"run\.json is damaged: its plan cannot be read"):
        ts.ScoreStore.open(store.path)


def test_values_are_those_of_the_tracks(folder):
    loaded = source(folder).load()
    outputs = probe_outputs(loaded)
    assert outputs.shape == (2, 2)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, probe_outputs(loaded))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3  # of two windows that differ
    found = np.array(Probes.of(TRACKS, outputs).values)
    np.testing.assert_allclose(found, np.stack([outputs[:, 0], outputs.mean(1)], 1), rtol=1e-6)


def test_what_is_drawn_at_random_is_drawn_alike():
    class Noisy(torch.nn.Module):
        input_bp, alphabet, n_outputs = 10, "ACGT", 1

        def forward(self, X):
            return torch.rand(len(X), 1)

    state = torch.get_rng_state()
    np.testing.assert_array_equal(probe_outputs(Noisy()), probe_outputs(Noisy()))
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_is_compared_as_it_rounds():
    exact = Probes.of(TRACKS[:1], np.array([[1.0], [0.5]], np.float32))
    rounded = Probes.of(TRACKS[:1], np.array([[1.01], [0.5]], np.float32))
    half = Probes.of(TRACKS[:1], np.array([[1.01], [0.5]], np.float32), is_half=True)
    assert "track 'one' is 1.01 on a fixed random window, and was 1" in exact.difference(rounded, TRACKS[:1])
    assert exact.difference(half, TRACKS[:1]) is None
    assert half.difference(exact, TRACKS[:1]) is None


def test_model_that_fails_on_a_random_window_is_one_clear_error(folder):
    write_factory(folder, FACTORY.replace("return y", "assert not X.any(); return y"))
    with pytest.raises(ModelError, match="fails on a random window of 40 bp: AssertionError") as caught:
        planned(folder)
    assert "\n" not in str(caught.value)


def test_device_that_rounds_is_asked_first_and_does_not_decide(monkeypatch):
    tracks = (Track("one", (0,), (1.0,)),)
    plan = ScanPlan(Scoring(tracks, 10, 2), "g", "w", {"c": 9}, {"c": ((0, 9),)})
    asked = []

    def outputs(model, device=None):
        asked.append(device)
        return np.array([[1.0], [2.0]], np.float32) * model[device]

    monkeypatch.setattr("tism_scan.scan.likeness.probe_outputs", outputs)
    monkeypatch.setattr("tism_scan.scan.likeness.is_half", lambda model: False)
    plan = replace(plan, probes=probes_of({None: 1}, tracks))
    for model, expected, devices in (
        ({"cuda": 1.0001}, None, ["cuda"]),
        ({"cuda": 1.01, None: 1}, None, ["cuda", None]),
        ({"cuda": -3, None: -3}, "track 'one' is -6 on a fixed random window, and was 2", ["cuda", None]),
    ):
        asked.clear()
        assert difference_from(plan, model, "cuda") == expected
        assert asked == devices


def test_small_track_beside_a_large_one_is_held_to_its_own_size():
    tracks = (Track("large", (0,), (1.0,)), Track("small", (1,), (1.0,)))
    outputs = np.array([[900.0, 0.1], [-500.0, 0.02]], np.float32)
    before = Probes.of(tracks, outputs)
    assert before.difference(Probes.of(tracks, outputs * np.float32(1 + 1e-4)), tracks) is None
    assert "track 'small' is 0.5 on a fixed" in before.difference(Probes.of(tracks, outputs * [1, 5]), tracks)
    rounded_with_the_large = outputs + np.float32(900 * 3e-6)
    assert before.difference(Probes.of(tracks, rounded_with_the_large), tracks) is None


@pytest.mark.parametrize(
    ("seed", "expected"), [(None, ("trunk",)), (7, ("stack",))], ids=["shared trunk", "stack"]
)
def test_model_is_tried_once_to_plan_a_scan_and_not_to_carry_it_out(tmp_path, monkeypatch, seed, expected):
    trials = counted_trials(monkeypatch)
    monkeypatch.setattr(precision, "MOST_WINDOWS", 8)
    monkeypatch.setattr(precision, "FEWEST_WINDOWS", 8)
    letters = "".join(np.random.default_rng(2).choice(list("ACGT"), 3_000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    model = small_bpnet() if seed is None else load_narrow_beluga(seed, tmp_path)
    asked = {"tracks": 0, "stride": 160, "stitch": "mean", "block_bp": 1_600, "on_gpus": True}
    planned = ts.plan_scan(tmp_path / "genome.fa", model, **asked)
    assert (planned.sharing, len(trials)) == (expected, 1)
    assert (planned.measured is None) == (expected == ("trunk",))  # the trials of precisions are among them
    store = ts.scan(planned, tmp_path / "s.zarr")
    assert len(trials) == 1
    assert np.isfinite(store.read("chr1")).all()


def test_estimate_of_a_scan_tries_its_model_once(tiny_genome, narrow_beluga_weights, monkeypatch):
    trials = counted_trials(monkeypatch)
    planned = ["plan", "--genome", tiny_genome, "--weights", narrow_beluga_weights, "--tracks", "0"]
    done = CliRunner().invoke(cli, [str(word) for word in (*planned, "--seconds", "0.001")])
    assert done.exit_code == 0, done.output
    assert len(trials) == 1


def counted_trials(monkeypatch):
    """Return a list that grows with each trial of whether a model is its head on its trunk."""
    trials, real = [], sharing._why_not_its_head
    monkeypatch.setattr(sharing, "_why_not_its_head", lambda *given: trials.append(1) or real(*given))
    return trials


def small_bpnet():
    torch.manual_seed(1)
    return BPNet(BPNetShape(4, 3, input_bp=320, output_bp=30))
