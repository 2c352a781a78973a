"""What all pictures share: the libraries that draw them, which are loaded when a picture is made."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import InputError

MARK_COLOR = "#5b5f97"


def required(name: str) -> Any:
    """Return a drawing library.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the module {error.name!r} is not installed; expected matplotlib and logomaker, for pictures; "
            "run: pip install 'tism-scan[attribution]'"
        ) from None


def as_array(values: Any) -> NDArray[np.float32]:
    """Return float32 NumPy values of what may be a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)
