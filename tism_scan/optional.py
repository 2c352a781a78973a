"""Libraries that not everybody installs: loaded when they are needed, or named with what to type."""

import importlib
from typing import Any

from tism_scan.errors import InputError, TismScanError


def required(module: str, purpose: str, install: str, error: type[TismScanError] = InputError) -> Any:
    """Return a module of an optional library.

    Parameters
    ----------
    module : str
        Its full name.
    purpose : str
        What it is needed for, such as ``"pictures"``.
    install : str
        What to type after ``pip install``.
    error : type of TismScanError
        What to raise without it.

    Raises
    ------
    InputError, or another type of error
        If the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise error(
            f"the package {missing.name!r} is not installed; it is needed for {purpose}; run: pip install "
            f"{install}"
        ) from None
