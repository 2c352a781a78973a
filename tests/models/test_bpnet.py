"""BPNet and ChromBPNet: the published files, and the outputs of the networks that wrote them."""

import re
import sys
import types

import h5py
import numpy as np
import pytest
import torch
from bpnet_files import (
    basepairmodels_layers,
    chrombpnet_config,
    keras_names,
    padded_forward,
    random_network,
    write_keras,
)
from scan_models import blocks_scored_by
from torch import nn

from tism_scan.engine.choice import make_engine
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import InputError, ModelError, WeightsError
from tism_scan.models import ModelSource
from tism_scan.models.bpnet import BPNet, BPNetShape, weighted_logit
from tism_scan.models.bpnet_files import load_bpnet, load_chrombpnet
from tism_scan.models.keras_h5 import read_keras_h5
from tism_scan.models.long_kernel import convolved_with_long_kernel
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track


def windows(n=2, n_bp=2114, seed=2):
    codes = torch.randint(4, (n, n_bp), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def expected_outputs(state, X, **how):
    """Return counts, and the profile's logits weighted by their softmax in one obvious loop."""
    profile, counts = padded_forward(state, X, **how)
    rows = []
    for logits in profile.flatten(1):
        shares = torch.exp(logits - logits.max())
        shares = (shares / shares.sum()).detach()
        rows.append(sum(share * (logit - logits.mean()) for share, logit in zip(shares, logits, strict=True)))
    return torch.cat([counts, torch.stack(rows)[:, None]], 1)


def assert_alike(model, state, **how):
    X, other = windows().requires_grad_(), windows().requires_grad_()
    ours, theirs = model(X), expected_outputs(state, other, **how)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for i_output in range(2):
        gradients = [
            torch.autograd.grad(outputs[:, i_output].sum(), of, retain_graph=True)[0]
            for outputs, of in ((ours, X), (theirs, other))
        ]
        largest = float(gradients[1].abs().max())
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-5 * largest)


LAYOUTS = {
    "nobias": ("wo_bias_bpnet_", None, "{name}/{name}", ":0"),
    "newer Keras": ("wo_bias_bpnet_", None, "{name}/{name}", ""),
    "bias": ("bpnet_", "", "{name}/{name}", ":0"),
    "whole": ("wo_bias_bpnet_", None, "model_wo_bias/{name}", ":0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chrombpnet_computes_what_its_file_says(tmp_path, layout):
    prefix, of_heads, within, suffix = LAYOUTS[layout]
    state = random_network()
    names = keras_names(state, prefix, of_heads=of_heads)
    path = write_keras(tmp_path / "x.h5", state, names, within=within, suffix=suffix)
    if layout == "whole":  # the bias model stands beside it
        bias = random_network(n_layers=4, seed=9)
        write_keras(path, bias, keras_names(bias, "bpnet_", of_heads=""), within="model/{name}", mode="a")
    model = load_chrombpnet(path)
    assert (model.input_bp, model.alphabet, model.output_names) == (2114, "ACGT", ("counts", "profile"))
    assert model.shape == BPNetShape(6, 8)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert_alike(model, state)


def test_lengths_are_those_that_the_file_says(tmp_path):
    state = random_network(n_layers=3)
    path = tmp_path / "x.h5"
    write_keras(path, state, keras_names(state, "wo_bias_bpnet_"), config=chrombpnet_config(400, crop_bp=39))
    model = load_chrombpnet(path)
    assert (model.input_bp, model.shape.output_bp) == (400, 200)
    X = windows(n_bp=400)
    profile, _ = padded_forward(state, X, trimming=100)
    logits = model.profile_logits(X)
    torch.testing.assert_close(logits, profile)
    assert model(X).shape == (2, 2)


def test_weights_alone_are_read_too(tmp_path):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "bpnet_", of_heads=""))
    with h5py.File(path, "a") as file:
        for name in list(file["model_weights"]):
            file.move(f"model_weights/{name}", name)
        del file["model_weights"]
    assert_alike(load_chrombpnet(path), state)
    assert read_keras_h5(str(path)).layers.keys() == read_keras_h5(path).layers.keys()


