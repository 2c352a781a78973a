"""Figures of how TISM and exact ISM agree."""

import io

import numpy as np
import pytest

from tism_scan.plot import plot_concordance
from tism_scan.plot.concordance import MAX_POINTS


def test_a_scatter_has_a_panel_for_each_track_and_its_titles():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(5, MAX_POINTS + 7)).astype(np.float32)
    approximate = exact + rng.normal(size=exact.shape)
    approximate[:, 0] = np.nan
    figure = plot_concordance(approximate, exact, titles=list("abcde"), unit="logit")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == list("abcde")
    drawn = panels[0].lines[0]
    assert len(drawn.get_xdata()) <= MAX_POINTS
    np.testing.assert_array_equal(drawn.get_xdata()[:2], exact[0, [1, 3]])
    np.testing.assert_allclose(drawn.get_ydata()[:2], approximate[0, [1, 3]], rtol=1e-6)
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("exact ISM: logit", "TISM: logit")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert file.tell() > 5_000


def test_a_scatter_of_shapes_that_do_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"TISM has shape \(1, 3\), ISM \(1, 4\), with 1 titles"):
        plot_concordance(np.zeros((1, 3)), np.zeros((1, 4)), titles=["a"])
