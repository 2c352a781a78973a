"""The audit of TISM against exact ISM."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scan_models import INPUT_BP, TRACKS
from scipy import stats

from tism_scan.attribution import ism, tism
from tism_scan.cli import audit as audit_command
from tism_scan.engine import devices
from tism_scan.errors import PlanError
from tism_scan.genome.alphabet import one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.locus.auditing import audit, best_of
from tism_scan.plan.labels import names_apart
from tism_scan.plan.tiling import Lattice

LATTICE = Lattice(INPUT_BP, 8)


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as opened:
        yield opened


def test_a_linear_model_agrees_perfectly(genome, linear_model):
    (result,) = audit(linear_model, genome, TRACKS, n_windows=6, core_bp=8)
    for each, within in zip(result.agreements, result.window_pearson, strict=True):
        assert each.tism_pearson == pytest.approx(1, abs=1e-5)
        assert within == pytest.approx(1, abs=1e-5)
        assert each.n_substitutions == 6 * 8 * 3
    np.testing.assert_allclose(result.approximate, result.exact, atol=1e-5)


def test_correlations_are_those_of_tism_and_ism_on_the_cores(genome, tiny_model):
    (result,) = audit(tiny_model, genome, TRACKS, n_windows=7, core_bp=8, seed=3, batch_size=5)
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


def test_each_path_is_compared_with_the_same_exact_ism(genome, tiny_model):
    paths = [(1,), (1, 0.75, 0.5), (0.8,)]
    audits = audit(tiny_model, genome, TRACKS, paths=paths, n_windows=5, core_bp=8)
    (alone,) = audit(tiny_model, genome, TRACKS, paths=[(1, 0.75, 0.5)], n_windows=5, core_bp=8)
    assert [each.path for each in audits] == [(1.0,), (1.0, 0.75, 0.5), (0.8,)]
    assert all(np.array_equal(each.exact, alone.exact) for each in audits)
    np.testing.assert_array_equal(audits[1].approximate, alone.approximate)
    assert not np.allclose(audits[0].approximate, audits[2].approximate)
    for each in audits:
        for agreement, a, b in zip(each.agreements, each.approximate, each.exact, strict=True):
            assert agreement.slope == pytest.approx(np.polyfit(a, b, 1)[0], abs=1e-4)
        assert each.pearson == pytest.approx(np.median([one.tism_pearson for one in each.agreements]))
    assert best_of(audits).pearson == pytest.approx(max(each.pearson for each in audits), abs=1e-3)


def test_cheapest_of_paths_that_agree_alike_is_the_best(genome, linear_model):
    audits = audit(linear_model, genome, TRACKS, paths=[(1, 0.5), (0.5,)], n_windows=2, core_bp=8)
    assert best_of(audits).path == (0.5,)
    close, unknown = (
        replace(audits[0], path=path, agreements=[replace(audits[0].agreements[0], tism_pearson=r)])
        for path, r in (((1.0, 0.5), 0.8002), ((0.9,), np.nan))
    )
    cheap = replace(close, path=(1.0,), agreements=[replace(close.agreements[0], tism_pearson=0.8001)])
    assert best_of([unknown, close, cheap]) is cheap  # to three places, they agree alike


def test_track_whose_correlation_is_negative_gets_a_word(genome, linear_model, capsys):
    (result,) = audit(linear_model, genome, TRACKS, n_windows=2, core_bp=8)
    audit_command._report([result])
    assert capsys.readouterr().err == ""
    first, *others = result.agreements
    turned = replace(first, tism_pearson=-0.31)
    audit_command._report([replace(result, agreements=[turned, *others])])
    told = capsys.readouterr().err
    assert told.startswith("Warning: in these windows, TISM does not follow exact ISM for ")
    assert f"{first.track} (r = -0.31)" in told
    assert told.count("\n") == 1


def test_tracks_whose_correlations_are_negative_share_one_line(genome, linear_model, capsys):
    (result,) = audit(linear_model, genome, TRACKS, n_windows=2, core_bp=8)
    turned = [replace(result.agreements[0], track=f"t{i}", tism_pearson=-0.02) for i in range(9)]
    audit_command._warn_of_disagreement(replace(result, agreements=turned))
    told = capsys.readouterr().err
    assert "t0 (r = -0.02), t1 (r = -0.02), t2 (r = -0.02), t3 (r = -0.02), t4 (r = -0.02) and 4 more" in told
    assert told.count("\n") == 1


def test_times_are_those_of_a_whole_window(genome, tiny_model, monkeypatch):
    s_per_pass = 0.25
    clock = SimpleNamespace(perf_counter=lambda: s_per_pass * tiny_model.n_windows_seen)
    monkeypatch.setattr(devices, "time", clock)
    (result,) = audit(tiny_model, genome, TRACKS, n_windows=6, core_bp=8, paths=[(1, 0.5)])
    assert result.tism_seconds == pytest.approx(2 * s_per_pass)
    assert result.all_tracks_seconds >= result.tism_seconds
    assert result.ism_seconds == pytest.approx(3 * INPUT_BP * s_per_pass)
    assert result.speed_up == result.ism_seconds / result.tism_seconds
    assert result.theoretical_speed_up == pytest.approx(2 * result.speed_up)
    assert result.speed_up_all_tracks == result.ism_seconds / result.all_tracks_seconds
    in_core = 1 + 3 * 8  # and a pass of the window as it is
    assert result.ism_here_seconds == pytest.approx(in_core * s_per_pass * INPUT_BP / 8)


def test_what_was_found_is_plain_json_and_nan_is_null(genome, linear_model):
    linear_model.body[1].weight.data.zero_()
    (result,) = audit(linear_model, genome, TRACKS, n_windows=2, core_bp=8)
    described = json.loads(json.dumps(result.to_json()))
    assert described["agreements"][0]["tism_pearson"] is None
    assert described["window_pearson"] == [None, None]
    assert described["agreements"][1]["track"] == "c"
    assert {"speed_up", "theoretical_speed_up", "windows", "seed", "device"} <= set(described)
    assert "exact" not in described


def test_a_core_that_does_not_fit_the_window_is_refused(genome, tiny_model):
    with pytest.raises(PlanError, match="stride 26 does not fit a window of 24 bp"):
        audit(tiny_model, genome, TRACKS, core_bp=26)


def test_tracks_of_equal_names_are_told_apart_by_their_index(genome, linear_model):
    tracks = [replace(track, name="CTCF") for track in TRACKS]
    (result,) = audit(linear_model, genome, tracks, n_windows=2, core_bp=8)
    assert [each.track for each in result.agreements] == names_apart(tracks)
    assert len({each.track for each in result.agreements}) == len(TRACKS)
