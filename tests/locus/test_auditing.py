"""The audit of TISM against exact ISM."""

import io
import json

import numpy as np
import pytest
from scan_models import INPUT_BP, TRACKS
from scipy import stats

from tism_scan.attribution import ism, tism
from tism_scan.errors import InputError, PlanError, RegionError
from tism_scan.genome.alphabet import is_acgt, one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.locus.auditing import audit, sample_windows
from tism_scan.plan.tiling import Lattice
from tism_scan.plot import plot_concordance
from tism_scan.plot.concordance import MAX_POINTS

LATTICE = Lattice(INPUT_BP, 8)


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as opened:
        yield opened


def test_windows_stand_on_the_lattice_and_have_no_n_in_their_cores(genome):
    windows = sample_windows(genome, LATTICE, 30, seed=4)
    assert len(set(windows)) == 30
    for chrom, start in windows:
        assert (start + LATTICE.flank) % 8 == 0
        assert is_acgt(genome.fetch(chrom, start + LATTICE.flank, start + LATTICE.flank + 8)).all()


def test_every_window_that_fits_can_be_drawn(genome):
    n_fit = sum(
        bool(is_acgt(genome.fetch(chrom, start, start + 8)).all())
        for chrom, length in genome.chroms.items()
        for start in range(0, length - 7, 8)
    )
    assert len(sample_windows(genome, LATTICE, n_fit)) == n_fit
    with pytest.raises(RegionError, match=rf"has {n_fit} whole cores of 8 bp.*ask for --n {n_fit} or fewer"):
        sample_windows(genome, LATTICE, n_fit + 1)


def test_only_cores_that_overlap_the_spans_are_drawn_each_once(genome):
    spans = {"chr1": ((3, 9), (12, 13), (32, 40)), "chr2": ((15, 17), (90, 100))}
    expected = {("chr1", core) for core in (0, 1, 4)} | {("chr2", core) for core in (1, 2, 11)}
    drawn = sample_windows(genome, LATTICE, 6, spans=spans)
    assert {(chrom, (start + LATTICE.flank) // 8) for chrom, start in drawn} == expected
    with pytest.raises(RegionError, match="has 6 whole cores"):
        sample_windows(genome, LATTICE, 7, spans=spans)


def test_a_seed_gives_the_same_windows_and_another_seed_others(genome):
    draws = [sample_windows(genome, LATTICE, 5, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_genome_without_such_windows_is_refused(genome):
    with pytest.raises(
        RegionError,
        match=r"where it may be drawn from, has 0 whole cores.*expected 1; ask for a shorter --core",
    ):
        sample_windows(genome, LATTICE, 1, spans={"short": ((0, 7),)})
    with pytest.raises(InputError, match="0 windows were asked for"):
        sample_windows(genome, LATTICE, 0)


def test_a_linear_model_agrees_perfectly(genome, linear_model):
    result = audit(linear_model, genome, TRACKS, n_windows=6, core_bp=8)
    for each, within in zip(result.agreements, result.window_pearson, strict=True):
        assert each.tism_pearson == pytest.approx(1, abs=1e-5)
        assert within == pytest.approx(1, abs=1e-5)
        assert each.n_substitutions == 6 * 8 * 3
    np.testing.assert_allclose(result.approximate, result.exact, atol=1e-5)


def test_correlations_are_those_of_tism_and_ism_on_the_cores(genome, tiny_model):
    result = audit(tiny_model, genome, TRACKS, n_windows=7, core_bp=8, seed=3, batch_size=5)
    codes = np.stack([genome.fetch(chrom, start, start + INPUT_BP) for chrom, start in result.windows])
    X = one_hot(codes, tiny_model.alphabet)
    core = slice(LATTICE.flank, LATTICE.flank + 8)
    mask = X[..., core] == 0
    for i, track in enumerate(TRACKS):
        a = tism(tiny_model, X, track)[:, 0, :, core][mask]
        b = ism(tiny_model, X, track)[:, 0, :, core][mask]
        assert result.agreements[i].tism_pearson == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-5)
        np.testing.assert_allclose(result.approximate[i], a, atol=1e-6)
        np.testing.assert_allclose(result.exact[i], b, atol=1e-5)
        within = [stats.pearsonr(*pair)[0] for pair in zip(a.reshape(7, -1), b.reshape(7, -1), strict=True)]
        assert result.window_pearson[i] == pytest.approx(np.median(within), abs=1e-5)


def test_times_are_those_of_a_whole_window(genome, tiny_model):
    result = audit(tiny_model, genome, TRACKS, n_windows=2, core_bp=8)
    assert result.theoretical_speed_up == 3 * INPUT_BP
    assert result.speed_up == result.ism_seconds / result.tism_seconds > 0
    assert result.speed_up_all_tracks == result.ism_seconds / result.all_tracks_seconds


def test_what_was_found_is_plain_json_and_nan_is_null(genome, linear_model):
    linear_model.body[1].weight.data.zero_()
    described = json.loads(json.dumps(audit(linear_model, genome, TRACKS, n_windows=2, core_bp=8).to_json()))
    assert described["agreements"][0]["tism_pearson"] is None
    assert described["window_pearson"] == [None, None]
    assert described["agreements"][1]["track"] == "c"
    assert {"speed_up", "theoretical_speed_up", "windows", "seed", "device"} <= set(described)
    assert "exact" not in described


def test_a_core_that_does_not_fit_the_window_is_refused(genome, tiny_model):
    with pytest.raises(PlanError, match="stride 26 does not fit a window of 24 bp"):
        audit(tiny_model, genome, TRACKS, core_bp=26)


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