@pytest.mark.parametrize("n_strands", [1, 2])
def test_bpnet_of_basepairmodels_has_its_control_at_zero(tmp_path, n_strands):
    state = random_network(n_strands=n_strands)
    layers, names = basepairmodels_layers(state, n_strands)
    model = load_bpnet(write_keras(tmp_path / "x.h5", layers, names))
    mix, scale = layers["profile.weight"][:, :n_strands, 0], layers["counts.weight"][0]
    X = windows()
    profile, counts = padded_forward(state, X, is_activated_first=True)
    profile = torch.einsum("os,nsl->nol", mix, profile) + layers["profile.bias"][:, None]
    counts = counts * scale[0] + layers["counts.bias"]
    torch.testing.assert_close(model.profile_logits(X), profile, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(X)[:, :1], counts, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_control", [0, 2])
@pytest.mark.parametrize("load", [load_bpnet, load_chrombpnet])
def test_state_dict_of_bpnet_lite_is_read(tmp_path, load, n_control):
    state = random_network(n_strands=1 + bool(n_control), n_control=n_control)
    torch.save(state, tmp_path / "x.torch")
    assert_alike(load(tmp_path / "x.torch"), state)


def test_part_without_bias_is_taken_of_both(tmp_path):
    state, bias = random_network(), random_network(n_layers=4, seed=9)
    both = {f"accessibility.{name}": tensor for name, tensor in state.items()}
    both |= {f"bias.{name}": tensor for name, tensor in bias.items()}
    torch.save(both, tmp_path / "x.torch")
    assert_alike(load_chrombpnet(tmp_path / "x.torch"), state)


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state, names: (
                without(state, "linear"),
                {k: v for k, v in names.items() if k != "linear"},
            ),
            "does not hold ChromBPNet: missing layer wo_bias_bpnet_logcount_predictions; its layers are wo_",
        ),
        (
            lambda state, names: (state, {name: f"dense_{i}" for i, name in enumerate(names)}),
            "does not hold ChromBPNet: missing layer bpnet_1st_conv, bpnet_1conv, prof_out_precrop, logcount",
        ),
        (
            lambda state, names: (state | {"rconvs.2.weight": torch.zeros(6, 5, 3)}, names),
            r"no network of BPNet's kind: trunk.dilated.2.weight has shape \(6, 5, 3\), expected \(6, 6, 3\)",
        ),
        (
            lambda state, names: (
                state
                | {
                    f"rconvs.{i}.{part}": state[f"rconvs.0.{part}"]
                    for i in (8, 9)
                    for part in ("weight", "bias")
                },
                names | {f"rconvs.{i}": f"wo_bias_bpnet_{i + 1}conv" for i in (8, 9)},
            ),
            "has 10 dilated convolutions and a profile of 1,000 bp; they do not fit its window of 2,114 bp",
        ),
        (
            lambda state, names: basepairmodels_layers(state, 1),
            "another network than ChromBPNet; use --model bpnet",
        ),
        (lambda state, names: ({}, {}), "holds no layers of a Keras model; expected what model.save"),
    ],
)
def test_file_of_another_network_is_refused_in_one_line(tmp_path, change, message):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", *change(state, keras_names(state, "wo_bias_bpnet_")))
    with pytest.raises(WeightsError, match=message) as caught:
        load_chrombpnet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["bpnet_", "wo_bias_bpnet_"])
def test_chrombpnet_is_no_bpnet(tmp_path, prefix):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, prefix))
    with pytest.raises(WeightsError, match="another network than BPNet; use --model chrombpnet"):
        load_bpnet(path)


def test_damaged_file_is_refused_in_one_line(tmp_path):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "wo_bias_bpnet_"))
    raw = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(WeightsError, match=r"is damaged, or no HDF5 file") as caught:
        load_chrombpnet(tmp_path / "cut.h5")
    assert "\n" not in str(caught.value)
    (tmp_path / "text.h5").write_text("kernel")
    with pytest.raises(WeightsError, match=r"is not a file that torch.save wrote, or is damaged|was refused"):
        load_chrombpnet(tmp_path / "text.h5")
    with pytest.raises(WeightsError, match=r"cannot read the weights .*: No such file"):
        load_chrombpnet(tmp_path / "none.h5")


def test_tensors_that_are_not_in_the_file_are_refused(tmp_path):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "wo_bias_bpnet_"))
    with h5py.File(path, "a") as file:
        group = file["model_weights/wo_bias_bpnet_1st_conv/wo_bias_bpnet_1st_conv"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", (10**6, 4, 6), "f4", compression="gzip", fillvalue=1)
    with pytest.raises(WeightsError, match="its tensors are not in the file, or packed"):
        load_chrombpnet(path)


def test_file_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "wo_bias_bpnet_"))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=re.escape("pip install 'tism-scan[h5]'")):
        load_chrombpnet(path)


