"""The gradient at the top of the trunk: by hand where the head allows it, else by autograd."""

import pytest
import torch
from torch import nn

from tism_scan.engine import head as head_module
from tism_scan.engine.head import Product, TrunkHead
from tism_scan.engine.layers import Passes
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

TRACKS = (
    Track("a", (0,), (1.0,)),
    Track("half", (3,), (0.5,)),
    Track("mean", (1, 3, 4), (0.5, 0.25, 0.25)),
)
N_POSITIONS, N_CHANNELS, EXTENT = 9, 6, (2, 7)
CPU = torch.device("cpu")


def head_of(*above):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(N_CHANNELS * N_POSITIONS, 10), *above).requires_grad_(False)


BELUGAS = (nn.ReLU(), nn.Dropout(0.1), nn.Linear(10, 5))
OTHERS = (nn.Tanh(), nn.Linear(10, 5))


def expected(head, windows, scoring):
    X = windows.clone().requires_grad_()
    outputs = head.eval()(X)
    outputs = outputs.sigmoid() if scoring.output_space == "probability" else outputs
    rows = []
    for track in scoring.tracks:
        outputs_of_track = zip(track.outputs, track.weights, strict=True)
        value = sum(weight * outputs[:, i].sum() for i, weight in outputs_of_track)
        rows.append(torch.autograd.grad(value, X, retain_graph=True)[0])
    return torch.stack(rows, 1)[..., slice(*EXTENT)].transpose(2, 3)


@pytest.mark.parametrize("multiple", [1, 64])
@pytest.mark.parametrize("output_space", ["logit", "probability"])
@pytest.mark.parametrize("above", [BELUGAS, OTHERS], ids=["by hand", "by autograd"])
def test_gradient_of_the_head_is_that_of_autograd(monkeypatch, above, output_space, multiple):
    monkeypatch.setitem(head_module.MULTIPLE_OF_HIDDEN, "cpu", multiple)
    head, scoring = head_of(*above), Scoring(TRACKS, 2000, output_space=output_space)
    ours = TrunkHead(head, N_POSITIONS, EXTENT, scoring, Passes(), CPU)
    windows = torch.randn(8, N_CHANNELS, N_POSITIONS, generator=torch.Generator().manual_seed(2))
    theirs = expected(head, windows, scoring)
    for tracks in (range(3), range(1, 3)):
        found = ours.gradient(windows, tracks)
        torch.testing.assert_close(found, theirs[:, tracks.start : tracks.stop], rtol=1e-5, atol=1e-6)


def test_hidden_width_is_a_multiple_of_64_where_the_device_wants_it(monkeypatch):
    monkeypatch.setitem(head_module.MULTIPLE_OF_HIDDEN, "cpu", 64)
    ours = TrunkHead(head_of(*BELUGAS), N_POSITIONS, EXTENT, Scoring(TRACKS, 2000), Passes(), CPU)
    assert (ours.first.n_outputs, ours.to_extent.n_inputs) == (64, 64)
    windows = torch.zeros(1, N_CHANNELS, N_POSITIONS)
    assert ours.flop_per_window(windows)[0] == 2 * 10 * N_CHANNELS * N_POSITIONS  # of the method, unpadded


def test_no_graph_is_made_where_the_head_is_a_linear_layer_on_relu(monkeypatch):
    ours = TrunkHead(head_of(*BELUGAS), N_POSITIONS, EXTENT, Scoring(TRACKS, 2000), Passes(), CPU)
    monkeypatch.setattr(torch.autograd, "grad", None)
    assert ours.gradient(torch.randn(4, N_CHANNELS, N_POSITIONS), range(3)).shape == (4, 3, 5, N_CHANNELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_of_the_head_has_the_dtype_of_the_backward_pass(dtype):
    for above in (BELUGAS, OTHERS):
        for output_space in ("logit", "probability"):
            scoring = Scoring(TRACKS, 2000, output_space=output_space)
            ours = TrunkHead(head_of(*above), N_POSITIONS, EXTENT, scoring, Passes(backward=dtype), CPU)
            assert ours.gradient(torch.randn(4, N_CHANNELS, N_POSITIONS), range(3)).dtype == dtype


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_product_adds_the_bias_packed_or_not(dtype, precision, has_bias):
    inputs, weight = torch.rand(3, 8), torch.rand(5, 8)
    bias = 100 * torch.rand(5) if has_bias else None
    found = Product(weight, bias, dtype)(inputs.to(dtype))
    torch.testing.assert_close(
        found.float(), nn.functional.linear(inputs, weight, bias), rtol=precision, atol=2 * precision
    )
