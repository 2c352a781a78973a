"""Scores of one locus: the same numbers as a scan's, wherever the region lies."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from scan_models import INPUT_BP, TRACKS, ScanModel, naive_scores
from sequences import random_sequence
from serial_scans import scan_with
from torch import nn
from toy_models import relu_model

from tism_scan.attribution import deep_lift_shap, gradient, ism, mean_tism, tism, transform
from tism_scan.attribution.deeplift import own_shuffles
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ExportError, PlanError, RegionError, ScanError
from tism_scan.genome.alphabet import encode, is_acgt, one_hot, reverse_complement
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import Interval, parse_region
from tism_scan.locus.output import (
    MOST_PANELS,
    check_panels,
    column_names,
    locus_figure,
    write_picture,
    write_scores,
)
from tism_scan.locus.scores import Window, score_region, score_sequence
from tism_scan.plan.methods import METHODS, ONE_VALUE_METHODS, MethodSettings
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.progress import Progress
from tism_scan.store.score_store import ScoreStore

STRIDE = 8
GROUP = Track("both", (0, 2), (0.5, 0.5))


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as opened:
        yield opened


def _settings(method="mean-tism", tracks=TRACKS, **settings):
    return MethodSettings(tracks, method, **{"stride": STRIDE, **settings})


# Any three of the choices in every combination, which half of all the combinations are enough for.
CHOICES = [
    choice
    for i, choice in enumerate(
        itertools.product(["center", "mean"], ["forward", "both"], ["mean", "tism"], ["logit", "probability"])
    )
    if i.bit_count() % 2 == 0
]


@pytest.mark.parametrize(("stitch", "strands", "values", "output_space"), CHOICES)
def test_a_region_has_the_numbers_of_a_scan(
    genome, tiny_model, tmp_path, stitch, strands, values, output_space
):
    method = {"mean": "mean-tism", "tism": "tism"}[values]
    tracks = (*TRACKS, GROUP)
    scoring = Scoring(tracks, INPUT_BP, STRIDE, stitch, strands, output_space, values)
    chroms = {name: length for name, length in genome.chroms.items() if length}
    wanted = {name: ((0, length),) for name, length in chroms.items()}
    plan = ScanPlan(scoring, "g", "w", chroms, wanted, block_bp=128)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    scan_with(genome, WindowEngine(tiny_model, scoring), store)
    settings = _settings(method, tracks, stitch=stitch, strands=strands, output_space=output_space)
    for text in ("chr1:1-379", "chr1:14-131", "chr2:50-51", "short:2-7"):
        region = parse_region(text, genome.chroms)
        scores = score_region(tiny_model, genome, region, settings)
        assert scores.interval == region
        stored = zarr.open_group(store.path, mode="r")[region.chrom][..., region.start : region.end]
        np.testing.assert_allclose(scores.values, stored, atol=1e-6)


def test_a_region_may_begin_anywhere_in_a_core_whatever_the_stride(genome, tiny_model):
    stride = 6  # the flank is no multiple of it
    scoring = Scoring(TRACKS, INPUT_BP, stride, "mean", values="tism")
    expected = naive_scores(tiny_model, scoring, genome.fetch("chr1", 0, 379))
    for start in range(54, 54 + stride):
        region = Interval("chr1", start, start + 3)
        scores = score_region(tiny_model, genome, region, _settings("tism", stitch="mean", stride=stride))
        np.testing.assert_allclose(scores.values, expected[..., start : start + 3], atol=1e-5)


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_gradients_along_a_path_have_the_numbers_of_the_engine(genome, tiny_model, stitch):
    region, path = Interval("chr1", 20, 45), (1, 0.75, 0.5)
    settings = _settings("tism", stitch=stitch, path=path)
    codes, chrom_bp = genome.fetch("chr1", 0, 379), genome.chroms["chr1"]
    assert len(codes) == chrom_bp
    scoring = Scoring(TRACKS, INPUT_BP, STRIDE, stitch, values="tism", path=path)
    expected = naive_scores(tiny_model, scoring, codes)[..., 20:45]
    scores = score_region(tiny_model, genome, region, settings)
    np.testing.assert_allclose(scores.values, expected, atol=1e-5)
    if stitch == "center":  # the identities of TISM hold for the mean gradient
        corrected = score_region(tiny_model, genome, region, _settings("corrected", path=path)).values
        bases = one_hot(codes[20:45])
        at_reference = (corrected * bases).sum(1, keepdims=True)
        np.testing.assert_allclose(corrected - at_reference, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["ism", "mean-ism", "deepliftshap"])
def test_methods_without_a_gradient_have_no_path(method):
    with pytest.raises(PlanError, match=f"with method '{method}', which is not made of gradients"):
        _settings(method, path=(1, 0.5))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_each_base_from_the_window_whose_core_holds_it(genome, tiny_model, method):
    region = Interval("chr1", 20, 45)
    scores = score_region(tiny_model, genome, region, _settings(method))
    assert scores.values.shape == ((2, 25) if method in ONE_VALUE_METHODS else (2, 4, 25))
    flank = (INPUT_BP - STRIDE) // 2
    for position in (20, 23, 24, 31, 44):
        start = position // STRIDE * STRIDE - flank
        alone = _by_hand(tiny_model, genome.fetch("chr1", start, start + INPUT_BP), method)
        here = scores.values[..., position - region.start]
        np.testing.assert_allclose(here, alone[..., position - start], atol=1e-5)


def _by_hand(model, codes, method):
    """Return a window's values, in A, C, G, T order, from the attribution library alone."""
    X, tracks = one_hot(codes, model.alphabet)[None], list(TRACKS)
    order = [model.alphabet.index(base) for base in "ACGT"]
    match method:
        case "tism":
            return tism(model, X, tracks)[0][:, order]
        case "mean-tism":
            return mean_tism(model, X, tracks)[0]
        case "ism":
            return ism(model, X, tracks)[0][:, order]
        case "mean-ism":
            return ism(model, X, tracks, output="mean_effect")[0]
        case "deepliftshap":
            shuffles = own_shuffles(torch.from_numpy(X), seed=0)
            return deep_lift_shap(model, X, tracks, references=shuffles)[0][:, order]
        case "gradxinput":
            return (gradient(model, X, tracks) * X)[0].sum(1)
    kind = "local" if method == "gradient" else method
    return transform(gradient(model, X, tracks), X, kind)[0][:, order]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_a_base_is_nan_and_all_else_is_not(genome, tiny_model, method):
    # DeepLIFT/SHAP shuffles each window, for which the few bases at the edge of the run of N do not suffice
    start = 120 if method != "deepliftshap" else 160
    region = Interval("chr1", start, 300) if method != "deepliftshap" else Interval("chr1", 160, 375)
    scores = score_region(tiny_model, genome, region, _settings(method))
    known = is_acgt(genome.fetch("chr1", start, region.end))
    assert 0 < known.sum() < len(known)
    assert np.array_equal(np.isfinite(scores.values), np.broadcast_to(known, scores.values.shape))