def test_state_dict_of_another_network_is_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(3, 3), 7: torch.zeros(1)}, tmp_path / "x.torch")
    with pytest.raises(
        WeightsError, match=r"not hold a network of bpnet-lite: missing key iconv\.weight, rconvs.0"
    ):
        load_bpnet(tmp_path / "x.torch")


def test_tensor_that_repeats_what_the_file_holds_is_refused(tmp_path):
    state = random_network()
    state["iconv.weight"] = torch.zeros(1, 1, 1).expand(10**9, 4, 21)
    torch.save(state, tmp_path / "x.torch")
    with pytest.raises(WeightsError, match=r"iconv\.weight is longer than what the file holds of it"):
        load_bpnet(tmp_path / "x.torch")


def whole_network(monkeypatch, said):
    """Return a network as bpnet-lite saves it, of classes that whoever reads it need not have."""
    name = "bpnetlite.bpnet"
    module = types.ModuleType(name)
    module.BPNet = type("BPNet", (nn.Module,), {"__module__": name})
    monkeypatch.setitem(sys.modules, "bpnetlite", types.ModuleType("bpnetlite"))
    monkeypatch.setitem(sys.modules, name, module)
    network = module.BPNet()
    vars(network).update(said)
    return network


@pytest.mark.parametrize(
    "said",
    [
        {"_modules": 3},
        {"_parameters": [1, 2]},
        {"tensors": 3, "class_name": "os.system", "_modules": {}},
        {"__class__": 3},
    ],
    ids=lambda said: next(iter(said)),
)
def test_whole_network_that_says_something_odd_is_refused_in_one_line(tmp_path, monkeypatch, said):
    torch.save(whole_network(monkeypatch, said), tmp_path / "x.torch")
    monkeypatch.delitem(sys.modules, "bpnetlite.bpnet")
    with pytest.raises(WeightsError, match="does not hold a network of bpnet-lite") as caught:
        load_bpnet(tmp_path / "x.torch")
    assert "\n" not in str(caught.value)


def test_network_that_holds_itself_is_refused(tmp_path, monkeypatch):
    network = whole_network(monkeypatch, {})
    vars(network)["_modules"] = {"inner": network}
    torch.save(network, tmp_path / "x.torch")
    with pytest.raises(WeightsError, match="does not hold a network of bpnet-lite: missing key"):
        load_bpnet(tmp_path / "x.torch")


def test_network_whose_parts_stand_in_many_places_is_walked_once(tmp_path, monkeypatch):
    network = whole_network(monkeypatch, {})
    inner = network
    for _ in range(40):  # a walk along every path would take a trillion steps
        outer = type(network)()
        vars(outer)["_modules"] = {"a": inner, "b": inner}
        inner = outer
    torch.save(inner, tmp_path / "x.torch")
    with pytest.raises(WeightsError, match="does not hold a network of bpnet-lite: missing key"):
        load_bpnet(tmp_path / "x.torch")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            "linear.weight",
            torch.zeros(6),
            r"trunk\.counts\.weight has shape \(6,\), expected 2 axes, none",
        ),
        ("fconv.weight", torch.zeros(6), r"trunk\.profile\.weight has shape \(6,\), expected 3 axes"),
        ("iconv.weight", torch.tensor(1.0), r"trunk\.first\.weight has shape \(\), expected 3 axes"),
        ("iconv.weight", torch.zeros(0, 4, 21), r"trunk\.first\.weight has shape \(0, 4, 21\)"),
        ("iconv.weight", torch.zeros(6, 4, 21, device="meta"), r"iconv\.weight holds no plain numbers"),
        ("iconv.weight", torch.zeros(6, 4, 21).to_sparse(), r"iconv\.weight holds no plain numbers"),
        (
            "iconv.bias",
            torch.zeros(6, dtype=torch.complex64),
            r"iconv\.bias holds complex64, expected",
        ),
    ],
)
def test_tensor_that_is_no_weight_is_named(tmp_path, name, tensor, message):
    torch.save(random_network() | {name: tensor}, tmp_path / "x.torch")
    with pytest.raises(WeightsError, match=message):
        load_bpnet(tmp_path / "x.torch")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_input_shape": [None, 10**14, 4]}, "do not fit its window of 100,000,000,000,000 bp"),
        ({"batch_input_shape": [None, float("inf"), 4]}, None),
        ({"batch_input_shape": 7}, None),
    ],
)
def test_description_that_cannot_be_is_refused_or_left_out(tmp_path, settings, message):
    state = random_network()
    config = {"config": {"layers": [{"class_name": "InputLayer", "config": settings}]}}
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "wo_bias_bpnet_"), config=config)
    if message is None:
        assert load_chrombpnet(path).input_bp == 2114
        return
    with pytest.raises(WeightsError, match=message):
        load_chrombpnet(path)


