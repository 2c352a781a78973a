"""DeepSEA Beluga: 2,000 bp in, 2,002 chromatin tracks out.

References
----------
Zhou et al., "Deep learning sequence-based ab initio prediction of variant effects on expression and disease
risk", Nature Genetics 50, 1171 (2018), doi 10.1038/s41588-018-0160-6. Weights:
https://zenodo.org/record/3402406 (non-commercial licence, therefore not part of this package).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tism_scan.errors import WeightsError
from tism_scan.models.contract import Model
from tism_scan.models.state_dicts import fault_of, read_state_dict, unreadable
from tism_scan.storage.atomic import file_digest

INPUT_BP = 2000
TRUNK_POSITIONS = 106
KERNEL = 8
CHANNELS = (320, 320, 480, 480, 640, 640)

# Beluga's own names of its parameters, in the order of its layers.
CONV_KEYS = tuple(f"model.0.{layer}" for layer in (0, 2, 6, 8, 12, 14))
LINEAR_KEYS = ("model.1.2.1", "model.1.4.1")


class Beluga(Model):
    """Beluga's network, of any width, without the sigmoid that the published one ends in.

    Six unpadded convolutions in pairs, max-pooling by 4 after the first and the second pair (the trunk: one
    position sees 310 bp and is 16 bp from the next), then two linear layers on its 106 positions (the
    head).

    Parameters
    ----------
    channels : tuple of six int
        Output channels of each convolution.
    n_hidden, n_outputs : int
        Widths of the head's two layers.

    Attributes
    ----------
    input_bp : int
        Length of a window, 2,000 bp.
    alphabet : str
        Order of the input channels, ``"AGCT"``.
    n_outputs : int
    """

    input_bp = INPUT_BP
    alphabet = "AGCT"

    def __init__(
        self, channels: tuple[int, ...] = CHANNELS, n_hidden: int = 2003, n_outputs: int = 2002
    ) -> None:
        super().__init__()
        if len(channels) != len(CONV_KEYS):
            raise ValueError(f"Beluga has {len(CONV_KEYS)} convolutions, not {len(channels)}")
        self.n_outputs = n_outputs
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(zip((4, *channels), channels, strict=False)):
            if i in (2, 4):
                layers += [nn.Dropout(0.2), nn.MaxPool1d(4)]
            layers += [nn.Conv1d(n_in, n_out, KERNEL), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(channels[-1] * TRUNK_POSITIONS, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_outputs),
        )

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, float (N, n_outputs), of one-hot windows, float (N, 4, 2000)."""
        logits: Tensor = self.head(self.trunk(X))
        return logits

    def published_state_dict(self) -> dict[str, Tensor]:
        """Return the parameters under Beluga's published keys; convolution weights are 4-D there."""
        published = {}
        for key, layer in _layers_by_key(self).items():
            weight, bias = layer.weight.detach(), layer.bias
            published[f"{key}.weight"] = weight.unsqueeze(2) if weight.dim() == 3 else weight
            published[f"{key}.bias"] = bias.detach() if bias is not None else torch.zeros(len(weight))
        return published


def load_beluga(path: str | Path) -> Beluga:
    """Return Beluga with the weights of a file, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    path : str or Path
        A state dict under Beluga's published keys, as `torch.save` wrote it. The widths of the layers are
        read off the file.

    Raises
    ------
    WeightsError
        If the file is missing, is not a state dict, would run code when it is loaded, or has missing, extra
        or mis-shaped keys; all of these are named.
    """
    state = read_state_dict(Path(path))
    problems = _problems_of(state)
    if problems:
        raise WeightsError(f"{path} does not hold Beluga's weights: {'; '.join(problems)}")
    channels = tuple(len(state[f"{key}.weight"]) for key in CONV_KEYS)
    n_hidden, n_outputs = (len(state[f"{key}.weight"]) for key in LINEAR_KEYS)
    with torch.device("meta"):
        model = Beluga(channels, n_hidden, n_outputs)
    for key, layer in _layers_by_key(model).items():
        weight, bias = (state[f"{key}.{part}"].to(torch.float32) for part in ("weight", "bias"))
        layer.weight = nn.Parameter(weight.squeeze(2) if weight.dim() == 4 else weight, requires_grad=False)
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return model.eval()


def random_beluga(seed: int = 0) -> Beluga:
    """Return full-size Beluga with He-normal noise for weights, to time it, or see how rounding acts.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015 (the scale at which signals keep their size).
    """
    generator = torch.Generator().manual_seed(seed)
    model = Beluga().requires_grad_(False)
    for layer in _layers_by_key(model).values():
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.05, generator=generator)
    return model.eval()


def weights_digest(path: str | Path) -> str:
    """Return the SHA-256 of a weights file, in hexadecimal.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise unreadable(Path(path), error) from None


def _layers_by_key(model: Beluga) -> dict[str, nn.Conv1d | nn.Linear]:
    """Return the layers that have parameters, by their published names."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv1d | nn.Linear)]
    return dict(zip(CONV_KEYS + LINEAR_KEYS, layers, strict=True))


def _problems_of(state: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps a state dict from being Beluga's, one phrase for each fault."""
    expected = {f"{key}.{part}" for key in CONV_KEYS + LINEAR_KEYS for part in ("weight", "bias")}
    problems = [f"missing key {key}" for key in sorted(expected - state.keys())]
    problems += [f"extra key {key}" for key in sorted(map(str, state.keys() - expected))]
    faults = {key: fault_of(state[key]) for key in sorted(expected & state.keys())}
    problems += [f"{key} {fault}" for key, fault in faults.items() if fault is not None]
    n_in: int | None = 4
    for key in CONV_KEYS + LINEAR_KEYS:
        n_out = _width(state.get(f"{key}.weight"))
        kernel = (1, KERNEL) if key in CONV_KEYS else ()
        problems += _shape_problem(state, f"{key}.weight", (n_out, n_in, *kernel))
        problems += _shape_problem(state, f"{key}.bias", (n_out,))
        n_in = n_out and n_out * (TRUNK_POSITIONS if key == CONV_KEYS[-1] else 1)
    return problems


def _width(weight: Tensor | None) -> int | None:
    """Return a layer's number of outputs, or None if its weight does not say it."""
    return len(weight) or None if weight is not None and weight.dim() > 0 else None


def _shape_problem(state: Mapping[str, Tensor], key: str, wanted: tuple[int | None, ...]) -> list[str]:
    """Return a phrase if a tensor is there and misses the shape wanted, in which None is any width."""
    shape = tuple(state[key].shape) if key in state else None
    if shape is None or (len(shape) == len(wanted) and all(map(_fits, shape, wanted))):
        return []
    is_weight = len(wanted) > 1
    shown = ["any width" if n is None or (is_weight and i == 0) else str(n) for i, n in enumerate(wanted)]
    return [f"{key} has shape {shape}, expected ({', '.join(shown)}{'' if is_weight else ','})"]


def _fits(n: int, wanted: int | None) -> bool:
    return n > 0 and wanted in (n, None)
