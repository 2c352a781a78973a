"""Pictures of attributions: a logo, the heat map of all substitutions beneath, and what is there."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import BASES, channel_of_base
from tism_scan.plot.libraries import MARK_COLOR, as_array, required, shown_in_notebooks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Start, end and label of a gene or motif; 0-based, half-open.
NamedSpan = tuple[int, int, str]

BASE_COLORS = {"A": "#109648", "C": "#255c99", "G": "#f7b32b", "T": "#d62839"}
# Over this many bases letters are too narrow to be told apart, and slow; bars are drawn instead.
MAX_LETTERS = 350
# Up to here a dot marks the reference base in the heat map.
MAX_DOTS = 150
# More columns than this are lost between the pixels of a page.
MAX_COLUMNS = 1500
_SPAN_SHADE = "#f0f0f6"  # opaque: not every viewer of SVG knows opacity
_N_COLOR = "#d9d9d9"


def plot_attribution(
    logo: Any,
    heatmap: Any = None,
    *,
    X: Any = None,
    alphabet: str = BASES,
    titles: Sequence[str] | None = None,
    chrom: str | None = None,
    start: int = 0,
    spans: Sequence[NamedSpan] = (),
    unit: str | Sequence[str] = "score",
    heatmap_unit: str | Sequence[str] | None = None,
    logo_limits: tuple[float, float] | None = None,
    heatmap_limit: float | None = None,
    width_in: float | None = None,
) -> "Figure":
    """Return a figure with one panel for each method or track, on a shared genomic axis.

    Parameters
    ----------
    logo : float, NumPy or torch
        Heights of the letters. With `X`: (L,) or (P, L), one value a base, such as mean TISM; or
        (P, 4, L), of which the reference base is drawn. Without `X`: (4, L) or (P, 4, L), and every letter
        is drawn. NaN is left blank. Over 350 bases, bars in the colours of the bases replace letters.
    heatmap : float (4, L) or (P, 4, L), NumPy or torch, optional
        The value of every base, such as TISM, beneath each logo: red positive, blue negative, grey NaN.
        Over 1,500 bases a column shows the largest of a few neighbours, by absolute value.
    X : (4, L), optional
        The one-hot sequence; up to 150 bases, dots mark it in the heat map.
    alphabet : str
        Order of the channels of `logo`, `heatmap` and `X`: the model's own, or ACGT for what a store holds.
        Rows of the heat map are A, C, G, T from the top.
    titles : sequence of str, optional
        One for each panel.
    chrom, start : str and int
        Where the first base is, 0-based, in bp. The axis counts from 1, as browsers do.
    spans : sequence of (start, end, label)
        Genes or motifs, 0-based half-open in bp; what is outside is left out.
    unit : str, or sequence of str
        What the logo's values are, for its axis; one for all panels, or for each.
    heatmap_unit : str, or sequence of str, optional
        What the heat map's values are, for the colour bar; by default as `unit`.
    logo_limits : (float, float), optional
        Limits of every logo's axis; by default each panel's own extremes, with 0.
    heatmap_limit : float, optional
        The colours reach from minus this to this. By default the 99.5th percentile of each panel's absolute
        values; the ends of the colour bar are pointed where values go beyond.
    width_in : float, optional
        Width in inches; by default it grows with the number of bases, from 3 to 18.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot, so nothing is left to close: ``figure.savefig(path)``, or show it in a notebook.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a span does not end after it starts.
    InputError
        If matplotlib or logomaker is not installed.
    """
    panels = _checked(logo, heatmap, X, alphabet, titles)
    n_bases = panels.letters.shape[2]
    width = width_in or float(np.clip(0.1 * n_bases, min(2.5 + 0.5 * n_bases, 7), 18))
    first = start + 1  # on the axis, where position i is drawn around i, and counted from 1
    lanes = _lanes(spans, first, first + n_bases, width)
    figure, span_axes, logo_axes, heat_axes = _figure_and_axes(panels, len(lanes), width)
    for i, axes in enumerate(logo_axes):
        _draw_logo(axes, panels.letters[i], first, logo_limits)
        axes.set_ylabel(_one_of(unit, i), fontsize=8)
        if titles is not None:
            axes.set_title(titles[i], loc="left", fontsize=9)
        for bar in itertools.chain.from_iterable(lanes):
            axes.axvspan(bar.start - 0.5, bar.end - 0.5, color=_SPAN_SHADE, linewidth=0, zorder=-1)
    for i, axes in enumerate(heat_axes):
        _draw_heatmap(axes, panels, i, first, heatmap_limit, _one_of(heatmap_unit or unit, i))
    if span_axes is not None:
        _draw_spans(span_axes, lanes)
    if n_bases > MAX_LETTERS:
        _add_color_key(logo_axes[0])
    figure.align_ylabels(logo_axes)
    _label_positions([*logo_axes, *heat_axes], chrom, first, n_bases)
    return shown_in_notebooks(figure)


class _Panels(NamedTuple):
    """What is drawn, channels in A, C, G, T order."""

    letters: NDArray[np.float32]  # (P, 4, L)
    heatmap: NDArray[np.float32] | None  # (P, 4, L)
    X: NDArray[np.float32] | None  # (4, L)


def _checked(logo: Any, heatmap: Any, X: Any, alphabet: str, titles: Sequence[str] | None) -> _Panels:
    """Return what to draw, or raise ValueError with every fault of the shapes."""
    order = channel_of_base(alphabet)
    letters = as_array(logo)
    reference = None if X is None else as_array(X)
    if letters.ndim <= 2 and reference is not None:
        letters = np.atleast_2d(letters)[:, None, :] * np.ones((4, 1), dtype=np.float32)
    letters = letters[None] if letters.ndim == 2 else letters
    colors = None if heatmap is None else as_array(heatmap)
    colors = colors[None] if colors is not None and colors.ndim == 2 else colors
    faults = []
    if letters.ndim != 3 or letters.shape[1] != 4 or letters.size == 0:
        faults.append(
            f"the logo has shape {np.shape(logo)}; expected (4, L) or (P, 4, L), or X beside (P, L)"
        )
    if colors is not None and colors.shape != letters.shape:
        faults.append(
            f"the heat map has shape {np.shape(heatmap)}; expected {letters.shape}, as the logo has"
        )
    if reference is not None and reference.shape != (4, letters.shape[-1]):
        faults.append(f"X has shape {reference.shape}; expected {(4, letters.shape[-1])}, such as X[0]")
    if titles is not None and len(titles) != len(letters):
        faults.append(f"{len(titles)} titles were given; expected {len(letters)}, one for each panel")
    if faults:
        raise ValueError(" | ".join(faults))
    if reference is not None:
        letters = np.where(reference > 0, letters, 0)
        reference = reference[order]
    return _Panels(letters[:, order], None if colors is None else colors[:, order], reference)


def _one_of(unit: str | Sequence[str], i_panel: int) -> str:
    """Return the unit of one panel."""
    return unit if isinstance(unit, str) else unit[i_panel]


class _Bar(NamedTuple):
    """A span in view, and where its label goes."""

    start: int
    end: int
    label: str
    label_at: float
    label_anchor: str  # "center" inside the bar, "left" beside its end, "right" before its start
    room: tuple[float, float]  # bar and label


def _lanes(spans: Sequence[NamedSpan], start: int, end: int, width_in: float) -> list[list[_Bar]]:
    """Return the spans in view, cut to it and counted from 1, in as few rows as let none overlap."""
    lanes: list[list[_Bar]] = []
    for span_start, span_end, label in sorted(spans):
        if span_end <= span_start:
            raise ValueError(f"span {label!r}, {span_start:,}-{span_end:,}, does not end after it starts")
        first, last = span_start + 1, span_end + 1
        if last > start and first < end:
            bar = _bar(max(first, start), min(last, end), label, end, (end - start) / width_in)
            lane = next((lane for lane in lanes if lane[-1].room[1] <= bar.room[0]), None)
            if lane is None:
                lanes.append([bar])
            else:
                lane.append(bar)
    return lanes


def _bar(first: int, last: int, label: str, end: int, bp_per_in: float) -> _Bar:
    """Return a span with its label inside if it fits, else on the side where it does."""
    label_bp = (0.075 * len(label) + 0.1) * bp_per_in
    if label_bp <= last - first:
        return _Bar(first, last, label, (first + last - 1) / 2, "center", (first, last))
    gap = 0.05 * bp_per_in
    if last + label_bp <= end:
        return _Bar(first, last, label, last - 0.5 + gap, "left", (first, last + label_bp))
    return _Bar(first, last, label, first - 0.5 - gap, "right", (first - label_bp, last))


def _figure_and_axes(
    panels: _Panels, n_lanes: int, width: float
) -> tuple["Figure", "Axes | None", list["Axes"], list["Axes"]]:
    """Return a figure, and the axes of the spans, the logos and the heat maps, on one x axis."""
    required("matplotlib")
    from matplotlib.figure import Figure

    each = [1.3] if panels.heatmap is None else [1.3, 0.75]
    heights = ([0.24 * n_lanes] if n_lanes else []) + each * len(panels.letters)
    figure = Figure(figsize=(width, sum(heights) + 0.35 * len(panels.letters) + 0.5), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    span_axes = axes.pop(0) if n_lanes else None
    return figure, span_axes, axes[:: len(each)], axes[1::2] if len(each) == 2 else []


def _draw_logo(
    axes: "Axes", letters: NDArray[np.float32], start: int, limits: tuple[float, float] | None
) -> None:
    """Draw letters (4, L), or bars where letters could not be read."""
    heights = np.nan_to_num(letters, nan=0.0)
    n_bases = heights.shape[1]
    positions = np.arange(start, start + n_bases)
    if n_bases <= MAX_LETTERS and heights.any():
        table = required("pandas").DataFrame(heights.T, columns=list(BASES), index=positions)
        required("logomaker").Logo(table, ax=axes, color_scheme=BASE_COLORS, show_spines=False)
    elif heights.any():
        # thinner lines would be blended away
        bar_pt = max(0.7, 72 * axes.figure.bbox.width / axes.figure.dpi / n_bases)
        for base, row in zip(BASES, heights, strict=True):
            drawn = row != 0
            axes.vlines(positions[drawn], 0, row[drawn], color=BASE_COLORS[base], linewidth=bar_pt)
    axes.axhline(0, color="black", linewidth=0.5)
    low = np.minimum(heights, 0).sum(0).min() if n_bases <= MAX_LETTERS else heights.min()
    high = np.maximum(heights, 0).sum(0).max() if n_bases <= MAX_LETTERS else heights.max()
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    margin = 0.06 * (high - low) or 1.0  # nothing but zeros still needs an axis
    axes.set_ylim(limits or (low - margin, high + margin))
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_formatter("{x:g}")
    # the line at 0 is the lower spine
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_linewidth(0.6)


def _draw_heatmap(
    axes: "Axes", panels: _Panels, i_panel: int, start: int, limit: float | None, unit: str
) -> None:
    """Draw one panel's values of every base, colours symmetric about 0."""
    if panels.heatmap is None:
        return
    from matplotlib import colormaps

    values = panels.heatmap[i_panel]
    n_bases = values.shape[1]
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    top = limit or (float(np.quantile(sizes, 0.995, method="higher")) if sizes.size else 1.0)
    extent = (start - 0.5, start + n_bases - 0.5, 3.5, -0.5)
    image = axes.imshow(
        np.ma.masked_invalid(_squeezed(values)),
        cmap=colormaps["RdBu_r"].with_extremes(bad=_N_COLOR),
        vmin=-top,
        vmax=top,
        aspect="auto",
        interpolation="nearest",
        extent=extent,
    )
    if panels.X is not None and n_bases <= MAX_DOTS:
        rows, columns = np.nonzero(panels.X)
        axes.plot(columns + start, rows, "o", color="0.25", markersize=1.8)
    axes.set_yticks(range(4), list(BASES), fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_linewidth(0.6)
    is_over, is_under = bool((values > top).any()), bool((values < -top).any())
    extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get(
        (is_over, is_under), "neither"
    )
    bar = axes.figure.colorbar(
        image, ax=axes, extend=extend, pad=0.01, fraction=0.05, aspect=6, format="{x:g}"
    )
    bar.ax.tick_params(labelsize=6)
    bar.set_label(unit, fontsize=7)


def _squeezed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (4, at most 1,500): of neighbouring columns the value farthest from 0; NaN if all are."""
    n_bases = values.shape[1]
    n_joined = -(-n_bases // MAX_COLUMNS)
    if n_joined == 1:
        return values
    edges = np.linspace(0, n_bases, -(-n_bases // n_joined) + 1).round().astype(int)[:-1]
    high = np.fmax.reduceat(values, edges, axis=1)
    low = np.fmin.reduceat(values, edges, axis=1)
    return np.where(-low > high, low, high)


def _draw_spans(axes: "Axes", lanes: list[list[_Bar]]) -> None:
    """Draw spans as bars in rows, labels inside or beside them."""
    for i_lane, lane in enumerate(lanes):
        for bar in lane:
            axes.barh(i_lane, bar.end - bar.start, left=bar.start - 0.5, height=0.8, color=MARK_COLOR)
            color = "white" if bar.label_anchor == "center" else "black"
            axes.text(
                bar.label_at, i_lane, bar.label, ha=bar.label_anchor, va="center", color=color, fontsize=7
            )
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_axis_off()


def _add_color_key(axes: "Axes") -> None:
    """Name the colours of the bars."""
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=base) for base, color in BASE_COLORS.items()]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=7, frameon=False)


def _label_positions(stack: list["Axes"], chrom: str | None, start: int, n_bases: int) -> None:
    """Put positions, with thousands separators, beneath the lowest axes."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    lowest = max(stack, key=lambda axes: axes.get_subplotspec().rowspan.start)  # type: ignore[union-attr]
    lowest.set_xlim(start - 0.5, start + n_bases - 0.5)
    lowest.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    lowest.xaxis.set_major_formatter(FuncFormatter(lambda position, _: f"{position:,.0f}"))
    lowest.set_xlabel(f"{chrom + ', ' if chrom else ''}position (bp)", fontsize=8)
    for axes in stack:
        axes.tick_params(axis="x", labelsize=7, bottom=axes is lowest, labelbottom=axes is lowest)
