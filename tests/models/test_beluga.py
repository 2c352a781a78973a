import hashlib
import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stand_in_weights import narrow_state_dict, state_dict

from tism_scan.errors import WeightsError
from tism_scan.models.beluga import CONV_KEYS, LINEAR_KEYS, Beluga, load_beluga, weights_digest

WIDTHS = (3, 4, 5, 6, 7, 8)
ALL_KEYS = [f"{key}.{part}" for key in CONV_KEYS + LINEAR_KEYS for part in ("weight", "bias")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "beluga.pth"


@pytest.fixture
def small_state():
    return state_dict(1, WIDTHS, 5, 2)


def file_bytes(state, *, is_zip=True):
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


SMALL_FILES = [file_bytes(state_dict(1, (2,) * 6, 3, 2), is_zip=is_zip) for is_zip in (True, False)]


def naive_forward(state, X):
    """Return the logits, from the published keys and the description of the network alone."""
    x = X[:, :, None]  # (N, 4, 1, L), as the 4-D kernels want it
    for i, key in enumerate(CONV_KEYS):
        if i in (2, 4):
            x = torch.nn.functional.max_pool2d(x, (1, 4))
        x = torch.nn.functional.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"]).relu()
    hidden, last = LINEAR_KEYS
    x = (x.flatten(1) @ state[f"{hidden}.weight"].T + state[f"{hidden}.bias"]).relu()
    return x @ state[f"{last}.weight"].T + state[f"{last}.bias"]


def test_loaded_network_computes_what_its_published_keys_say(path, small_state):
    torch.save(small_state, path)
    X = torch.rand(2, 4, 2000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = load_beluga(path)(X)
    assert logits.shape == (2, 2)
    np.testing.assert_allclose(logits, naive_forward(small_state, X), rtol=1e-5, atol=1e-6)


def test_loaded_network_is_in_evaluation_mode_in_float32_without_gradients(path, small_state):
    torch.save(small_state, path)
    model = load_beluga(path)
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (model.input_bp, model.alphabet, model.n_outputs) == (2000, "AGCT", 2)


@pytest.mark.parametrize(
    ("channels", "n_hidden", "n_outputs"), [((1,) * 6, 1, 1), ((9, 3, 1, 4, 2, 6), 7, 11)]
)
def test_widths_are_read_off_the_file(path, channels, n_hidden, n_outputs):
    torch.save(state_dict(2, channels, n_hidden, n_outputs), path)
    model = load_beluga(path)
    assert model(torch.zeros(1, 4, 2000)).shape == (1, n_outputs)


def test_full_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = Beluga()
    assert sum(parameter.numel() for parameter in model.parameters()) == 149_536_251


def test_published_keys_and_shapes_survive_a_round_trip(path):
    state = narrow_state_dict(3)
    torch.save(state, path)
    published = load_beluga(path).published_state_dict()
    assert list(published) == list(state)
    for key, tensor in state.items():
        assert published[key].shape == tensor.shape
        torch.testing.assert_close(published[key], tensor, rtol=0, atol=0)


def test_convolution_weights_are_4d_in_the_published_form():
    published = Beluga(WIDTHS, 5, 2).published_state_dict()
    assert published["model.0.2.weight"].shape == (4, 3, 1, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load_as_float32(path, small_state, dtype):
    torch.save({key: tensor.to(dtype) for key, tensor in small_state.items()}, path)
    model = load_beluga(path)
    weight = model.published_state_dict()["model.0.0.weight"]
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, small_state["model.0.0.weight"].to(dtype).to(torch.float32))


def test_file_in_pytorchs_older_format_loads(path, small_state):
    path.write_bytes(file_bytes(small_state, is_zip=False))
    assert load_beluga(path).n_outputs == 2


@pytest.mark.parametrize("n_channels", [5, 7])
def test_network_has_six_convolutions(n_channels):
    with pytest.raises(ValueError, match=f"Beluga has 6 convolutions, not {n_channels}"):
        Beluga((4,) * n_channels)


@pytest.mark.parametrize("key", ALL_KEYS)
def test_missing_key_is_named(path, small_state, key):
    del small_state[key]
    torch.save(small_state, path)
    with pytest.raises(WeightsError, match=rf"does not hold Beluga's weights: missing key {re.escape(key)}$"):
        load_beluga(path)


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("model.0.0.weight", (3, 5, 1, 8), "(any width, 4, 1, 8)"),
        ("model.0.0.weight", (3, 4, 8), "(any width, 4, 1, 8)"),
        ("model.0.0.weight", (3, 4, 8, 1), "(any width, 4, 1, 8)"),
        ("model.0.0.weight", (), "(any width, 4, 1, 8)"),
        ("model.0.0.weight", (0, 4, 1, 8), "(any width, 4, 1, 8)"),
        ("model.0.14.bias", (1,), "(8,)"),
        ("model.0.14.bias", (), "(8,)"),
        ("model.1.2.1.weight", (5, 8 * 105), "(any width, 848)"),
        ("model.1.4.1.weight", (2, 5, 1), "(any width, 5)"),
        ("model.1.4.1.bias", (2, 1), "(2,)"),
    ],
)
def test_misshaped_tensor_is_named_with_the_shape_expected(path, small_state, key, shape, expected):
    small_state[key] = torch.zeros(shape)
    torch.save(small_state, path)
    with pytest.raises(WeightsError, match=re.escape(f"{key} has shape {shape}, expected {expected}")):
        load_beluga(path)


