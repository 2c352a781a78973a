"""Models that take their windows otherwise: channels last, or control tracks beside them."""

import logging
import sys

import numpy as np
import pytest
import torch
from command_line import tism_scan
from torch import nn

import tism_scan as ts
from tism_scan.errors import ModelError
from tism_scan.models import ChannelsLast
from tism_scan.models.contract import loaded_model
from tism_scan.models.source import ModelSource

LENGTH = 30
SEQUENCE = "ACGTTGCA" * 4


@pytest.fixture
def said(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("tism_scan"), "propagate", True)
    return caplog


class Last(nn.Module):
    """A network of (N, L, 4), as those of Keras are."""

    input_bp, alphabet, output_names = LENGTH, "ACGT", ("a", "b")

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.dense = nn.Linear(4, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, X):
        return self.head(self.dense(X).tanh().cumsum(1).mean(1))


class Controlled(nn.Module):
    """A network with control tracks beside what it has made of the sequence, as BPNet's is."""

    input_bp, alphabet = LENGTH, "ACGT"

    def __init__(self, n_controls=2):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Conv1d(4, 64, 5, padding=2)
        self.profile = nn.Conv1d(64 + n_controls, 1, 7)

    def forward(self, X, X_ctl=None):
        features = self.body(X).relu()
        if X_ctl is not None:
            features = torch.cat([features, X_ctl], 1)
        return self.profile(features)


def windows(n=3):
    codes = torch.randint(4, (n, LENGTH), generator=torch.Generator().manual_seed(2))
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def test_channels_last_is_computed_by_flag_and_by_wrapper():
    X, body = windows(), Last().eval()
    expected = body(X.transpose(1, 2))
    for model in (loaded_model(Last(), "mine", layout="NLC"), loaded_model(ChannelsLast(Last()), "mine")):
        torch.testing.assert_close(model(X), expected)
        assert (model.input_bp, model.alphabet, model.output_names) == (LENGTH, "ACGT", ("a", "b"))


def test_error_of_a_model_of_the_other_layout_suggests_the_flag():
    with pytest.raises(ModelError, match=r"fails on one window.*it can read \(N, L, 4\): add --layout NLC$"):
        loaded_model(Last(), "mine")
    with pytest.raises(ModelError, match=r"it can read \(N, 4, L\): add --layout NCL$"):
        loaded_model(Controlled(0), "mine", layout="NLC")


def test_layout_is_part_of_the_plan(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(b"w")
    assert ModelSource("m:f", tmp_path / "w", layout="NLC").identity()[0] == "m:f (NLC)"
    both = ModelSource("m:f", tmp_path / "w", alphabet="TGCA", layout="NLC", reduction="sum")
    assert both.identity()[0] == "m:f (TGCA, NLC, sum)"
    with pytest.raises(
        ModelError, match=r"layout 'CLN' is not known; expected NCL, which is \(N, 4, L\), or N"
    ):
        ModelSource("m:f", layout="CLN")
    with pytest.raises(ModelError, match=r"'bpnet' takes \(N, 4, L\); leave --layout NLC out"):
        ModelSource("bpnet", tmp_path / "w", layout="NLC").load()


def test_command_line_takes_a_layout(tmp_path):
    (tmp_path / "my_last.py").write_text(LAST)
    arguments = ["--model", "my_last:Last", "--layout", "NLC", "--tracks", "0", "--sequence", SEQUENCE]
    result = tism_scan("attribute", *arguments, "--device", "cpu", "--out", "x.npz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    expected = ts.attribute(ModelSource("my_last:First", folder=tmp_path), SEQUENCE, tracks=0)
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_allclose(file["scores"], expected.values, rtol=1e-6)


LAST = """
import torch


class Last(torch.nn.Module):
    input_bp, alphabet = 40, "ACGT"

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.dense, self.head = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)

    def forward(self, X):
        return self.head(self.dense(X).tanh().cumsum(1).mean(1))


class First(Last):
    def forward(self, X):
        return super().forward(X.transpose(1, 2))
"""


@pytest.mark.parametrize("declares", ["nothing", "n_control_tracks", "control_shape"])
def test_control_tracks_are_zeros_and_the_log_says_so(said, declares):
    body = Controlled().eval()
    if declares == "n_control_tracks":
        body.n_control_tracks = 2
    if declares == "control_shape":
        body.control_shape = (2, LENGTH)
    model, X = loaded_model(body, "mine", reduction="sum"), windows()
    expected = body(X, torch.zeros(3, 2, LENGTH)).sum(2)
    torch.testing.assert_close(model(X), expected)
    assert f"reads control tracks, 'X_ctl': they are zeros, (N, 2, {LENGTH})" in said.text
    assert len(said.records) == 1


def test_model_that_needs_no_control_tracks_is_given_none(said):
    model, X = loaded_model(Controlled(0), "mine"), windows()
    torch.testing.assert_close(model(X), model.body(X).flatten(1))
    assert said.text == ""


def test_controls_of_another_shape_are_asked_for():
    class Short(Controlled):
        def forward(self, X, counts):
            return self.profile(self.body(X)[:, :, :7].cat([counts], 1))

    with pytest.raises(
        ModelError, match="zeros for its argument 'counts' were tried: give the model the attr"
    ):
        loaded_model(Short(), "mine")

    class Declared(Controlled):
        control_shape = (1,)

        def forward(self, X, total):
            return self.body(X).sum(2) + total.log1p()

    assert loaded_model(Declared(), "mine").n_outputs == 64


def test_option_of_a_forward_is_no_control_track():
    class Option(Controlled):
        def forward(self, X, return_embeddings=False):
            raise ValueError("no luck")

    with pytest.raises(ModelError, match=r"no luck; expected logits \(N, n_outputs\).*--input-bp$"):
        loaded_model(Option(), "mine")


def test_engines_and_workers_fill_control_tracks(tmp_path, monkeypatch, said):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sequence = "".join(np.random.default_rng(2).choice(list("ACGT"), 100))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    model = Controlled()
    plan = ts.plan_scan(tmp_path / "genome.fa", model, tracks="all", stride=10, strands="both")
    assert np.isfinite(ts.scan(plan, tmp_path / "s.zarr").read("chr1")).all()
