"""The recipes of the page, as they are printed there, on small networks of the same kind.

Those of packages run where these are: pip install bpnet-lite enformer-pytorch borzoi-pytorch gReLU crested
"""

import importlib
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bpnet_files import keras_names, random_network, write_keras
from recipe_stand_ins import stand_ins
from torch.nn import functional

from tism_scan.engine.sharing import NotSharedError, shared_step, why_no_stack
from tism_scan.models.bpnet_files import load_bpnet, load_chrombpnet
from tism_scan.models.contract import loaded_model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.source import ModelSource
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MODELS = (ROOT / ".github" / "docs" / "models.md").read_text()
PAGE = (ROOT / ".github" / "docs" / "recipes.md").read_text()
EXAMPLE = r"```python\n(import torch\n.*?)```"
BLOCKS = re.findall(r"```python\n# (\w+)\.py.*?\n(.*?)```", PAGE, re.DOTALL)
# Of packages that registries have; see `test_recipe_of_an_installed_package`.
PACKAGED = {
    "bpnet_lite_model": "bpnetlite.bpnet",
    "chrombpnet_model": "bpnetlite.bpnet",
    "enformer_model": "enformer_pytorch",
    "borzoi_model": "borzoi_pytorch",
    "grelu_model": "grelu.lightning",
    "crested_model": "keras",
}


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """Write the page's blocks into a folder, and let what they import that no registry has be small."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in BLOCKS:
        (tmp_path / f"{name}.py").write_text(text)
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    torch.manual_seed(1)
    yield tmp_path
    for name, _ in BLOCKS:
        sys.modules.pop(name, None)


def loaded(folder, name, weights=None, reduction=None):
    return ModelSource(f"{name}:load", weights, folder=folder, reduction=reduction).load()


def windows(model, n=1):
    codes = torch.randint(4, (n, model.input_bp), generator=torch.Generator().manual_seed(2))
    return functional.one_hot(codes, 4).transpose(1, 2).float()


def shared_places(model, stride=256):
    return shared_step(model, Scoring((Track("0", (0,), (1.0,)),), model.input_bp, stride, "mean"))


def test_every_recipe_is_tested_and_none_is_long():
    tested = {"spliceai_model", "pangolin_model", "puffin_model", "basset_model", "sei_model", "parm_model"}
    assert [name for name, _ in BLOCKS if name not in PACKAGED] == [
        name for name, _ in BLOCKS if name in tested
    ]
    assert {name for name, _ in BLOCKS} == tested | set(PACKAGED)
    for name, text in BLOCKS:
        n_lines = len([line for line in text.splitlines() if line.strip()])
        assert n_lines <= (60 if name == "spliceai_model" else 36), name


def test_pangolin_shares_its_trunk_and_gives_logits(recipes):
    net = stand_ins()["pangolin.model"]
    made = net.Pangolin(net.L, net.W, net.AR).eval()
    torch.save(made.state_dict(), recipes / "w.pt")
    model = loaded(recipes, "pangolin_model", recipes / "w.pt", "wlogit")
    assert model.output_names[2] == "brain_splice"
    assert model.output_names[7] == "testis_usage"
    assert shared_places(model) == 256
    X = windows(model)
    with torch.no_grad():
        probabilities, logits = made(X), model.body(X)
    expected = probabilities[:, [1, 4, 7, 10, 2, 5, 8, 11]]
    torch.testing.assert_close(logits.sigmoid(), expected, rtol=1e-4, atol=1e-5)
    check_differentiable(model, model.input_bp)


def keras_spliceai(path, n_channels=2):
    """Write a network with the layers of SpliceAI as Keras names them, and return them by name."""
    rng, layers, n_convs, n_norms = np.random.default_rng(4), {}, 0, 0

    def conv(n_in, n_out, kernel):
        nonlocal n_convs
        n_convs += 1
        weight = rng.normal(size=(kernel, n_in, n_out)) / (kernel * n_in) ** 0.5
        layers[f"conv1d_{n_convs}"] = {"kernel": weight, "bias": rng.normal(size=n_out)}

    conv(4, n_channels, 1)
    conv(n_channels, n_channels, 1)
    for i, kernel in enumerate([11] * 8 + [21] * 4 + [41] * 4):
        for _ in range(2):
            n_norms += 1
            numbers = {key: rng.uniform(0.5, 1.5, n_channels) for key in ("gamma", "beta", "moving_variance")}
            layers[f"batch_normalization_{n_norms}"] = numbers | {"moving_mean": rng.normal(size=n_channels)}
            conv(n_channels, n_channels, kernel)
        if i % 4 == 3:
            conv(n_channels, n_channels, 1)
    conv(n_channels, 3, 1)
    with h5py.File(path, "w") as file:
        for name, tensors in layers.items():
            for key, values in tensors.items():
                file[f"model_weights/{name}/{name}/{key}:0"] = values.astype(np.float32)
    return layers


def spliceai_by_hand(layers, X):
    """Return the probabilities that Keras's layers give, (N, 3, L - 10,000), in float64."""
    tensors = {
        name: {key: torch.from_numpy(each) for key, each in values.items()} for name, values in layers.items()
    }
    convs = (tensors[f"conv1d_{i + 1}"] for i in range(39))
    norms = (tensors[f"batch_normalization_{i + 1}"] for i in range(32))

    def conv(x, dilation=1):
        layer = next(convs)
        weight = layer["kernel"].permute(2, 1, 0)
        return functional.conv1d(x, weight, layer["bias"], padding="same", dilation=dilation)

    def norm(x):
        layer = {key: each[:, None] for key, each in next(norms).items()}
        scaled = (x - layer["moving_mean"]) / (layer["moving_variance"] + 1e-3).sqrt()
        return layer["gamma"] * scaled + layer["beta"]

    x = conv(X)
    total = conv(x)
    for i, dilation in enumerate([1] * 4 + [4] * 4 + [10] * 4 + [25] * 4):
        h = x
        for _ in range(2):
            h = conv(norm(h).relu(), dilation)
        x = x + h
        if i % 4 == 3:
            total = total + conv(x)
    return conv(total).softmax(1)[:, :, 5000:-5000]


