"""What all pictures share: the libraries that draw them, which are loaded when a picture is made."""

import io
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tism_scan import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTEBOOK_DPI = 120

MARK_COLOR = "#5b5f97"


def required(name: str) -> Any:
    """Return a drawing library.

    Raises
    ------
    InputError
        If it is not installed.
    """
    return optional.required(name, "pictures", "'tism-scan[attribution]'")


def shown_in_notebooks(figure: "Figure") -> "Figure":
    """Return a figure that a notebook shows by itself: one that pyplot does not know is only text there."""
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: "Figure") -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_NOTEBOOK_DPI)
    return picture.getvalue()


def save_picture(figure: "Figure", file: IO[bytes], form: str, dpi: int) -> None:
    """Write a figure as ``"png"``, ``"svg"`` or ``"pdf"``, with words that drawing programs can edit."""
    editable = {"svg.fonttype": "none", "pdf.fonttype": 42}  # text of an SVG, TrueType letters of a PDF
    with required("matplotlib").rc_context(editable):
        figure.savefig(file, format=form, dpi=dpi)


def as_array(values: Any) -> NDArray[np.float32]:
    """Return float32 NumPy values of what may be a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)
