"""Networks whose gradient takes more than a plain call: TorchScript, checkpoints, tensors left behind."""

import re
import sys

import numpy as np
import pytest
import torch
from scan_models import blocks_scored_by
from torch import nn
from torch.utils.checkpoint import checkpoint

import tism_scan as ts
from tism_scan.engine.choice import make_engine
from tism_scan.errors import ModelError, ScanError
from tism_scan.models.contract import loaded_model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.source import ModelSource
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.worker import BlockWorker, WorkerSetup

INPUT_BP = 30
SCORING = Scoring((Track("a", (0,), (1.0,)), Track("b", (1,), (1.0,))), INPUT_BP, 10)


class Net(nn.Module):
    input_bp, alphabet = INPUT_BP, "ACGT"

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.norm = nn.Conv1d(4, 6, 5), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 2)

    def forward(self, X):
        return self.head(torch.tanh(self.norm(self.layer(X))).mean(2))


class Checkpointed(Net):
    def forward(self, X):
        return checkpoint(self.outer, X, use_reentrant=True)

    def outer(self, X):
        return checkpoint(super().forward, X, use_reentrant=True)  # the backward pass meets this one


class InPlace(Net):
    def forward(self, X):
        X *= 2
        X /= 2
        return super().forward(X)


def made_in_inference_mode():
    with torch.inference_mode():
        return Net()


def saved_and_loaded(folder):
    torch.jit.save(torch.jit.script(Net().eval()), folder / "x.pt")
    return torch.jit.load(folder / "x.pt")


BODIES = {
    "scripted": lambda folder: torch.jit.script(Net()),
    "traced": lambda folder: torch.jit.trace(Net().eval(), torch.rand(1, 4, INPUT_BP)),
    "frozen": lambda folder: torch.jit.freeze(torch.jit.script(Net().eval())),
    "saved": saved_and_loaded,
    "checkpointed": lambda folder: Checkpointed(),
    "in place": lambda folder: InPlace(),
    "in inference mode": lambda folder: made_in_inference_mode(),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", BODIES)
def test_scores_are_those_of_the_plain_module(kind, tmp_path):
    codes = np.random.default_rng(3).integers(0, 4, 200).astype(np.uint8)
    plain, other = Net(), BODIES[kind](tmp_path)
    expected = blocks_scored_by(make_engine(loaded_model(plain, "plain"), SCORING, device="cpu"), codes)
    model = loaded_model(other, kind, INPUT_BP, "ACGT")
    check_differentiable(model, INPUT_BP)
    found = blocks_scored_by(make_engine(model, SCORING, device="cpu"), codes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_windows_stay_as_they_are_whatever_a_model_does_to_them():
    X = torch.rand(2, 4, INPUT_BP)
    before = X.clone()
    with torch.no_grad():
        loaded_model(InPlace(), "mine")(X)
    assert torch.equal(X, before)


def test_other_checkpoints_of_the_process_stay_reentrant():
    X = torch.rand(2, 4, INPUT_BP, requires_grad=True)
    loaded_model(Checkpointed(), "mine")(X)
    with pytest.raises(RuntimeError, match="reentrant"):
        torch.autograd.grad(checkpoint(torch.sin, X, use_reentrant=True).sum(), X)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X):
        return X * 1

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError("no luck\nat all")


class Forward(Net):
    def forward(self, X):
        return super().forward(NoBackward.apply(X))


def test_gradient_that_fails_is_one_clear_line():
    model = loaded_model(Forward(), "mine")
    with pytest.raises(
        ModelError, match=r"cannot be differentiated on cpu: NotImplementedError: no luck at all; u"
    ):
        check_differentiable(model, INPUT_BP)
    with pytest.raises(ModelError, match="cannot be differentiated"):
        ts.attribute(Forward(), "ACGT" * 5, tracks=0)


def test_worker_tries_a_gradient_before_its_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "no_backward.py").write_text(
        "import torch\n\n"
        "class load(torch.nn.Module):\n"
        "    input_bp, alphabet = 20, 'ACGT'\n"
        "    def forward(self, X):\n"
        "        return X[:, 0].detach()\n"
    )
    (tmp_path / "genome.fa").write_text(">chr1\n" + "GATTACA" * 9 + "\n")
    source = ModelSource("no_backward:load", folder=tmp_path)
    planned = ts.plan_scan(tmp_path / "genome.fa", source, tracks=0, stride=10)
    store = planned.create_store(tmp_path / "s.zarr")
    setup = WorkerSetup(store.path, tmp_path / "genome.fa", source, planned.plan.digest(), None)
    with pytest.raises(
        ScanError, match=r"^on node .*cannot be differentiated.*look for detach, no_grad or arg"
    ):
        BlockWorker(setup).start_on_node()


class Table(Net):
    """As Sei does: a table is made by the first call, where that is, and is no buffer."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()
        self.inner.table = None

    def forward(self, X):
        if self.inner.table is None:
            self.inner.table = torch.ones(1, 1, X.shape[2], device=X.device)
        return super().forward(X * self.inner.table)


def test_table_of_the_first_call_goes_to_the_device_with_the_model():
    model = loaded_model(Table(), "mine")
    assert model.body.inner.table.device.type == "cpu"
    model.to("meta")
    assert model.body.inner.table.device.type == "meta"


def test_tensors_left_behind_are_named():
    class Behind(Net):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()
            self.inner.tables = [torch.ones(1, 1, INPUT_BP, device="meta")]

        def forward(self, X):
            return super().forward(X) + self.inner.tables[0].sum().item()

    words = "not on cpu, since it is no buffer: inner.tables (meta); register it with register_buffer"
    with pytest.raises(ModelError, match=re.escape(words)):
        loaded_model(Behind(), "mine")

    class Later(Behind):
        def forward(self, X):
            return super().forward(X) if X.requires_grad else Net.forward(self, X)

    with pytest.raises(ModelError, match=re.escape(words)):
        check_differentiable(loaded_model(Later(), "mine"), INPUT_BP)
