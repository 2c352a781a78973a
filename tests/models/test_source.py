"""Models from anywhere: what is accepted, and what is said when it is not."""

import logging
import sys
import textwrap
import threading
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tism_scan.errors import ModelError, TismScanError, TrackError, WeightsError
from tism_scan.genome.alphabet import encode
from tism_scan.locus.scores import score_sequence
from tism_scan.models.beluga import Beluga, weights_digest
from tism_scan.models.contract import loaded_model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.source import ModelSource, model_source, parameters_digest
from tism_scan.plan.methods import MethodSettings
from tism_scan.plan.tracks import Track, select_tracks

WEIGHTS = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))
PAGE = Path(__file__).parents[2] / ".github" / "docs" / "models.md"

MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    input_bp, alphabet = 24, "ACGT"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(96, 3)
        nn.init.ones_(self.layer.weight)
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, X):
        return self.layer(X.flatten(1)) + self.shift
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Return a function that writes a module, and gives its name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = []

    def write(*parts):
        name = f"written_{abs(hash(request.node.name))}_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text("\n".join(map(textwrap.dedent, parts)))
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def _load(name, folder, factory="Model", weights=None, **flags):
    return ModelSource(f"{name}:{factory}", weights, folder=folder, **flags).load()


def test_beluga_is_built_in():
    model = ModelSource("beluga", WEIGHTS).load()
    assert isinstance(model, Beluga)
    assert ModelSource("beluga", WEIGHTS).identity() == ("beluga", weights_digest(WEIGHTS))


def test_beluga_without_weights_says_what_to_add():
    with pytest.raises(WeightsError, match="add --weights"):
        ModelSource("beluga", None).load()


def test_a_factory_without_weights_is_called_with_nothing(module, tmp_path):
    model = _load(module(MODEL), tmp_path)
    assert (model.input_bp, model.alphabet, model.n_outputs, model.output_names) == (24, "ACGT", 3, None)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_factory_is_found_in_the_current_directory(module, tmp_path, monkeypatch):
    name = module(MODEL)
    monkeypatch.chdir(tmp_path)
    assert ModelSource(f"{name}:Model", None).load().n_outputs == 3


def test_a_factory_is_called_with_the_absolute_path_of_its_weights(module, tmp_path, monkeypatch):
    name = module(
        MODEL,
        """
        def load(path):
            assert path.is_absolute()
            model = Model()
            model.load_state_dict(torch.load(path, weights_only=True))
            return model
        """,
    )
    state = {"layer.weight": torch.full((3, 96), 2.0), "layer.bias": torch.zeros(3), "shift": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    monkeypatch.chdir(tmp_path)
    model = _load(name, tmp_path, "load", Path("w.pt"))
    assert (next(model.parameters()) == 2).all()
    assert ModelSource(f"{name}:load", Path("w.pt")).identity() == (f"{name}:load", weights_digest("w.pt"))


def test_flags_describe_a_model_that_does_not_describe_itself(module, tmp_path):
    name = module("from torch import nn", "def f(): return nn.Sequential(nn.Flatten(), nn.Linear(40, 2))")
    model = _load(name, tmp_path, "f", input_bp=10, alphabet="TGCA")
    assert (model.input_bp, model.alphabet, model.n_outputs) == (10, "TGCA", 2)


def test_heads_are_put_side_by_side_and_axes_flattened(module, tmp_path):
    name = module(
        MODEL,
        """
        class Heads(Model):
            def forward(self, X):
                outputs = super().forward(X)
                return [outputs[:, :1], torch.stack([outputs[:, 1:], outputs[:, 1:]], 2)]
        """,
    )
    model = _load(name, tmp_path, "Heads")
    assert model.n_outputs == 5
    assert model(torch.zeros(4, 4, 24)).shape == (4, 5)


def test_double_precision_becomes_float32(module, tmp_path):
    name = module(MODEL, "def f(): return Model().double()")
    assert _load(name, tmp_path, "f")(torch.zeros(1, 4, 24)).dtype == torch.float32


def test_number_of_outputs_that_means_something_else_does_not_count(module, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tism_scan"), "propagate", True)
    model = _load(module(MODEL, "class f(Model): n_outputs = 7"), tmp_path, "f")
    assert model.n_outputs == 3
    assert "has the attribute n_outputs 7, and returns 3 outputs for a window; these count" in caplog.text


def test_outputs_by_name_are_put_side_by_side_and_named_by_their_keys(module, tmp_path):
    name = module(
        MODEL,
        """
        class f(Model):
            def forward(self, X):
                y = super().forward(X)
                return {"human": y, "mouse": {"count": (y[:, :1], None), "profile": [y, y[:, 1:]]}}, None
        """,
    )
    model = _load(name, tmp_path, "f")
    assert model.output_names == (
        *(f"human_{i}" for i in range(3)),
        "mouse_count",
        *(f"mouse_profile_{i}" for i in range(5)),
    )
    X = torch.rand(2, 4, 24)
    y = model.body.layer(X.flatten(1))
    torch.testing.assert_close(model(X), torch.cat([y, y[:, :1], y, y[:, 1:]], 1))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'logits': y, 'note': 'fine'}", "its output 'note' is of type str; expected a tensor"),
        ("{'logits': y, 'loss': y.sum()}", r"its output 'loss' is float32 \(\); expected floating"),
        (
            "{'logits': y, 'index': y.argmax(1)}",
            r"its output 'index' is int64 \(1,\); expected floating-point",
        ),
        ("(y, object())", "its output is of type object; expected a tensor"),
        ("(None, [])", "it returns nothing; expected a tensor"),
    ],
)
def test_part_of_the_output_that_cannot_be_used_is_named(module, tmp_path, returned, message):
    name = module(
        MODEL,
        f"""
        class f(Model):
            def forward(self, X):
                y = super().forward(X)
                return {returned}
        """,
    )
    with pytest.raises(ModelError, match=message):
        _load(name, tmp_path, "f")