def test_every_fault_is_named_in_one_error(path, small_state):
    for key in ("model.0.0.weight", "model.0.8.bias"):
        del small_state[key]
    small_state |= {"model.9.weight": torch.zeros(1), "b": torch.zeros(1), 7: torch.zeros(1)}
    small_state["model.0.6.weight"] = torch.zeros(5, 9, 1, 8)
    small_state["model.1.4.1.bias"] = torch.zeros(3)
    small_state["model.0.2.bias"] = torch.zeros(4, dtype=torch.int64)
    torch.save(small_state, path)
    with pytest.raises(WeightsError, match=r"beluga.pth does not hold Beluga's weights") as caught:
        load_beluga(path)
    assert str(caught.value).partition(": ")[2].split("; ") == [
        "missing key model.0.0.weight",
        "missing key model.0.8.bias",
        "extra key 7",
        "extra key b",
        "extra key model.9.weight",
        "model.0.2.bias holds int64, expected floating-point numbers",
        "model.0.6.weight has shape (5, 9, 1, 8), expected (any width, 4, 1, 8)",
        "model.1.4.1.bias has shape (3,), expected (2,)",
    ]


class RunsCode:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_plain_pickle", [True, False])
def test_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, path, small_state, is_plain_pickle):
    trap = tmp_path / "the code ran"
    small_state["model.0.0.weight"] = RunsCode(trap)
    path.write_bytes(pickle.dumps(small_state) if is_plain_pickle else file_bytes(small_state))
    with pytest.raises(WeightsError, match="was refused: it is not a plain state dict"):
        load_beluga(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a file that torch.save wrote, or is damaged"),
        (b"GATTACA\n" * 100, "is not a file that torch.save wrote, or is damaged|was refused"),
        (SMALL_FILES[0][:-100], "is not a file that torch.save wrote, or is damaged"),
        (SMALL_FILES[1][:-100], "is not a file that torch.save wrote, or is damaged"),
    ],
    ids=["empty", "text", "truncated", "truncated older format"],
)
def test_file_that_is_no_weights_file_says_so(path, content, message):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_beluga(path)


@given(st.sampled_from(SMALL_FILES), st.integers(0, 3000), st.binary(min_size=1, max_size=8), st.booleans())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_damaged_file_loads_or_is_refused_but_never_crashes(path, content, position, noise, is_cut):
    position %= len(content)
    rest = b"" if is_cut else content[position + len(noise) :]
    path.write_bytes(content[:position] + noise + rest)
    try:
        assert load_beluga(path).n_outputs == 2
    except WeightsError as error:
        assert "beluga.pth" in str(error)  # noqa: PT017  # both ends are allowed


def packed(path, out, *, n_zeros=0):
    """Write the records of a weights file deflated, with zeros for each byte of the first tensor."""
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as deflated:
        for record in plain.infolist():
            content = plain.read(record)
            is_first = record.filename.endswith("data/0")
            deflated.writestr(record.filename, content + bytes(n_zeros * len(content) * is_first))


@pytest.mark.parametrize("n_zeros", [0, 10_000])
def test_file_that_would_unpack_to_more_than_it_is_long_is_refused(path, small_state, tmp_path, n_zeros):
    torch.save(small_state, path)
    trap = tmp_path / "packed.pth"
    packed(path, trap, n_zeros=n_zeros)
    with pytest.raises(WeightsError, match=r"packed.pth was refused: it is packed, .*; load it where memory"):
        load_beluga(trap)


def test_tensor_that_repeats_one_number_over_and_over_is_refused(path, small_state):
    key = f"{LINEAR_KEYS[0]}.bias"
    small_state[key] = torch.zeros(1).expand(1 << 40)  # four terabytes, in a file of some kilobytes
    torch.save(small_state, path)
    assert path.stat().st_size < 1e6
    with pytest.raises(WeightsError, match=rf"{re.escape(key)} is longer than what the file holds of it"):
        load_beluga(path)


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        ([torch.zeros(1)], "list"),
        (torch.zeros(3), "Tensor"),
        ({"epoch": 3}, "dict"),
        ({"state_dict": {"a": torch.zeros(1)}}, "dict"),
        (7, "int"),
    ],
)
def test_file_that_holds_something_else_says_what(path, held, kind):
    torch.save(held, path)
    with pytest.raises(WeightsError, match=f"holds a {kind}, not a state dict"):
        load_beluga(path)


@pytest.mark.parametrize("read", [load_beluga, weights_digest])
def test_file_that_cannot_be_read_says_why(tmp_path, path, read):
    with pytest.raises(
        WeightsError, match=r"cannot read the weights .*beluga.pth: No such file or directory"
    ):
        read(path)
    with pytest.raises(WeightsError, match=r"cannot read the weights .*: Is a directory"):
        read(tmp_path)


def test_digest_is_the_files_sha256(path):
    path.write_bytes(b"weights")
    assert weights_digest(path) == hashlib.sha256(b"weights").hexdigest()
