"""BPNet's and ChromBPNet's files: Keras's `.h5`, and what bpnet-lite saves.

Bias models and control tracks are left out: a network with them is read as it answers where the control is
zero.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tism_scan.errors import WeightsError
from tism_scan.models.bpnet import INPUT_BP, OUTPUT_BP, BPNet, BPNetShape
from tism_scan.models.keras_h5 import SIGNATURE, KerasModel, read_keras_h5
from tism_scan.models.state_dicts import (
    Part,
    fault_of,
    read_parts,
    tensors_of,
    unreadable,
)

_LITE_BPNET, _LITE_BASE_PAIR = "bpnetlite.bpnet.BPNet", "bpnetlite.bpnet.BasePairNet"
_LITE_CHROMBPNET = "bpnetlite.chrombpnet.ChromBPNet"
# What a network of bpnet-lite that was saved whole is made of.
_LITE_CLASSES = (
    _LITE_BPNET,
    _LITE_BASE_PAIR,
    _LITE_CHROMBPNET,
    "bpnetlite.bpnet._Log",
    "bpnetlite.bpnet._Exp",
    "bpnetlite.chrombpnet._Log",
    "bpnetlite.chrombpnet._Exp",
    "bpnetlite.logging.Logger",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.conv.Conv1d",
    "torch.nn.modules.linear.Linear",
)

_IN_LITE = re.compile(r"(iconv|rconvs\.\d+|fconv|linear)\.(weight|bias)")
_MATRICES = ("trunk.counts.weight", "counts.weight")
_MOST_BP = 1_000_000

# A network's tensors by the names of `BPNet`, kernels in PyTorch's order of axes.
Tensors = dict[str, Tensor]


def load_chrombpnet(path: str | Path) -> BPNet:
    """Return ChromBPNet without its bias model, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    path : str or Path
        ``chrombpnet_nobias.h5``, ``chrombpnet.h5`` or ``bias.h5`` as chrombpnet wrote them, or what
        bpnet-lite saved. Of the file with both parts, the one without bias is read.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds another network: names the layers or shapes at fault.
    InputError
        If it is an `.h5` file, and h5py is not installed.
    """
    return _loaded(Path(path), "chrombpnet")


def load_bpnet(path: str | Path) -> BPNet:
    """Return BPNet, as basepairmodels or bpnet-lite wrote it, with its control tracks at zero.

    Parameters, Raises
    ------------------
    As `load_chrombpnet`.
    """
    return _loaded(Path(path), "bpnet")


def _loaded(path: Path, kind: str) -> BPNet:
    try:
        with open(path, "rb") as file:
            is_keras = file.read(len(SIGNATURE)) == SIGNATURE
    except OSError as error:
        raise unreadable(path, error) from None
    if is_keras:
        read = _chrombpnet_of_keras if kind == "chrombpnet" else _bpnet_of_keras
        shape, tensors = read(path, read_keras_h5(path))
    else:
        shape, tensors = _of_bpnet_lite(path)
    return _made(path, shape, tensors)


def _made(path: Path, shape: BPNetShape, tensors: Tensors) -> BPNet:
    """Return a network with these tensors; WeightsError names each that does not fit."""
    is_long = shape.input_bp > _MOST_BP or shape.output_bp < 1
    if is_long or shape.tower_bp < shape.profile_bp or shape.crop_bp < 0:
        raise WeightsError(
            f"{path} has {shape.n_layers} dilated convolutions and a profile of {shape.output_bp:,} bp; "
            f"they do not fit its window of {shape.input_bp:,} bp; expected a network of BPNet's kind"
        )
    with torch.device("meta"):
        model = BPNet(shape)
    tensors["trunk.counts.weight"] = tensors["trunk.counts.weight"].unsqueeze(2)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    faults = [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {wanted}"
        for name, wanted in expected.items()
        if tuple(tensors[name].shape) != wanted
    ]
    _refuse(path, faults)
    model.load_state_dict(
        {name: tensor.float().contiguous() for name, tensor in tensors.items()}, assign=True
    )
    return model.requires_grad_(False).eval()


def _chrombpnet_of_keras(path: Path, keras: KerasModel) -> tuple[BPNetShape, Tensors]:
    """Return ChromBPNet's shape and tensors in a Keras model: of the part without bias, if it has both."""
    whole = "wo_bias_bpnet_"
    prefix = whole if any(name.startswith(whole) for name in keras.layers) else "bpnet_"
    n_layers = _count(keras, re.escape(prefix) + r"(\d+)conv")
    # the heads of a bias model bear no prefix
    of_heads = prefix if prefix == whole else ""
    names = {
        "trunk.first": f"{prefix}1st_conv",
        **{f"trunk.dilated.{i}": f"{prefix}{i + 1}conv" for i in range(max(1, n_layers))},
        "trunk.profile": f"{of_heads}prof_out_precrop",
        "trunk.counts": f"{of_heads}logcount_predictions",
    }
    tensors = _tensors_of(path, keras, names, "ChromBPNet", "main_conv_0", "bpnet")
    shape = _shape_of(tensors, n_layers)
    start = "wo_bias" if prefix == whole else "logits"  # of the layer that crops the profile
    crop = next((bp for name, bp in keras.crops if name.startswith(start) and "logit" in name), None)
    return _with_lengths(shape, keras.input_bp, crop), tensors