def test_spliceai_of_keras_shares_its_trunk_and_gives_logits(recipes):
    layers = keras_spliceai(recipes / "spliceai1.h5")
    model = loaded(recipes, "spliceai_model", recipes / "spliceai1.h5", "wlogit")
    assert model.output_names == ("acceptor", "donor")
    assert shared_places(model) == 256
    X = windows(model)
    with torch.no_grad():
        found, expected = model.body(X).sigmoid(), spliceai_by_hand(layers, X.double())[:, 1:]
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


def test_puffin_shares_its_trunk_once_its_convolutions_are_plain(recipes):
    model = loaded(recipes, "puffin_model", reduction="center:1")
    assert (model.output_names[0], model.output_names[9]) == ("FANTOM_CAGE+", "FANTOM_CAGE-")
    assert shared_places(model) == 256
    torch.manual_seed(1)
    plain = stand_ins()["puffin"].Puffin()
    plain.load_state_dict(model.body.trunk.module.state_dict())
    X = windows(model)
    with torch.no_grad():
        torch.testing.assert_close(model.body(X), plain(X)[:, :, 325:-325], rtol=1e-4, atol=1e-5)


def test_basset_without_padding_is_a_stack(recipes):
    sys.path.insert(0, str(recipes))
    from basset_model import Basset

    torch.save(Basset().state_dict(), recipes / "w.pt")
    model = loaded(recipes, "basset_model", recipes / "w.pt")
    assert model.n_outputs == 164
    for stitch in ("center", "mean"):
        assert why_no_stack(model, Scoring((Track("0", (0,), (1.0,)),), 600, 240, stitch)) is None


def test_example_of_your_own_model_shares_its_trunk():
    (example,) = {text for page in (README, MODELS) for text in re.findall(EXAMPLE, page, re.DOTALL)}
    made = {}
    exec(example, made)
    model = loaded_model(made["Model"](), "Model")
    for stitch in ("center", "mean"):
        assert why_no_stack(model, Scoring((Track("0", (0,), (1.0,)),), 1000, 256, stitch)) is None


