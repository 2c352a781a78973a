"""The layers of a Keras model in an HDF5 file (`.h5`), read without TensorFlow."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tism_scan.errors import WeightsError
from tism_scan.optional import required

# What comes of reading a description that is another than Keras writes.
_MISDESCRIBED = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class KerasModel:
    """What a file holds of a Keras model.

    Attributes
    ----------
    layers : dict of dict of Tensor
        Each layer's tensors, by its own name and theirs, such as ``kernel`` and ``bias``; float32, in the
        order of axes that Keras has.
    input_bp : int or None
        Length of the sequence that it takes, if the file says it.
    crops : tuple of (str, int)
        Name of each cropping layer, and places that it drops on either side, if the file says it.
    """

    layers: dict[str, dict[str, Tensor]]
    input_bp: int | None
    crops: tuple[tuple[str, int], ...]


def read_keras_h5(path: str | Path) -> KerasModel:
    """Return the layers of a model that Keras saved, whole or its weights alone.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    WeightsError
        If the file cannot be read or is damaged, or holds no layers.
    InputError
        If h5py is not installed.
    """
    path, h5py = Path(path), required("h5py", "Keras models in .h5 files", "'tism-scan[h5]'")
    try:
        with h5py.File(path, "r") as file:
            layers = _layers_of(path, file, h5py.Dataset)
            config = file.attrs.get("model_config")
    except WeightsError:
        raise
    except Exception as error:  # a damaged file may end in any error at all
        raise WeightsError(f"{path} is damaged, or no HDF5 file: {' '.join(str(error).split())}") from None
    if not layers:
        raise WeightsError(
            f"{path} holds no layers of a Keras model; expected what model.save('x.h5') writes; check "
            "--weights"
        )
    return KerasModel(layers, *_shape_of(config))


def _layers_of(path: Path, file: Any, dataset_type: Any) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    n_left = path.stat().st_size

    def take(name: str, node: Any) -> None:
        nonlocal n_left
        parts = name.split("/")
        if not isinstance(node, dataset_type) or "optimizer_weights" in parts or len(parts) < 2:
            return
        n_left -= node.nbytes
        if n_left < 0 or node.external or node.is_virtual:  # Keras packs nothing, and a trap would
            raise WeightsError(
                f"{path} was refused: its tensors are not in the file, or packed; save it again with Keras"
            )
        if node.dtype.kind == "f":
            layers[parts[-2]][parts[-1].partition(":")[0]] = torch.from_numpy(node[()].astype(np.float32))

    file.visititems(take)
    return dict(layers)


def _shape_of(config: Any) -> tuple[int | None, tuple[tuple[str, int], ...]]:
    """Return the length of the input and the crops, as a model's own description has them."""
    try:
        layers = list(_all_layers(json.loads(config)["config"]["layers"]))
        settings = [(layer["class_name"], layer["config"]) for layer in layers]
        shapes = [
            each.get("batch_input_shape") or each.get("batch_shape")
            for kind, each in settings
            if kind == "InputLayer"
        ]
        lengths = [int(shape[1]) for shape in shapes if len(shape) == 3 and shape[2] == 4]
        crops = tuple(
            (str(each["name"]), int(each["cropping"][0])) for kind, each in settings if kind == "Cropping1D"
        )
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):  # weights alone, or described otherwise
        return None, ()
    return (lengths[0] if lengths else None), crops


def _all_layers(described: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the layers of a model, and of the models in it."""
    for layer in described:
        yield layer
        yield from _all_layers(layer["config"].get("layers", []))
