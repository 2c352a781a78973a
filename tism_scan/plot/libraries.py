"""What all pictures share: the libraries that draw them, which are loaded when a picture is made."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan import optional

MARK_COLOR = "#5b5f97"


def required(name: str) -> Any:
    """Return a drawing library.

    Raises
    ------
    InputError
        If it is not installed.
    """
    return optional.required(name, "pictures", "'tism-scan[attribution]'")


def as_array(values: Any) -> NDArray[np.float32]:
    """Return float32 NumPy values of what may be a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)