@pytest.mark.parametrize("name", ["chrombpnet", "bpnet"])
def test_model_is_known_by_its_name(tmp_path, name):
    torch.save(random_network(), tmp_path / "x.torch")
    source = ModelSource(name, tmp_path / "x.torch")
    assert isinstance(source.load(), BPNet)
    assert source.identity()[0] == name
    with pytest.raises(
        WeightsError, match=f"the model '{name}' was given no weights; expected a file such as"
    ):
        ModelSource(name).load()
    with pytest.raises(ModelError, match=f"model '{name}' has alphabet 'ACGT', but --alphabet says 'AGCT'"):
        ModelSource(name, tmp_path / "x.torch", alphabet="AGCT").load()


def test_softmax_is_held_fixed_in_the_gradient():
    logits = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    value = weighted_logit(logits)
    shares = logits.detach().softmax(1)
    torch.testing.assert_close(value, (shares * (logits - logits.mean())).sum(1))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient, shares - 1 / 3)


@pytest.mark.parametrize("is_activated_first", [False, True])
def test_its_trunk_is_shared_between_windows(is_activated_first):
    torch.manual_seed(7)
    model = BPNet(BPNetShape(5, 3, 2, 9, 15, 120, 40, is_activated_first=is_activated_first)).eval()
    tracks = (Track("counts", (0,), (1.0,)), Track("profile", (1,), (1.0,)))
    scoring = Scoring(tracks, 120, 10, "mean", "both")
    codes = np.random.default_rng(1).integers(0, 4, 700).astype(np.uint8)
    engine = make_engine(model, scoring)
    assert isinstance(engine, SharedEngine)
    fast, slow = (blocks_scored_by(each, codes) for each in (engine, WindowEngine(model, scoring)))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-6 * np.abs(slow).max())


@pytest.mark.parametrize("n_strands", [1, 2])
def test_layers_that_keep_less_give_the_same_values_and_gradients(n_strands):
    torch.manual_seed(1)
    shape = BPNetShape(6, 4, n_strands, input_bp=200, output_bp=40)
    plain = BPNet(shape).eval()  # its weights may be trained
    quick = BPNet(shape).eval().requires_grad_(False)
    quick.load_state_dict(plain.state_dict())
    X, other = (windows(n_bp=200).requires_grad_() for _ in range(2))
    ours, theirs = quick(X), plain(other)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    expected = [torch.autograd.grad(theirs[:, i].sum(), other, retain_graph=True)[0] for i in range(2)]
    found = [torch.autograd.grad(ours[:, i].sum(), X, retain_graph=True)[0] for i in range(2)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-5, atol=1e-8)
    (batched,) = torch.autograd.grad(ours.sum(0), X, torch.eye(2), is_grads_batched=True)
    torch.testing.assert_close(batched, torch.stack(expected))
    weights = torch.autograd.grad(plain(other).sum(), list(plain.trunk.dilated.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in weights)


def test_layers_that_keep_less_are_rounded_as_others_are():
    torch.manual_seed(1)
    model = BPNet(BPNetShape(6, 4, input_bp=200, output_bp=40)).eval().requires_grad_(False)
    exact, rounded = (windows(n_bp=200).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(rounded)
    (found,) = torch.autograd.grad(outputs[:, 0].float().sum(), rounded)
    (expected,) = torch.autograd.grad(model(exact)[:, 0].sum(), exact)
    assert 0.99 < np.corrcoef(found.ravel(), expected.ravel())[0, 1] < 1


@pytest.mark.parametrize(("n", "n_out", "n_places", "n_taps"), [(1, 1, 9, 9), (3, 2, 40, 7), (2, 3, 12, 1)])
def test_long_kernel_convolves_as_torch_does(n, n_out, n_places, n_taps):
    generator = torch.Generator().manual_seed(1)
    image, weight, top = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((n, 5, 1, n_places), (n_out, 5, 1, n_taps), (n, n_out, 1, n_places - n_taps + 1))
    )
    image.requires_grad_()
    ours, theirs = convolved_with_long_kernel(image, weight), nn.functional.conv2d(image, weight)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(each, image, top)[0] for each in (ours, theirs)))
