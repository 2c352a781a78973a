"""Pictures of loci, drawn from values that no model made."""

import itertools

import numpy as np
import pytest
from scan_models import TRACKS

from tism_scan.genome.alphabet import encode, is_acgt, one_hot
from tism_scan.locus.output import locus_figure
from tism_scan.locus.scores import LocusScores
from tism_scan.plan.methods import METHODS, ONE_VALUE_METHODS, MethodSettings

pytest.importorskip("logomaker")


def _made_up(method, seed=0):
    """Return scores of two tracks that no model made, shaped as the method's."""
    codes = encode("ACGTNGATT")
    settings = MethodSettings(TRACKS, method)
    values = np.random.default_rng(seed).normal(size=(2, 4, len(codes))).astype(np.float32)
    if method in ("tism", "ism"):
        values[:, one_hot(codes) == 1] = 0
    values[..., ~is_acgt(codes)] = np.nan
    values = values if settings.has_bases else values[:, 0]
    return LocusScores("chr1", 100, codes, settings, values, ())


def test_scores_of_a_locus_say_in_one_line_what_they_are():
    names = ", ".join(track.name for track in TRACKS)
    assert repr(_made_up("ism")) == f"LocusScores(chr1:101-109: ism, 2 tracks ({names}), values (2, 4, 9))"


def _logos(figure):
    """Return the axes of logos by their titles."""
    axes = [axes for axes in figure.axes if axes.get_title(loc="left")]
    return {each.get_title(loc="left"): each for each in axes}


@pytest.mark.parametrize("methods", list(itertools.combinations(METHODS, 2)), ids=" and ".join)
def test_any_two_methods_are_drawn_together(methods):
    figure = locus_figure([_made_up(method) for method in methods], [(102, 106, "motif")])
    assert len(_logos(figure)) == 4
    has_heat_maps = not ONE_VALUE_METHODS.intersection(methods)
    assert sum(bool(axes.images) for axes in figure.axes) == (4 if has_heat_maps else 0)


def test_each_panel_has_the_units_of_its_own_method():
    figure = locus_figure([_made_up("ism"), _made_up("corrected")])
    logos = _logos(figure)
    assert list(logos) == [
        f"{track.name}, {name}" for track in TRACKS for name in ("ISM", "corrected gradient")
    ]
    units = [axes.get_ylabel().partition("\n")[0] for axes in logos.values()]
    assert units == ["mean ISM", "corrected gradient"] * 2
    bars = [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert bars == ["ISM", "corrected gradient"] * 2


@pytest.mark.parametrize("method", METHODS)
def test_a_logo_is_the_same_beside_another_method(method):
    other = "mean-ism" if method == "mean-tism" else "mean-tism"
    alone = list(_logos(locus_figure([_made_up(method)])).values())
    together = list(_logos(locus_figure([_made_up(method), _made_up(other, 1)])).values())[::2]
    assert [axes.get_ylim() for axes in together] == [axes.get_ylim() for axes in alone]


def test_a_logo_of_four_values_shows_that_of_the_reference_base():
    scores = _made_up("corrected")
    heights = scores.values[0][one_hot(scores.codes) == 1]
    low, high = min(heights.min(), 0), max(heights.max(), 0)
    axes = next(iter(_logos(locus_figure([scores])).values()))
    margin = 0.06 * (high - low)
    assert axes.get_ylim() == pytest.approx((low - margin, high + margin), abs=1e-6)