def test_body_in_half_precision_with_casts_of_its_own_is_taken_as_it_is(module, tmp_path):
    name = module(
        MODEL,
        """
        class f(Model):
            def __init__(self):
                super().__init__()
                self.bfloat16()

            def forward(self, X):
                assert self.layer.weight.dtype == torch.bfloat16
                return super().forward(X.bfloat16())
        """,
    )
    model = _load(name, tmp_path, "f")
    outputs = model(torch.rand(2, 4, 24))
    assert outputs.dtype == torch.float32
    assert model.body.layer.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_body_that_casts_to_its_own_precision_is_computed_in_float32(module, tmp_path, dtype):
    name = module(
        MODEL,
        f"""
        class f(Model):
            def __init__(self):
                super().__init__()
                self.to(torch.{dtype})

            def forward(self, X):
                return super().forward(X.to(self.layer.weight.dtype))
        """,
    )
    model = _load(name, tmp_path, "f")  # stores that were made so go on
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers())} == {torch.float32}


def test_output_names_are_kept(module, tmp_path):
    name = module(MODEL, "class Named(Model): output_names = ['x', 'y', 'z']")
    assert _load(name, tmp_path, "Named").output_names == ("x", "y", "z")


def test_a_model_that_declares_its_trunk_keeps_it(module, tmp_path):
    name = module("from tism_scan import load_beluga as load")
    model = _load(name, tmp_path, "load", WEIGHTS)
    assert isinstance(model.trunk, nn.Sequential)
    assert isinstance(model.head, nn.Sequential)
    assert _load(module(MODEL), tmp_path).trunk is None


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        ("", "mine", "'mine' names no model; expected beluga, chrombpnet, bpnet or package.module:factory"),
        ("", "a b:c", "'a b:c' names no model"),
        ("", "no_such_module_here:f", "no module 'no_such_module_here'.*run from the folder that holds it"),
        ("", "tism_scan.nothing:f", "no module 'tism_scan.nothing'"),
        ("import no_such_library", "{}:f", "cannot be imported: No module named 'no_such_library'"),
        ("1 / 0", "{}:f", "cannot be imported: ZeroDivisionError: division by zero"),
        ("x = (", "{}:f", "cannot be imported: SyntaxError"),
        ("g = 1", "{}:f", "has no 'f'; expected beluga, chrombpnet, bpnet or package.module:factory"),
        ("f = 1", "{}:f", "is a int, not a function"),
        ("f = Model()", "{}:f", "is a Model, not a function.*wrap it in a function"),
        ("def f(): raise OSError('no\\nluck')", "{}:f", r"f\(\) failed: OSError: no luck$"),
        ("def f(path): pass", "{}:f", "missing 1 required.*called with --weights if that is given"),
        ("def f(): return {'a': 1}", "{}:f", "returned a dict; expected a torch.nn.Module"),
        ("class f(Model): input_bp = alphabet = None", "{}:f", "'input_bp'.*--input-bp.*'alphabet'.*--alph"),
        ("class f(Model): alphabet = 'ACGU'", "{}:f", "has alphabet 'ACGU'; expected the letters A, C, G, T"),
        ("class f(Model): input_bp = '24'", "{}:f", "has input_bp '24'; expected int"),
        ("class f(Model): input_bp = 0", "{}:f", "has input_bp 0; expected a length of 1 or more"),
        ("class f(Model): input_bp = 25", "{}:f", r"fails on one window, float32 \(1, 4, 25\).*--input-bp"),
        ("class f(Model):\n  def forward(self, X): return {}", "{}:f", "fails on one window"),
        ("class f(Model):\n  def forward(self, X): return X.argmax(2)", "{}:f", "its output is int64 "),
        ("class f(Model): output_names = ['x']", "{}:f", "has 1 names in output_names for 3 outputs"),
        ("class f(Model): output_names = 'xyz'", "{}:f", "has a str in output_names"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_in_one_line(module, tmp_path, source, spec, message):
    name = module(MODEL, source)
    with pytest.raises(ModelError, match=message) as caught:
        ModelSource(spec.format(name), None, folder=tmp_path).load()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_flag_that_contradicts_the_model_is_refused(module, tmp_path):
    name = module(MODEL)
    with pytest.raises(ModelError, match="has alphabet 'ACGT', but --alphabet says 'AGCT'; leave --alphabet"):
        _load(name, tmp_path, alphabet="AGCT")
    with pytest.raises(ModelError, match="has input_bp 2000, but --input-bp says 500"):
        ModelSource("beluga", WEIGHTS, input_bp=500).load()


def test_missing_weights_are_named_before_the_factory_runs(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights '.*nowhere\.pt'"):
        ModelSource("any:thing", tmp_path / "nowhere.pt").load()


def test_an_error_of_this_package_inside_a_factory_keeps_its_words(module, tmp_path):
    name = module("from tism_scan import load_beluga", "def f(): return load_beluga('gone.pth')")
    with pytest.raises(TismScanError, match=r"cannot read the weights gone\.pth"):
        _load(name, tmp_path, "f")


def test_the_digest_follows_parameters_and_buffers(module, tmp_path):
    name = module(MODEL, "class Shifted(Model):\n  def __init__(self): super().__init__(); self.shift += 1")
    bias = "def zero(m):\n  nn.init.zeros_(m.layer.bias); return m"
    name = module((tmp_path / f"{name}.py").read_text(), bias, "def a(): return zero(Model())")
    with open(tmp_path / f"{name}.py", "a") as file:
        file.write("\ndef b(): return zero(Shifted())\n")
    digests = [ModelSource(f"{name}:{factory}", None, folder=tmp_path).identity()[1] for factory in "aab"]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] == parameters_digest(_load(name, tmp_path, "a"))


def in_a_module(inner):
    model = nn.Sequential(inner)
    model.input_bp, model.alphabet = 24, "ACGT"
    return model


def normed(norm):
    layer = norm(nn.Linear(96, 2))
    layer(torch.rand(1, 96))  # whose weight is now what was computed, and no parameter
    return nn.Sequential(nn.Flatten(), layer)


class Keeping(nn.Sequential):
    def forward(self, X):
        self.last = super().forward(X)
        return self.last


IN_MEMORY = {
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(96, 2))),
    "weight norm": lambda: normed(torch.nn.utils.weight_norm),
    "spectral norm": lambda: normed(torch.nn.utils.spectral_norm),
    "newer weight norm": lambda: normed(torch.nn.utils.parametrizations.weight_norm),
    "what was computed last": lambda: Keeping(nn.Flatten(), nn.Linear(96, 2)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize("kind", IN_MEMORY)
def test_module_in_memory_is_copied_whatever_it_holds(kind):
    body, X = in_a_module(IN_MEMORY[kind]()), torch.rand(3, 4, 24)
    body(X)
    model = model_source(body).load()
    assert all(parameter.requires_grad for parameter in body.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    check_differentiable(model, 24)
    torch.testing.assert_close(model(X), body.eval()(X).detach())


def test_module_that_cannot_be_copied_is_one_clear_error():
    body = in_a_module(nn.Sequential(nn.Flatten(), nn.Linear(96, 2)))
    body.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied: TypeError: cannot pickle.*package.module:f"):
        model_source(body).load()


def test_layers_without_weights_yet_are_one_clear_error():
    body = in_a_module(nn.Sequential(nn.Flatten(), nn.LazyLinear(2), nn.LazyBatchNorm1d()))
    with pytest.raises(ModelError, match=r"'mine' has layers without weights yet, 0\.1\.weight, .*call it"):
        loaded_model(body, "mine")


def test_an_alphabet_given_by_flag_is_part_of_the_name(module, tmp_path):
    name = module("from torch import nn", "def f(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))")
    (tmp_path / "w").write_bytes(b"w")
    assert ModelSource(f"{name}:f", tmp_path / "w", alphabet="TGCA").identity()[0] == f"{name}:f (TGCA)"


def test_a_model_without_gradient_is_refused_before_the_work(module, tmp_path):
    name = module(MODEL, "class f(Model):\n  def forward(self, X): return super().forward(X).detach()")
    model = _load(name, tmp_path, "f")
    with pytest.raises(ModelError, match=r"cannot be differentiated.*use ism"):
        check_differentiable(model, 24)
    track = Track("0", (0,), (1.0,))
    with pytest.raises(ModelError, match="cannot be differentiated"):
        score_sequence(model, "s", encode("ACGT"), MethodSettings((track,)))
    ism = score_sequence(model, "s", encode("ACGT"), MethodSettings((track,), "mean-ism"))
    assert np.isfinite(ism.values).all()


def test_the_example_of_ones_own_model_is_a_model(module, tmp_path):
    source = PAGE.read_text().split("```python\n")[1].split("```")[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 12
    model = _load(module(source), tmp_path, "load")
    assert model.output_names is not None
    tracks = select_tracks("CTCF", model.n_outputs, model.output_names)
    scores = score_sequence(model, "s", encode("ACGTTGCA" * 20), MethodSettings(tracks))
    assert np.isfinite(scores.values).all()
    with pytest.raises(TrackError, match="'nothing' fits no track of the model"):
        select_tracks("nothing", model.n_outputs, model.output_names)
