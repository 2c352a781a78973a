"""Files of networks of BPNet's kind, laid out as chrombpnet, basepairmodels and bpnet-lite write them."""

import json

import h5py
import numpy as np
import torch
from torch.nn import functional

N_FILTERS = 6
INPUT_BP, OUTPUT_BP = 2114, 1000


def random_network(n_layers=8, n_strands=1, n_control=0, seed=1, n_filters=N_FILTERS):
    """Return tensors under bpnet-lite's names."""
    generator = torch.Generator().manual_seed(seed)

    def layer(*shape):
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        return {
            "weight": torch.randn(shape, generator=generator) * scale,
            "bias": torch.randn(shape[:1], generator=generator) * 0.1,
        }

    layers = {
        "iconv": layer(n_filters, 4, 21),
        **{f"rconvs.{i}": layer(n_filters, n_filters, 3) for i in range(n_layers)},
        "fconv": layer(n_strands, n_filters + n_control, 75),
        "linear": layer(1, n_filters + bool(n_control)),
    }
    return {f"{name}.{part}": tensor for name, each in layers.items() for part, tensor in each.items()}


def padded_forward(state, X, *, is_activated_first=False, trimming=557):
    """Return profile logits and counts as networks with zero padding compute them, without control reads."""
    n_layers = sum(name.startswith("rconvs") for name in state) // 2
    n_filters = len(state["iconv.weight"])
    h = functional.conv1d(X, state["iconv.weight"], state["iconv.bias"], padding=10)
    h = h if is_activated_first else h.relu()
    for i in range(n_layers):
        dilation = 2 ** (i + 1)
        weight, bias = state[f"rconvs.{i}.weight"], state[f"rconvs.{i}.bias"]
        seen = functional.conv1d(
            h.relu() if is_activated_first else h, weight, bias, padding=dilation, dilation=dilation
        )
        h = h + (seen if is_activated_first else seen.relu())
    h = h.relu() if is_activated_first else h
    start, end = trimming, X.shape[2] - trimming
    profile = functional.conv1d(h, state["fconv.weight"][:, :n_filters], state["fconv.bias"], padding=37)[
        :, :, start:end
    ]
    means = h[:, :, start - 37 : end + 37].mean(2)
    n_control = state["linear.weight"].shape[1] - n_filters
    if n_control:
        means = torch.cat([means, torch.zeros(len(X), n_control)], 1)
    return profile, functional.linear(means, state["linear.weight"], state["linear.bias"])


def keras_names(state, prefix, *, of_heads=None):
    """Return chrombpnet's name of each layer."""
    of_heads = prefix if of_heads is None else of_heads
    n_layers = sum(name.startswith("rconvs") for name in state) // 2
    return {
        "iconv": f"{prefix}1st_conv",
        **{f"rconvs.{i}": f"{prefix}{i + 1}conv" for i in range(n_layers)},
        "fconv": f"{of_heads}prof_out_precrop",
        "linear": f"{of_heads}logcount_predictions",
    }


def write_keras(path, state, names, *, within="{name}/{name}", config=None, mode="w", suffix=":0"):
    """Write layers as Keras does: kernels with their axes in the other order."""
    with h5py.File(path, mode) as file:
        weights = file.require_group("model_weights")
        for ours, name in names.items():
            group = weights.require_group(within.format(name=name))
            kernel = state[f"{ours}.weight"].numpy()
            group[f"kernel{suffix}"] = np.ascontiguousarray(kernel.transpose(*reversed(range(kernel.ndim))))
            group[f"bias{suffix}"] = state[f"{ours}.bias"].numpy()
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


def chrombpnet_config(input_bp=INPUT_BP, crop_bp=0):
    """Return what Keras says of a model of this length, a bias model first, as far as it matters."""

    def functional(*crops):
        layers = [{"class_name": "InputLayer", "config": {"batch_input_shape": [None, input_bp, 4]}}]
        for name, n in crops:
            layers.append({"class_name": "Cropping1D", "config": {"name": name, "cropping": [n, n]}})
        return {"class_name": "Functional", "config": {"layers": layers}}

    bias = functional(("bpnet_1crop", 2), ("logits_profile_predictions_preflatten", crop_bp + 480))
    alone = functional(("wo_bias_bpnet_1crop", 2), ("wo_bias_bpnet_logitt_before_flatten", crop_bp))
    whole = functional()
    whole["config"]["layers"] += [bias, alone]
    return whole


def basepairmodels_layers(state, n_strands, seed=5):
    """Return the layers of a BPNet of basepairmodels, and their names there.

    A head has two layers, of which the second mixes the first one's outputs with the control.
    """
    generator = torch.Generator().manual_seed(seed)
    n_filters = len(state["iconv.weight"])
    profile = torch.randn((n_strands, n_strands + 2, 1), generator=generator)
    counts = torch.randn((1, 2), generator=generator)
    layers = {name: tensor for name, tensor in state.items() if name.startswith(("iconv", "rconvs"))}
    layers |= {
        "main_profile.weight": state["fconv.weight"][:, :n_filters],
        "main_profile.bias": state["fconv.bias"],
        "main_counts.weight": state["linear.weight"][:, :n_filters],
        "main_counts.bias": state["linear.bias"],
        "profile.weight": profile,
        "profile.bias": torch.randn(n_strands, generator=generator),
        "counts.weight": counts,
        "counts.bias": torch.randn(1, generator=generator),
    }
    n_layers = sum(name.startswith("rconvs") for name in state) // 2
    names = {
        "iconv": "main_conv_0",
        **{f"rconvs.{i}": f"main_dil_conv_{i + 1}" for i in range(n_layers)},
        "main_profile": "main_profile_head",
        "main_counts": "main_counts_head",
        "profile": "profile_predictions",
        "counts": "logcounts_predictions",
    }
    return layers, names