def test_sei_gives_logits_and_shares_nothing(recipes):
    made = stand_ins()["sei"].Sei().eval()
    state = {f"module.model.{key}": value for key, value in made.state_dict().items()}
    torch.save(state, recipes / "sei.pth")
    model = loaded(recipes, "sei_model", recipes / "sei.pth")
    X = windows(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(model(X).sigmoid(), made(X))
    check_differentiable(model, model.input_bp)
    with pytest.raises(NotSharedError):
        shared_places(model)


def test_parm_has_a_gradient_where_its_output_would_be_cut_off(recipes):
    from recipe_stand_ins import Parm

    made = Parm()
    made.linear1.bias.data.fill_(-99)
    torch.save(made.state_dict(), recipes / "K562.parm")
    model = loaded(recipes, "parm_model", recipes / "K562.parm")
    assert (model.n_outputs, model.output_names) == (1, ("K562",))
    X = windows(model).requires_grad_()
    assert float(torch.autograd.grad(model(X).sum(), X)[0].abs().max()) > 0


def small_enformer(folder, monkeypatch):
    package = pytest.importorskip("enformer_pytorch")
    how = {"dim": 48, "depth": 1, "heads": 2, "dim_divisible_by": 12, "attn_dim_key": 8}
    net = package.Enformer.from_hparams(**how, output_heads={"human": 3, "mouse": 2})
    monkeypatch.setattr(package, "from_pretrained", lambda name: net)
    return None, 3


def small_borzoi(folder, monkeypatch):
    package = pytest.importorskip("borzoi_pytorch")
    config = importlib.import_module("borzoi_pytorch.config_borzoi").BorzoiConfig
    how = {"dim": 16, "depth": 1, "heads": 1, "attn_dim_key": 8, "attn_dim_value": 16, "bins_to_return": 32}
    net = package.Borzoi(config(**how))
    net.set_track_subset([0, 1, 2])
    monkeypatch.setattr(package.Borzoi, "from_pretrained", lambda name: net)
    shorten(folder / "borzoi_model.py", "524288", "4096")
    return None, 3


def small_grelu(folder, monkeypatch):
    package = pytest.importorskip("grelu.lightning")
    network = {"model_type": "ConvModel", "n_tasks": 2, "stem_channels": 8, "n_conv": 2, "channel_init": 8}
    how = {"final_pool_func": "avg", "crop_len": 0, "pool_size": 2, "pool_func": "max"}
    trained = package.LightningModel(network | how, {"task": "binary", "loss": "bce"})
    trained.data_params = {"train": {"seq_len": 200}, "tasks": {"name": ["a", "b"]}}
    pl = importlib.import_module("pytorch_lightning")
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(trained)
    trainer.save_checkpoint(folder / "w.ckpt")
    return folder / "w.ckpt", 2


def small_crested(folder, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    inputs = layers.Input((300, 4))
    x = layers.Conv1D(8, 7, activation="gelu", padding="same")(inputs)
    x = layers.MaxPooling1D(4)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling1D()(layers.Dropout(0.3)(x))
    keras.Model(inputs, layers.Dense(3, activation="softplus")(x)).save(folder / "w.keras")
    return folder / "w.keras", 3


def small_bpnet_lite(folder, monkeypatch):
    lite = pytest.importorskip("bpnetlite.bpnet")
    net = lite.BPNet(n_filters=64, n_outputs=2, n_control_tracks=2, trimming=557, verbose=False)
    torch.save(net.state_dict(), folder / "w.pt")
    return folder / "w.pt", 2


def small_chrombpnet(folder, monkeypatch):
    pytest.importorskip("bpnetlite.bpnet")
    state = random_network()
    return write_keras(folder / "w.h5", state, keras_names(state, "wo_bias_bpnet_")), 2


def shorten(path, number, shorter):
    text = path.read_text()
    assert text.count(number) == 1
    path.write_text(text.replace(number, shorter))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PACKAGED)
def test_recipe_of_an_installed_package(recipes, name, monkeypatch):
    weights, n_outputs = globals()[f"small_{name.removesuffix('_model')}"](recipes, monkeypatch)
    has_positions = name in ("enformer_model", "borzoi_model")
    model = loaded(recipes, name, weights, "center:2" if has_positions else None)
    assert model.n_outputs == n_outputs
    X = windows(model).requires_grad_()
    check_differentiable(model, model.input_bp)
    gradient = torch.autograd.grad(model(X).sum(), X)[0]
    assert gradient.isfinite().all()
    assert float(gradient.abs().max()) > 0
    if n_outputs == 2 and name != "grelu_model":
        assert model.output_names == ("counts", "profile")
        ours = load_chrombpnet(weights) if name == "chrombpnet_model" else load_bpnet(weights)
        torch.testing.assert_close(model(X), ours(X), rtol=1e-4, atol=1e-4)