def test_tism_is_ism_on_a_linear_model(genome, linear_model):
    region = Interval("chr1", 3, 120)
    for approximate, exact in (("tism", "ism"), ("mean-tism", "mean-ism")):
        values = [
            score_region(linear_model, genome, region, _settings(m)).values for m in (approximate, exact)
        ]
        np.testing.assert_allclose(values[0], values[1], atol=1e-5)


def test_ism_is_brute_force_on_a_relu_model(genome):
    model = ScanModel(relu_model(), alphabet="AGCT", n_outputs=5)
    scores = score_region(model, genome, Interval("chr1", 30, 54), _settings("ism"), center=True)
    codes = genome.fetch("chr1", 30, 54)
    with torch.no_grad():
        before = model(torch.from_numpy(one_hot(codes[None], "AGCT")))[0, [0, 2]]
        for base, i in np.ndindex(4, INPUT_BP):
            mutant = codes.copy()
            mutant[i] = base
            after = model(torch.from_numpy(one_hot(mutant[None], "AGCT")))[0, [0, 2]]
            np.testing.assert_allclose(scores.values[:, base, i], after - before, atol=1e-5)


@pytest.mark.parametrize("method", ["tism", "ism", "gradient", "gradxinput", "hypothetical"])
def test_both_strands_give_mirrored_scores_on_the_reverse_complement(tiny_model, method):
    codes = encode(random_sequence(19, 9))
    settings = _settings(method, strands="both", background=(0.3, 0.2, 0.2, 0.3))
    # 24 - 19 is odd, so one N more stands on one side; make it even
    one, other = (
        score_sequence(tiny_model, "s", each, settings).values
        for each in (codes[:18], reverse_complement(codes[:18]))
    )
    mirrored = other[..., ::-1] if other.ndim == 2 else other[:, ::-1, ::-1]
    np.testing.assert_allclose(one, mirrored, atol=1e-5)