def _bpnet_of_keras(path: Path, keras: KerasModel) -> tuple[BPNetShape, Tensors]:
    """Return BPNet's shape and tensors in a model of basepairmodels, whose heads have two layers each.

    The second layer of a head is linear in the first and in the control, so that both are one.
    """
    n_layers = _count(keras, r"main_dil_conv_(\d+)")
    names = {
        "trunk.first": "main_conv_0",
        **{f"trunk.dilated.{i}": f"main_dil_conv_{i + 1}" for i in range(max(1, n_layers))},
        "trunk.profile": "main_profile_head",
        "trunk.counts": "main_counts_head",
        "profile": "profile_predictions",
        "counts": "logcounts_predictions",
    }
    found = _tensors_of(path, keras, names, "BPNet", "bpnet_1st_conv", "chrombpnet")
    profile, counts = (found.pop(f"{name}.weight") for name in ("profile", "counts"))
    profile_bias, counts_bias = (found.pop(f"{name}.bias") for name in ("profile", "counts"))
    n_strands = len(found["trunk.profile.weight"])
    mix = profile[:, :n_strands, 0]  # (strands, strands of the first layer)
    found["trunk.profile.weight"] = torch.einsum("os,sck->ock", mix, found["trunk.profile.weight"])
    found["trunk.profile.bias"] = mix @ found["trunk.profile.bias"] + profile_bias
    scale = counts[:, :1]  # the other column is the control's, whose logarithm of 0 + 1 reads is 0
    found["trunk.counts.weight"] = scale * found["trunk.counts.weight"]
    found["trunk.counts.bias"] = scale[:, 0] * found["trunk.counts.bias"] + counts_bias
    shape = replace(_shape_of(found, n_layers), is_activated_first=True)
    return _with_lengths(shape, keras.input_bp, None), found


def _of_bpnet_lite(path: Path) -> tuple[BPNetShape, Tensors]:
    """Return the shape and tensors of what bpnet-lite saved: a network, or its state dict."""
    read = read_parts(path, _LITE_CLASSES)
    state = _state_of_lite(path, read)
    n_layers = sum(bool(re.fullmatch(r"rconvs\.\d+\.weight", name)) for name in state)
    tensors = _tensors_of_lite(path, state, n_layers)
    n_filters = len(tensors["trunk.first.weight"])
    owner = _owner(read) if isinstance(read, Part) else None
    is_base_pair = owner is not None and type(owner).class_name == _LITE_BASE_PAIR
    counts, profile = tensors["trunk.counts.weight"], tensors["trunk.profile.weight"]
    if is_base_pair:  # which takes the logarithm of two more than the control's reads, others of one more
        of_control = math.log(2) * counts[:, n_filters:].sum(1)
        tensors["trunk.counts.bias"] = tensors["trunk.counts.bias"] + of_control
    tensors["trunk.counts.weight"], tensors["trunk.profile.weight"] = (
        counts[:, :n_filters],
        profile[:, :n_filters],
    )
    shape = replace(_shape_of(tensors, n_layers), is_activated_first=is_base_pair)
    if owner is not None:
        _check_trimming(path, shape, vars(owner).get("trimming"))
    return shape, tensors


def _state_of_lite(path: Path, read: Any) -> Tensors:
    """Return the state dict of what was read, by the names of a network without a bias model."""
    try:
        state = dict(tensors_of(read)) if isinstance(read, Part) else read
    except (AttributeError, TypeError, ValueError):
        raise WeightsError(
            f"{path} does not hold a network of bpnet-lite, or is damaged; check --weights"
        ) from None
    state = {str(name).removeprefix("accessibility."): tensor for name, tensor in state.items()}
    faults = {name: fault_of(tensor) for name, tensor in state.items() if _IN_LITE.fullmatch(name)}
    _refuse(path, [f"{name} {fault}" for name, fault in faults.items() if fault is not None])
    return state


