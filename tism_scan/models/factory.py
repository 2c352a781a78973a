"""The function of a user's own that a model is named by, and what it makes."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from tism_scan.errors import ModelError, TismScanError
from tism_scan.models.failures import one_line


def factory_of(spec: str, folder: Path, known: Iterable[str]) -> Callable[..., Any]:
    """Return the function that a spec names.

    Parameters
    ----------
    spec : str
        ``"package.module:factory"``.
    folder : Path
        Where modules are found beside those installed.
    known : iterable of str
        The models that are known by name, for messages.

    Raises
    ------
    ModelError
        If there is no such module or function, or the module fails.
    """
    expected = f"expected {', '.join(known)} or package.module:factory"
    name, colon, attribute = spec.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in name.split("."))):
        raise ModelError(f"{spec!r} names no model; {expected}, such as my_model:load; correct --model")
    place = os.path.abspath(folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ModelError(f"module {name!r} of model {spec!r} cannot be imported: {error}") from None
        raise ModelError(
            f"there is no module {error.name!r} for model {spec!r}; {expected}, installed or found from "
            f"{place!r}; run from the folder that holds it, or correct --model"
        ) from None
    except Exception as error:  # a user's module may fail in any way
        raise ModelError(f"module {name!r} of model {spec!r} cannot be imported: {one_line(error)}") from None
    if not hasattr(module, attribute):
        raise ModelError(
            f"module {name!r} has no {attribute!r}; {expected}; correct --model, or add the function to "
            f"{getattr(module, '__file__', None) or name}"
        )
    factory = getattr(module, attribute)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(
            f"{spec!r} is a {type(factory).__name__}, not a function; expected one that takes the path of "
            "the weights and returns the model; wrap it in a function"
        )
    return factory  # type: ignore[no-any-return]


def made_by(factory: Callable[..., Any], spec: str, weights: Path | None) -> nn.Module:
    """Return the module that a factory makes; it is called with the weights' path if there are any.

    Raises
    ------
    ModelError
        If it fails, or returns something else.
    """
    call = f"{spec.partition(':')[2]}({'' if weights is None else repr(str(weights))})"
    try:
        made = factory() if weights is None else factory(weights.absolute())
    except TismScanError:
        raise
    except Exception as error:  # a user's function may fail in any way
        hint = "; it is called with --weights if that is given" if isinstance(error, TypeError) else ""
        raise ModelError(f"model {spec!r}: {call} failed: {one_line(error)}{hint}") from None
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"model {spec!r}: {call} returned a {type(made).__name__}; expected a torch.nn.Module; return "
            "the model itself"
        )
    return made
