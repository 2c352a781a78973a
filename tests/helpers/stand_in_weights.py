"""Deterministic weights for a Beluga-shaped network, under the keys of the published file.

He-normal noise from NumPy's PCG64: equal on every machine, good for comparing numbers, meaningless for
biology. The reference values in ``data/narrow_seed7.npz`` were computed with the narrow network of seed 7 by
the original implementation of TISM, in float32 on a CPU.
"""

from pathlib import Path

import numpy as np
import torch

from tism_scan.models.beluga import (
    CHANNELS,
    CONV_KEYS,
    KERNEL,
    LINEAR_KEYS,
    TRUNK_POSITIONS,
    Beluga,
    load_beluga,
)

NARROW_CHANNELS = (32, 32, 48, 48, 64, 64)
NARROW_HIDDEN = 128
NARROW_OUTPUTS = 20


def narrow_state_dict(seed: int) -> dict[str, torch.Tensor]:
    """Return the weights of a narrow network with 20 outputs."""
    return state_dict(seed, NARROW_CHANNELS, NARROW_HIDDEN, NARROW_OUTPUTS)


def state_dict(
    seed: int, channels: tuple[int, ...] = CHANNELS, n_hidden: int = 2003, n_outputs: int = 2002
) -> dict[str, torch.Tensor]:
    """Return float32 weights and biases; convolution weights are 4-D, (out, in, 1, 8)."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in _weight_shapes(channels, n_hidden, n_outputs).items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        state[f"{key}.weight"] = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * scale)
        bias = rng.standard_normal(shape[0], dtype=np.float32) * np.float32(0.05)
        state[f"{key}.bias"] = torch.from_numpy(bias)
    return state


def load_narrow_beluga(seed: int, folder: Path) -> Beluga:
    """Return the narrow network, by way of a weights file in a folder."""
    path = folder / f"narrow_seed{seed}.pth"
    torch.save(narrow_state_dict(seed), path)
    return load_beluga(path)


def _weight_shapes(channels: tuple[int, ...], n_hidden: int, n_outputs: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight, in the order in which the noise is drawn."""
    n_inputs = (4, *channels[:-1])
    convolutions = [(n_out, n_in, 1, KERNEL) for n_in, n_out in zip(n_inputs, channels, strict=True)]
    linears = [(n_hidden, channels[-1] * TRUNK_POSITIONS), (n_outputs, n_hidden)]
    return dict(zip(CONV_KEYS + LINEAR_KEYS, [*convolutions, *linears], strict=True))