def test_background_is_that_of_the_forward_strand_on_both(tiny_model):
    codes, background = encode(random_sequence(18, 9)), (0.1, 0.2, 0.3, 0.4)
    effects, found = (
        score_sequence(
            tiny_model, "s", codes, _settings(method, strands="both", background=background)
        ).values
        for method in ("tism", "hypothetical")
    )
    mean_effect = np.einsum("tbl,b->tl", effects, background)
    np.testing.assert_allclose(found, effects - mean_effect[:, None], atol=1e-6)


def test_n_windows_and_t_tracks_together_are_n_times_t_single_ones(genome, tiny_model):
    region, together = Interval("chr1", 0, 64), {}
    for method in ("gradient", "corrected"):
        together[method] = score_region(tiny_model, genome, region, _settings(method)).values
        for i_core in range(8):
            part = Interval("chr1", i_core * STRIDE, (i_core + 1) * STRIDE)
            for i_track, track in enumerate(TRACKS):
                alone = score_region(tiny_model, genome, part, _settings(method, (track,)), batch_size=1)
                np.testing.assert_allclose(
                    together[method][i_track][:, part.start : part.end], alone.values[0], atol=1e-6
                )


def test_center_puts_the_region_in_the_middle_of_one_window(genome, tiny_model):
    scores = score_region(tiny_model, genome, Interval("chr1", 40, 50), _settings(), center=True)
    assert scores.windows == (Window(33, 40, 50),)
    X = one_hot(genome.fetch("chr1", 33, 57), tiny_model.alphabet)[None]
    expected = mean_tism(tiny_model, X, list(TRACKS))[0, :, 7:17]
    np.testing.assert_allclose(scores.values, expected, atol=1e-6)


def test_center_pads_with_n_past_the_chroms_ends(genome, tiny_model):
    scores = score_region(tiny_model, genome, Interval("short", 0, 7), _settings("tism"), center=True)
    assert scores.windows == (Window(-9, 0, 7),)
    sequence = score_sequence(tiny_model, "short", encode("GATTACA"), _settings("tism"))
    assert np.array_equal(scores.values, sequence.values)


def test_a_long_sequence_is_tiled_as_a_chrom(genome, tiny_model):
    codes = genome.fetch("chr2", 0, 100)
    for settings in (_settings(), _settings(stitch="mean"), _settings("gradient")):
        region = score_region(tiny_model, genome, Interval("chr2", 0, 100), settings)
        sequence = score_sequence(tiny_model, "chr2", codes, settings)
        np.testing.assert_array_equal(sequence.values, region.values)
        assert sequence.windows == region.windows


def test_progress_counts_every_base_once(genome, tiny_model):
    seen = []
    for method in ("tism", "ism"):
        region = Interval("chr1", 5, 130)
        score_region(tiny_model, genome, region, _settings(method), on_progress=seen.append)
    assert seen.count(Progress(125, 125, "bases")) == 2
    assert max(progress.n_done for progress in seen) == 125