def _tensors_of_lite(path: Path, state: Tensors, n_layers: int) -> Tensors:
    """Return kernels and biases of a state dict, by our names; WeightsError names those missing."""
    names = {
        "trunk.first": "iconv",
        **{f"trunk.dilated.{i}": f"rconvs.{i}" for i in range(max(1, n_layers))},
        "trunk.profile": "fconv",
        "trunk.counts": "linear",
    }
    missing = [f"{name}.weight" for name in names.values() if f"{name}.weight" not in state]
    if missing:
        raise WeightsError(
            f"{path} does not hold a network of bpnet-lite: missing key {', '.join(missing)}; expected "
            "Keras's .h5, or what bpnet-lite saves"
        )
    tensors = {f"{ours}.weight": state[f"{name}.weight"] for ours, name in names.items()}
    _check_dimensions(path, tensors)
    for ours, name in names.items():
        n_outputs = len(tensors[f"{ours}.weight"])
        tensors[f"{ours}.bias"] = state.get(f"{name}.bias", torch.zeros(n_outputs))
    return tensors


def _check_trimming(path: Path, shape: BPNetShape, trimming: object) -> None:
    """Raise WeightsError if the network's own trimming, if it says any, is not that of its shape."""
    if isinstance(trimming, int) and shape.input_bp - 2 * trimming != shape.output_bp:
        raise WeightsError(
            f"{path} has trimming {trimming}; expected {(shape.input_bp - shape.output_bp) // 2}, with which "
            "the network reads no place that its zero padding reaches; scan it with a function of your own "
            "(--model package.module:factory)"
        )


def _owner(part: Part) -> Part:
    """Return the network itself, of a ChromBPNet the part without bias."""
    inner = vars(part).get("_modules", {}).get("accessibility")
    return inner if isinstance(inner, Part) else part


def _count(keras: KerasModel, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in keras.layers)


def _tensors_of(
    path: Path, keras: KerasModel, names: Mapping[str, str], what: str, mark_of_other: str, other: str
) -> Tensors:
    """Return kernels and biases of a Keras model's layers, by our names; WeightsError names those missing."""
    if any(name.endswith(mark_of_other) for name in keras.layers):
        raise WeightsError(f"{path} holds another network than {what}; use --model {other}")
    missing = [name for name in names.values() if "kernel" not in keras.layers.get(name, {})]
    if missing:
        there = ", ".join(list(keras.layers)[:6]) + (", ..." if len(keras.layers) > 6 else "")
        raise WeightsError(
            f"{path} does not hold {what}: missing layer {', '.join(missing)}; its layers are {there}"
        )
    tensors = {}
    for ours, name in names.items():
        layer = keras.layers[name]
        kernel = layer["kernel"]
        tensors[f"{ours}.weight"] = kernel.permute(*reversed(range(kernel.dim())))
        tensors[f"{ours}.bias"] = layer.get("bias", torch.zeros(kernel.shape[-1:]))
    _check_dimensions(path, tensors)
    return tensors


def _check_dimensions(path: Path, tensors: Tensors) -> None:
    """Raise WeightsError unless tensors have as many axes as their layers have, and none is empty."""
    faults = []
    for name, tensor in tensors.items():
        n_axes = 1 if name.endswith(".bias") else 2 if name in _MATRICES else 3
        if tensor.dim() != n_axes or not tensor.numel():
            faults.append(f"{name} has shape {tuple(tensor.shape)}, expected {n_axes} axes, none of 0")
    _refuse(path, faults)


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise WeightsError(f"{path} holds no network of BPNet's kind: {'; '.join(faults)}")


def _shape_of(tensors: Tensors, n_layers: int) -> BPNetShape:
    """Return a network's shape, with the usual lengths, as far as its tensors say it."""
    first, profile = tensors["trunk.first.weight"], tensors["trunk.profile.weight"]
    return BPNetShape(len(first), n_layers, len(profile), first.shape[-1], profile.shape[-1])


def _with_lengths(shape: BPNetShape, input_bp: int | None, crop_bp: int | None) -> BPNetShape:
    """Return a shape with the lengths that a file says, where it does."""
    shape = replace(shape, input_bp=input_bp or INPUT_BP, output_bp=OUTPUT_BP)
    if crop_bp is not None:
        shape = replace(shape, output_bp=shape.tower_bp - (shape.profile_bp - 1) - 2 * crop_bp)
    return shape
