"""How a model takes a window: the order of its axes, and control tracks beside it."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from tism_scan.errors import ModelError
from tism_scan.models.outputs import own_names

Layout = Literal["NCL", "NLC"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_CONTROL = re.compile(r"ctl|ctrl|control|bias", re.IGNORECASE)
_MOST_CONTROLS = 4


@dataclass(frozen=True)
class Reading:
    """How a module is called with windows.

    Attributes
    ----------
    layout : {"NCL", "NLC"}
        Whether it takes float (N, 4, L) or (N, L, 4).
    control_shape : tuple of int or None
        Of a second argument, for one window; it is filled with zeros.
    """

    layout: Layout = "NCL"
    control_shape: tuple[int, ...] | None = None

    def __call__(self, module: nn.Module, X: Tensor) -> Any:
        """Return what a module makes of windows, float (N, 4, L)."""
        given = X if self.layout == "NCL" else X.transpose(1, 2)
        if self.control_shape is None:
            return module(given)
        return module(given, X.new_zeros((len(X), *self.control_shape)))

    @property
    def other(self) -> "Reading":
        """The same in the other layout."""
        return Reading("NLC" if self.layout == "NCL" else "NCL", self.control_shape)


class ChannelsLast(nn.Module):
    """A module that takes (N, L, 4), as one that takes (N, 4, L), with its attributes for a scan.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.output_names = own_names(module)
        for name in ("input_bp", "alphabet"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))

    def forward(self, X: Tensor) -> Any:
        """Return the module's outputs for windows, float (N, 4, L)."""
        return self.module(X.transpose(1, 2))


def check_layout(layout: str) -> None:
    """Raise ModelError unless a layout is known.

    Raises
    ------
    ModelError
    """
    if layout not in LAYOUTS:
        raise ModelError(f"layout {layout!r} is not known; expected NCL, which is (N, 4, L), or NLC")


def readings(module: nn.Module, layout: Layout, input_bp: int) -> Iterator[Reading]:
    """Yield how a module may be called, the plainest first: alone, then with control tracks of zeros.

    Their shape is the attribute `control_shape`, or as long as the window, with as many channels as
    `n_control_tracks` says, or else 1 to 4.
    """
    yield Reading(layout)
    if not control_argument(module):
        return
    declared = getattr(module, "control_shape", None)
    if declared is not None:
        yield Reading(layout, tuple(declared))
        return
    n = getattr(module, "n_control_tracks", None)
    for n_channels in [n] if isinstance(n, int) and n > 0 else range(1, _MOST_CONTROLS + 1):
        yield Reading(layout, (n_channels, input_bp) if layout == "NCL" else (input_bp, n_channels))


def control_argument(module: nn.Module) -> str | None:
    """Return the name of a module's second argument, if it may be control tracks, or None.

    One with a default other than None is an option; with None, its name has to say so.
    """
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # TorchScript has none
        return None
    positional = [
        each
        for each in parameters
        if each.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < 2:
        return None
    second = positional[1]
    is_needed = second.default is inspect.Parameter.empty
    is_control = second.default is None and _CONTROL.search(second.name)
    return second.name if is_needed or is_control else None