def test_deeplift_does_not_depend_on_the_batch(genome, tiny_model):
    region, settings = Interval("chr1", 0, 24), _settings("deepliftshap")
    each = [score_region(tiny_model, genome, region, settings, batch_size=n).values for n in (1, 64)]
    np.testing.assert_allclose(*each, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "shap"}, "method 'shap' is not known; expected one of tism, mean-tism"),
        ({"method": "ism", "stitch": "mean"}, "stitch 'mean' was asked for with method 'ism'"),
        ({"background": (1, 1, 0, 0)}, r"background \(1, 1, 0, 0\) does not fit"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(PlanError, match=message):
        _settings(**settings)


def test_regions_that_do_not_fit_are_refused(genome, tiny_model):
    with pytest.raises(RegionError, match=r"chr1:1-25 has 25 bp; expected at most the window's 24"):
        score_region(tiny_model, genome, Interval("chr1", 0, 25), _settings(), center=True)
    with pytest.raises(RegionError, match="'s' is empty there"):
        score_sequence(tiny_model, "s", encode(""), _settings())
    with pytest.raises(PlanError, match="stride 7 does not fit a window of 24 bp"):
        score_region(tiny_model, genome, Interval("chr1", 0, 5), _settings(stride=7))


def test_a_window_that_cannot_be_shuffled_is_an_error_that_names_it(tiny_model):
    with pytest.raises(RegionError, match=r"window around s:1 cannot be shuffled.*choose another --method"):
        score_sequence(tiny_model, "s", encode("A" * INPUT_BP), _settings("deepliftshap"))


def test_nan_from_the_model_is_an_error_that_names_the_base(genome):
    class Broken(nn.Module):
        def forward(self, X):
            return X.sum((1, 2)).mul(torch.nan)[:, None].expand(-1, 3)

    with pytest.raises(ScanError, match="NaN or infinity at chr1:11; expected finite numbers; check"):
        score_region(ScanModel(Broken()), genome, Interval("chr1", 10, 20), _settings("gradient"))


@pytest.fixture
def loci(genome, tiny_model):
    return [
        score_region(tiny_model, genome, Interval("chr1", 20, 45), _settings("tism")),
        score_region(tiny_model, genome, Interval("chr2", 0, 9), _settings("tism")),
    ]


def test_npz_holds_all_loci_side_by_side(loci, tmp_path):
    write_scores(tmp_path / "s.npz", loci)
    with np.load(tmp_path / "s.npz") as file:
        assert file["scores"].shape == (2, 4, 34)
        for i, scores in enumerate(loci):
            here = slice(*file["offset"][i : i + 2])
            np.testing.assert_array_equal(file["scores"][..., here], scores.values)
            np.testing.assert_array_equal(file["codes"][here], scores.codes)
            assert (file["chrom"][i], file["start"][i], file["end"][i]) == (
                scores.chrom,
                scores.start,
                scores.interval.end,
            )
        assert (file["method"], file["stride"]) == ("tism", STRIDE)
        assert list(file["track"]) == ["a", "c"]
        assert file["window_start"][0] == 16 - 8


def test_tsv_reads_back_as_the_same_numbers(loci, tmp_path):
    write_scores(tmp_path / "s.tsv", loci)
    header, *lines = [line.split("\t") for line in (tmp_path / "s.tsv").read_text().splitlines()]
    assert header == ["chrom", "pos", "ref", *(f"{name}:{base}" for name in "ac" for base in "ACGT")]
    assert [line[:2] for line in lines[24:26]] == [["chr1", "45"], ["chr2", "1"]]
    assert "".join(line[2] for line in lines[25:]) == "NNN" + "".join(line[2] for line in lines[28:])
    values = np.array([line[3:] for line in lines], dtype=np.float32).T.reshape(2, 4, -1)
    np.testing.assert_array_equal(values, np.concatenate([scores.values for scores in loci], axis=-1))
    assert lines[25][3] == "NaN"


def test_columns_of_tracks_that_share_a_name_are_told_apart():
    tracks = [Track("x\ty", (0,), (1.0,)), Track("x y", (1,), (1.0,)), GROUP]
    assert column_names(tracks) == ("0 x y", "1 x y", "both")


def test_a_file_that_cannot_be_written_is_said_before_and_nothing_is_left(loci, tmp_path):
    with pytest.raises(ExportError, match=r"has the suffix '.csv'; expected .npz, .tsv; rename it"):
        write_scores(tmp_path / "s.csv", loci)
    with pytest.raises(ExportError, match="gone'; expected a folder that is there; make it, or"):
        write_scores(tmp_path / "gone" / "s.tsv", loci)
    (tmp_path / "s.npz").mkdir()
    with pytest.raises(ExportError, match="it is a folder; expected the name of a file"):
        write_scores(tmp_path / "s.npz", loci)
    with pytest.raises(ExportError, match=r"test_locus.py' is a file; expected a folder; choose another"):
        write_scores(Path(__file__) / "s.npz", loci)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_are_of_the_kind_that_their_name_says(loci, tmp_path, suffix):
    path = tmp_path / f"locus.{suffix}"
    write_picture(path, locus_figure(loci[:1]))
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])
    assert path.stat().st_size > 5_000


def test_a_picture_of_too_many_tracks_is_refused():
    check_panels(MOST_PANELS)
    with pytest.raises(ExportError, match=r"2,002 panels was asked for; expected at most 24; .*--group"):
        check_panels(2002)
