"""Figures of attributions."""

import io
import sys

import numpy as np
import pytest
import torch
from toy_models import linear_model

from tism_scan.attribution import mean_tism, tism
from tism_scan.errors import InputError
from tism_scan.genome.alphabet import channel_of_base, encode, one_hot
from tism_scan.plot import plot_attribution
from tism_scan.plot.attribution import MAX_COLUMNS, MAX_LETTERS

pytest.importorskip("logomaker")


def _example(n_bases: int, n_panels: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean scores (P, L), scores of every base (P, 4, L), and the sequence (4, L)."""
    rng = np.random.default_rng(1)
    X = one_hot(rng.integers(0, 5, n_bases).astype(np.uint8))
    values = rng.normal(size=(n_panels, 4, n_bases)).astype(np.float32)
    values[:, X == 1] = 0
    values[:, :, ~X.any(0)] = np.nan
    return -values.sum(1) / 3, values, X


def _letters(axes) -> int:
    return sum(patch.get_linewidth() >= 0 and hasattr(patch, "get_path") for patch in axes.patches)


def _draw(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


@pytest.mark.parametrize("n_bases", [1, 7, 60, MAX_LETTERS + 1, 2 * MAX_COLUMNS + 7])
def test_any_number_of_bases_can_be_drawn(n_bases):
    scores, values, X = _example(n_bases)
    figure = plot_attribution(scores, values, X=X)
    assert _draw(figure).startswith(b"\x89PNG")
    assert figure.axes[0].get_xlim() == (0.5, n_bases + 0.5)


def test_there_is_one_logo_one_heat_map_and_one_colour_bar_for_each_panel():
    scores, values, X = _example(20, n_panels=3)
    figure = plot_attribution(scores, values, X=X, titles=["TISM", "ISM", "SHAP"])
    assert len(figure.axes) == 3 * 3
    assert [axes.get_title(loc="left") for axes in figure.axes[:6:2]] == ["TISM", "ISM", "SHAP"]
    assert all(axes.get_xlim() == (0.5, 20.5) for axes in figure.axes[:6])


def test_positions_have_thousands_separators_and_are_those_of_browsers():
    scores, values, X = _example(40)
    figure = plot_attribution(scores, values, X=X, chrom="chr1", start=1_234_560)
    _draw(figure)
    labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert "1,234,570" in labels
    assert figure.axes[0].get_xlim() == (1_234_560.5, 1_234_600.5)  # positions 1,234,561 to 1,234,600
    row = figure.axes[1].images[0].get_array()[0]
    left, right, *_ = figure.axes[1].images[0].get_extent()
    assert (right - left, left) == (len(row), 1_234_560.5)
    assert figure.axes[1].get_xlabel() == "chr1, position (bp)"


def test_rows_are_a_c_g_t_whatever_the_models_order():
    model = linear_model()
    codes = encode("ACGT" * 6)
    agct, acgt = one_hot(codes, "AGCT"), one_hot(codes)
    values = tism(model, agct[None], 0)[0]
    figure = plot_attribution(mean_tism(model, agct[None], 0)[0], values, X=agct, alphabet="AGCT")
    expected = values[:, channel_of_base("AGCT")]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), expected[0])
    rows, columns = np.nonzero(acgt)
    dots = figure.axes[1].lines[0]
    assert (set(zip(columns + 1, rows, strict=True))) == set(zip(*dots.get_data(), strict=True))


def test_colours_are_symmetric_about_zero_and_nan_has_its_own():
    scores, values, X = _example(200)
    values[0, 1, 3] = 100
    image = plot_attribution(scores, values, X=X).axes[1].images[0]
    low, high = image.get_clim()
    assert low == -high
    assert high < 100
    assert np.ma.is_masked(image.get_array())


def test_each_panel_can_have_units_of_its_own():
    scores, values, X = _example(20, n_panels=2)
    figure = plot_attribution(scores, values, X=X, unit=["mean a", "mean b"], heatmap_unit=["a", "b"])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert [label for label in labels if label] == ["mean a", "mean b", "a", "b"]


def test_limits_can_be_set():
    scores, values, X = _example(30)
    figure = plot_attribution(scores, values, X=X, logo_limits=(-2, 3), heatmap_limit=0.5, width_in=4)
    assert figure.axes[0].get_ylim() == (-2, 3)
    assert figure.axes[1].images[0].get_clim() == (-0.5, 0.5)
    assert figure.get_figwidth() == 4


def test_only_the_reference_base_is_drawn_where_a_sequence_is_given():
    _, values, X = _example(30)
    n_letters = [_letters(plot_attribution(np.abs(values) + 1, X=x).axes[0]) for x in (X, None)]
    assert n_letters[0] == X.sum()
    assert n_letters[1] == 4 * X.any(0).sum()


def test_many_bases_become_bars_with_a_key():
    scores, values, X = _example(MAX_LETTERS + 1)
    axes = plot_attribution(scores, values, X=X).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list("ACGT")


def test_the_largest_value_stays_visible_among_thousands_of_bases():
    scores, values, X = _example(2 * MAX_COLUMNS)
    values[0, 2, 1001] = -50
    shown = plot_attribution(scores, values, X=X).axes[1].images[0].get_array()
    assert shown.shape == (4, MAX_COLUMNS)
    assert shown[2].min() == -50


def test_spans_in_view_are_drawn_and_overlaps_get_rows_of_their_own():
    scores, values, X = _example(100)
    spans = [(10, 60, "GENE"), (40, 90, "motif"), (500, 600, "elsewhere"), (-5, 3, "start")]
    figure = plot_attribution(scores, values, X=X, spans=spans)
    texts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert set(texts) == {"GENE", "motif", "start"}
    assert texts["GENE"][1] != texts["motif"][1]
    assert {(bar.get_x(), bar.get_x() + bar.get_width()) for bar in figure.axes[0].patches} == {
        (10.5, 60.5),
        (40.5, 90.5),
        (0.5, 3.5),
    }


def test_letters_are_drawn_over_the_shade_of_a_span():
    scores, _, X = _example(20)
    *letters, shade = plot_attribution(scores, X=X, spans=[(5, 9, "motif")]).axes[1].patches
    shaded = shade.get_extents().transformed(shade.axes.transData.inverted())
    assert shaded.intervalx.tolist() == pytest.approx([5.5, 9.5])
    assert shade.get_zorder() < min(letter.get_zorder() for letter in letters)


def test_tensors_and_a_logo_without_heat_map_will_do():
    scores, _, X = _example(12)
    figure = plot_attribution(torch.tensor(scores[0]), X=torch.tensor(X))
    assert len(figure.axes) == 1


def test_nothing_but_zeros_and_nan_can_be_drawn():
    assert _draw(plot_attribution(np.full((4, 9), np.nan), np.zeros((4, 9))))


@pytest.mark.parametrize(
    ("logo", "options", "message"),
    [
        (np.zeros(9), {}, r"logo has shape \(9,\); expected \(4, L\)"),
        (
            np.zeros((4, 9)),
            {"heatmap": np.zeros((4, 8))},
            r"heat map has shape \(4, 8\); expected \(1, 4, 9\)",
        ),
        (np.zeros(9), {"X": np.zeros((1, 4, 9))}, r"X has shape \(1, 4, 9\); expected \(4, 9\)"),
        (np.zeros((4, 9)), {"titles": ["a", "b"]}, "2 titles were given; expected 1"),
        (np.zeros((4, 9)), {"spans": [(5, 2, "motif")]}, "span 'motif', 5-2, does not end after it starts"),
        (np.zeros((4, 9)), {"alphabet": "ACG"}, "permutation of ACGT"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(logo, options, message):
    with pytest.raises(ValueError, match=message):
        plot_attribution(logo, **options)


@pytest.mark.parametrize("library", ["matplotlib", "logomaker"])
def test_without_the_libraries_the_error_says_how_to_install_them(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r"pip install 'tism-scan\[attribution\]'"):
        plot_attribution(np.ones((4, 9)))
