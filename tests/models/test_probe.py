"""Windows that go through a model together have the outputs that each has alone, or it is refused."""

import pytest
import torch
from torch import nn

import tism_scan as ts
from tism_scan.errors import ModelError, ScanError
from tism_scan.models.contract import loaded_model
from tism_scan.models.probe import check_windows_apart

INPUT_BP = 20


class Net(nn.Module):
    """A network of 20 bp windows, and what is made of its outputs."""

    input_bp, alphabet = INPUT_BP, "ACGT"

    def __init__(self, norm=None, then=None):
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.norm = nn.Conv1d(4, 6, 5), norm or nn.Identity()
        self.top, self.then = nn.Linear(96, 2), then

    def forward(self, X):
        outputs = self.top(torch.tanh(self.norm(self.layer(X))).flatten(1))
        return outputs if self.then is None else self.then(outputs)


class Recurrent(nn.Module):
    input_bp, alphabet = INPUT_BP, "ACGT"

    def __init__(self, *, batch_first):
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.top = nn.LSTM(4, 8, batch_first=batch_first), nn.Linear(160, 2)

    def forward(self, X):
        return self.top(self.layer(X.transpose(1, 2))[0].flatten(1))


def attending(*, batch_first):
    layer = nn.TransformerEncoderLayer(96, 2, 16, batch_first=batch_first)
    return Net(then=None, norm=nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (1, 96)), layer))


MIXED = {
    "statistics of the batch": lambda: Net(nn.BatchNorm1d(6, track_running_stats=False)),
    "recurrence over the batch": lambda: Recurrent(batch_first=False),
    "attention to the batch": lambda: attending(batch_first=False),
    "mean of the batch": lambda: Net(then=lambda outputs: outputs - outputs.mean(0, keepdim=True)),
}
MISSHAPED = {
    "transposed": lambda outputs: outputs[:, :1].t(),
    "flattened": lambda outputs: outputs.reshape(1, -1),
    "first only": lambda outputs: outputs[:1],
}
APART = {
    "plain": Net,
    "statistics of the training": lambda: Net(nn.BatchNorm1d(6)),
    "recurrence over the window": lambda: Recurrent(batch_first=True),
    "attention to the window": lambda: attending(batch_first=True),
    "dropout that never ends": lambda: Net(then=lambda outputs: nn.functional.dropout(outputs, 0.5, True)),
    "NaN": lambda: Net(then=lambda outputs: outputs / 0 * 0),
}


@pytest.mark.parametrize("kind", MIXED)
def test_model_that_mixes_the_windows_of_a_batch_is_refused(kind, tmp_path):
    body = MIXED[kind]()
    with pytest.raises(ModelError, match="depend on the other windows of its batch; expected"):
        check_windows_apart(loaded_model(body, "mine"))
    check_windows_apart(loaded_model(body, "mine"), batch_size=1)
    with pytest.raises(ModelError, match="depend on the other windows"):
        ts.attribute(body, "ACGT" * 9, tracks=0, stride=10)
    (tmp_path / "genome.fa").write_text(">chr1\n" + "GATTACA" * 9 + "\n")
    planned = ts.plan_scan(tmp_path / "genome.fa", body, tracks=0, stride=10)
    with pytest.raises((ModelError, ScanError), match="depend on the other windows"):
        ts.scan(planned, tmp_path / "scores.zarr")
    ts.scan(planned, tmp_path / "scores.zarr", execution=ts.Execution(batch_size=1))


@pytest.mark.parametrize("kind", MISSHAPED)
def test_model_without_a_row_for_each_window_is_refused(kind):
    with pytest.raises(ModelError, match=r"for two windows together; expected a row for each, \(2, \d\)"):
        check_windows_apart(loaded_model(Net(then=MISSHAPED[kind]), "mine"))


def test_model_that_fails_on_two_windows_is_one_clear_error():
    body = Net(then=lambda outputs: outputs.view(1, 2))
    with pytest.raises(ModelError, match=r"fails on two windows together.*RuntimeError: shape") as caught:
        check_windows_apart(loaded_model(body, "mine"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", APART)
def test_model_that_computes_each_window_by_itself_is_taken(kind):
    model = loaded_model(APART[kind](), "mine")
    state = torch.get_rng_state()
    check_windows_apart(model)
    assert torch.equal(torch.get_rng_state(), state)
