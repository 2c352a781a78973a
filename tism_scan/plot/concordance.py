"""Pictures of how TISM and exact ISM agree."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tism_scan.plot.libraries import MARK_COLOR, as_array, required, shown_in_notebooks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 20_000


def plot_concordance(
    approximate: Any,
    exact: Any,
    *,
    titles: Sequence[str],
    unit: str = "effect of a substitution",
) -> "Figure":
    """Return a figure that sets TISM against exact ISM, a panel for each track.

    Parameters
    ----------
    approximate, exact : float (P, n), NumPy or torch
        TISM and ISM of the same substitutions, or their means over positions. Pairs with a NaN are left out;
        of more than 20,000 pairs in a panel, evenly spread ones are drawn. On the line both are equal.
    titles : sequence of str
        One for each panel, such as the track and its correlation.
    unit : str
        What the values are, for the axes.

    Raises
    ------
    ValueError
        If the shapes differ or are not (P, n), or there are not as many titles as panels.
    InputError
        If matplotlib is not installed.
    """
    x, y = as_array(exact), as_array(approximate)
    if x.ndim != 2 or x.shape != y.shape or len(titles) != len(x) or not len(x):
        raise ValueError(
            f"TISM has shape {y.shape}, ISM {x.shape}, with {len(titles)} titles; expected (P, n) twice, and "
            "P titles"
        )
    required("matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    n_columns = min(len(x), 4)
    n_rows = -(-len(x) // n_columns)
    figure = Figure(figsize=(3.2 * n_columns + 0.4, 3.2 * n_rows + 0.3), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, title, xs, ys in zip(grid, titles, x, y, strict=False):
        both = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
        drawn = both[:: -(-len(both) // MAX_POINTS) or 1]
        axes.plot(xs[drawn], ys[drawn], ".", markersize=2, alpha=0.3, color=MARK_COLOR, rasterized=True)
        axes.axline((0, 0), slope=1, color="black", linewidth=0.6, label="TISM = ISM")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(title, loc="left", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(x) :]:
        axes.set_visible(False)
    grid[0].legend(loc="upper left", fontsize=7, frameon=False)
    figure.supxlabel(f"exact ISM: {unit}", fontsize=9)
    figure.supylabel(f"TISM: {unit}", fontsize=9)
    return shown_in_notebooks(figure)
