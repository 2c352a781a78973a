from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_models import (
    INPUT_BP,
    TRACKS,
    GOnly,
    ScanModel,
    blocks_scored_by,
    mean_of,
    naive_scores,
    plan_of,
    smooth_model,
)

from tism_scan.engine.devices import default_device, default_precision, device_name
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import PlanError, ScanError
from tism_scan.genome.alphabet import N_CODE, encode, is_acgt, reverse_complement
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "narrow_seed7.npz")
SEQUENCE = encode("ACGTTGCANNNNGATTACAgattacaRCCGGAATTCGCGTATAGGCCTTAACGNACGTACCTGA")


def scoring_of(*, tracks=TRACKS, stride=6, **choices):
    return Scoring(tracks, INPUT_BP, stride, **choices)


def scores_of(model, scoring, codes, *, wanted=None, block_bp=0, **options):
    """Return the scores of one chrom by the window engine."""
    engine = WindowEngine(model, scoring, **options)
    return blocks_scored_by(engine, codes, block_bp=block_bp, wanted=wanted)


def assert_close(scores, expected, tolerance=1e-5):
    """Compare to a part of the largest value; NaN must stand at the same places."""
    assert scores.dtype == np.float32
    largest = np.nanmax(np.abs(expected), initial=0)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance * max(largest, 1e-30))


@pytest.mark.parametrize("stride", [2000, 256])
def test_tism_and_mean_tism_of_beluga_are_those_of_the_original_implementation(narrow_beluga, device, stride):
    # The reference's index is the network's input channel; Beluga's channels are A, G, C, T.
    bases = np.array([0, 2, 1, 3], np.uint8)
    to_acgt = [0, 2, 1, 3]
    lead = (stride - 2000) // 2 % stride  # puts a lattice window exactly on the sequence
    tracks = tuple(Track(str(i), (int(i),), (1.0,)) for i in REFERENCE["tracks"])
    everything = Scoring(tracks, 2000, stride, values="tism")
    for i_sequence, channels in enumerate(REFERENCE["indices"]):
        codes = np.concatenate([np.zeros(lead, np.uint8), bases[channels]])
        gradient = REFERENCE["local"][i_sequence][:, to_acgt]
        of_reference = np.take_along_axis(gradient, bases[channels].astype(int)[None, None], axis=1)
        expected = gradient - of_reference
        core = slice(0, 2000) if stride == 2000 else slice(872, 1128)
        wanted = np.zeros(len(codes), bool)
        wanted[lead + core.start : lead + core.stop] = True
        scores = scores_of(narrow_beluga, everything, codes, wanted=wanted, device=device)[..., lead:]
        assert_close(scores[..., core], expected[..., core])
        assert_close(scores[..., 900:1100], REFERENCE["tism"][i_sequence][:, to_acgt])
        mean = Scoring(tracks, 2000, stride)
        scores = scores_of(narrow_beluga, mean, codes, wanted=wanted, device=device)[..., lead:]
        assert_close(scores[..., 900:1100], REFERENCE["mean_tism"][i_sequence])


def test_last_ten_bases_of_a_beluga_window_have_no_gradient(narrow_beluga):
    codes = np.random.default_rng(1).integers(0, 4, 2000).astype(np.uint8)
    scores = scores_of(narrow_beluga, Scoring(TRACKS, 2000, 2000), codes)
    assert not scores[:, -10:].any()
    assert scores[:, -11].all()


def test_model_that_counts_g_scores_g_alone():
    # Fed in A, C, G, T order, it would count C.
    codes = encode("ACGTGGCCATTACGACCGTA")
    scoring = Scoring((Track("a", (0,), (1.0,)),), 20, 20, values="tism")
    scores = scores_of(ScanModel(GOnly(), input_bp=20), scoring, codes)[0]
    weights = np.arange(1.0, 1 + 3 * 20, 3)
    expected = np.zeros((4, 20))
    expected[:, codes == 2] -= weights[codes == 2]  # any other base in G's place
    expected[2] += weights
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("alphabet", ["ACGT", "AGCT", "TGAC"])
def test_channels_come_back_in_acgt_order_whatever_the_models_own(alphabet):
    model, scoring = smooth_model(alphabet), scoring_of(values="tism", strands="both")
    assert_close(scores_of(model, scoring, SEQUENCE), naive_scores(model, scoring, SEQUENCE))


@pytest.mark.parametrize("values", ["mean", "tism"])
@pytest.mark.parametrize("output_space", ["logit", "probability"])
@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("stride", [2, 10, 24])
def test_scores_are_those_of_a_loop_over_all_windows(
    tiny_model, device, stride, stitch, strands, output_space, values
):
    scoring = scoring_of(
        stride=stride, stitch=stitch, strands=strands, output_space=output_space, values=values
    )
    expected = naive_scores(tiny_model, scoring, SEQUENCE)
    scores = scores_of(tiny_model, scoring, SEQUENCE, device=device)
    assert_close(scores, expected if values == "tism" else mean_of(expected))


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"stitch": "mean", "values": "tism"},
        {"strands": "both", "output_space": "probability"},
        {"stitch": "mean", "strands": "both", "values": "tism", "output_space": "probability"},
    ],
)
@pytest.mark.parametrize("path", [(1, 0.75, 0.5), (0.6,)])
def test_gradients_along_a_path_are_those_of_a_loop_over_its_points(tiny_model, device, path, choices):
    scoring = scoring_of(stride=10, path=path, **choices)
    expected = naive_scores(tiny_model, scoring, SEQUENCE)
    scores = scores_of(tiny_model, scoring, SEQUENCE, device=device)
    assert_close(scores, expected if scoring.values == "tism" else mean_of(expected))
    original = scores_of(tiny_model, replace(scoring, path=(1,)), SEQUENCE, device=device)
    assert np.nanmax(np.abs(scores - original)) > 1e-3 * np.nanmax(np.abs(original))


def test_linear_model_is_the_same_along_every_path(linear_model):
    original = scores_of(linear_model, scoring_of(), SEQUENCE)
    for path in ((1, 0.75, 0.5), (0.1,)):
        assert_close(scores_of(linear_model, scoring_of(path=path), SEQUENCE), original)


@settings(max_examples=40, deadline=None)
@given(
    st.text("ACGTN", min_size=1, max_size=90),
    st.sampled_from([2, 4, 10]),
    st.sampled_from(["center", "mean"]),
    st.integers(1, 5),
    st.data(),
)
def test_wanted_bases_are_scored_alike_whatever_else_is_wanted(sequence, stride, stitch, n_cores, data):
    codes, model = encode(sequence), smooth_model()
    n = len(codes)
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    scoring = scoring_of(stride=stride, stitch=stitch)
    scores = scores_of(model, scoring, codes, wanted=wanted, block_bp=n_cores * stride, batch_size=3)
    expected = mean_of(naive_scores(model, scoring, codes))
    expected[:, ~wanted] = np.nan
    assert_close(scores, expected)


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize(("block_bp", "batch_size"), [(6, 1), (6, 64), (18, 5), (42, 2), (1000, 3)])
def test_block_size_and_batch_size_do_not_change_the_scores(tiny_model, stitch, block_bp, batch_size):
    scoring = scoring_of(stitch=stitch)
    expected = scores_of(tiny_model, scoring, SEQUENCE)
    scores = scores_of(tiny_model, scoring, SEQUENCE, block_bp=block_bp, batch_size=batch_size)
    assert_close(scores, expected, tolerance=1e-6)


@pytest.mark.parametrize("values", ["mean", "tism"])
@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_every_base_has_a_score_but_those_that_are_not_acgt(tiny_model, stitch, values):
    scores = scores_of(tiny_model, scoring_of(stitch=stitch, values=values), SEQUENCE)
    np.testing.assert_array_equal(~np.isnan(scores), np.broadcast_to(is_acgt(SEQUENCE), scores.shape))


@pytest.mark.parametrize("length", [1, 5, 6, 7, 23])
def test_chrom_shorter_than_a_window_is_scored_whole(tiny_model, length):
    codes, scoring = SEQUENCE[:length], scoring_of()
    scores = scores_of(tiny_model, scoring, codes)
    assert_close(scores, mean_of(naive_scores(tiny_model, scoring, codes)))
    assert not np.isnan(scores).any(0)[is_acgt(codes)].any()


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_both_strands_of_a_reversed_chrom_mirror_the_scores(tiny_model, stitch):
    codes = np.resize(SEQUENCE, 60)  # a whole number of cores, so that the lattice mirrors itself
    scoring = scoring_of(strands="both", stitch=stitch, values="tism")
    scores = scores_of(tiny_model, scoring, codes)
    mirrored = scores_of(tiny_model, scoring, reverse_complement(codes))
    assert_close(mirrored[:, ::-1, ::-1], scores, tolerance=1e-6)


def test_forward_scores_of_a_reversed_chrom_do_not_mirror(tiny_model):
    scores, mirrored = (
        scores_of(tiny_model, scoring_of(), codes)
        for codes in (SEQUENCE[:6], reverse_complement(SEQUENCE[:6]))
    )
    assert not np.allclose(mirrored[:, ::-1], scores, rtol=0.01)


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_tism_reduces_to_mean_tism_and_is_0_at_the_reference(tiny_model, stitch):
    tism = scores_of(tiny_model, scoring_of(stitch=stitch, values="tism"), SEQUENCE)
    assert_close(scores_of(tiny_model, scoring_of(stitch=stitch), SEQUENCE), mean_of(tism), tolerance=1e-6)
    known = np.flatnonzero(is_acgt(SEQUENCE))
    assert not tism[:, SEQUENCE[known], known].any()


def test_probability_weighs_each_windows_logit_gradient_by_p_times_1_minus_p(tiny_model):
    codes = encode("GATTACAGATTACAGATTACAGAT")
    tracks = TRACKS[:1]
    scores, logit_scores = (
        scores_of(tiny_model, scoring_of(tracks=tracks, stride=24, output_space=space), codes)
        for space in ("probability", "logit")
    )
    X = torch.zeros(1, 4, 24)
    for position, code in enumerate(codes):
        X[0, "AGCT".index("ACGT"[code]), position] = 1
    p = tiny_model(X)[0, 0].sigmoid().item()
    assert_close(scores, p * (1 - p) * logit_scores)


def test_group_scores_are_the_weighted_sum_of_its_outputs_scores(tiny_model):
    singles = tuple(Track(str(i), (i,), (1.0,)) for i in range(3))
    group = Track("g", (2, 0), (0.25, -2.0))
    scores = scores_of(tiny_model, scoring_of(tracks=(*singles, group)), SEQUENCE)
    assert_close(scores[3], 0.25 * scores[2] - 2 * scores[0], tolerance=1e-6)


def test_single_output_with_a_weight_is_weighted(tiny_model):
    tracks = (Track("a", (1,), (1.0,)), Track("b", (1,), (0.5,)))
    scores = scores_of(tiny_model, scoring_of(tracks=tracks), SEQUENCE)
    assert_close(scores[1], scores[0] / 2, tolerance=1e-6)


def test_mean_tism_of_a_linear_model_is_exact_ism(linear_model):
    codes, track = encode("GATTACAGATTACAGATTACAGAT"), TRACKS[1]
    scores = scores_of(linear_model, scoring_of(tracks=(track,), stride=24), codes)[0]

    def output_of(sequence):
        X = torch.zeros(1, 4, 24)
        X[0, ["AGCT".index("ACGT"[code]) for code in sequence], range(24)] = 1
        return linear_model(X)[0, 2].item()

    for position in range(24):
        changes = []
        for base in set(range(4)) - {int(codes[position])}:
            mutated = codes.copy()
            mutated[position] = base
            changes.append(output_of(mutated) - output_of(codes))
        assert scores[position] == pytest.approx(-np.mean(changes), abs=1e-5)


@pytest.mark.parametrize(
    ("stitch", "wanted", "n_windows"),
    [
        ("center", slice(0, 600), 100),
        ("center", slice(60, 66), 1),
        ("center", slice(60, 67), 2),
        ("center", slice(0, 0), 0),
        ("mean", slice(60, 61), 4),
        ("mean", slice(0, 0), 0),
    ],
)
def test_windows_without_a_wanted_base_are_not_computed(tiny_model, stitch, wanted, n_windows):
    codes, is_wanted = np.zeros(600, np.uint8), np.zeros(600, bool)
    is_wanted[wanted] = True
    scores_of(tiny_model, scoring_of(stitch=stitch), codes, wanted=is_wanted, batch_size=16)
    assert tiny_model.n_windows_seen == n_windows


def test_long_runs_of_n_are_not_computed(tiny_model):
    codes = np.full(6000, N_CODE, np.uint8)
    codes[:6], codes[-6:] = 1, 2
    scores = scores_of(tiny_model, scoring_of(), codes, batch_size=16)
    assert tiny_model.n_windows_seen == 2
    assert np.isfinite(scores[:, [0, 5, -6, -1]]).all()
    assert np.isnan(scores[:, 6:-6]).all()


def test_block_of_n_alone_is_nan_without_a_forward_pass(tiny_model):
    codes = np.full(60, N_CODE, np.uint8)
    scores = scores_of(tiny_model, scoring_of(values="tism"), codes, batch_size=16)
    assert tiny_model.n_windows_seen == 0
    assert scores.shape == (2, 4, 60)
    assert np.isnan(scores).all()


class Hungry(torch.nn.Module):
    """Takes at most some windows at a time, as a device of little memory does."""

    def __init__(self, body, most):
        super().__init__()
        self.body, self.most = body, most

    def forward(self, X):
        if len(X) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. (a fake)")
        return self.body(X)


def test_batches_are_halved_until_they_fit_the_memory(tiny_model, caplog):
    scoring = scoring_of()
    expected = scores_of(tiny_model, scoring, SEQUENCE, batch_size=8)
    hungry = ScanModel(Hungry(tiny_model.body, 3))
    scores = scores_of(hungry, scoring, SEQUENCE, batch_size=8)
    assert_close(scores, expected, tolerance=1e-6)
    assert [record.getMessage() for record in caplog.records] == [
        "the device is out of memory; going on with batches of 4",
        "the device is out of memory; going on with batches of 2",
    ]


def test_window_that_does_not_fit_the_memory_is_an_error(tiny_model):
    hungry = ScanModel(Hungry(tiny_model.body, 0))
    with pytest.raises(ScanError, match=r"one window of 2 tracks does not fit the memory of cpu .*; scan"):
        scores_of(hungry, scoring_of(), SEQUENCE, batch_size=4, device="cpu")


def test_windows_go_through_the_model_in_batches(tiny_model):
    scores_of(tiny_model, scoring_of(), np.zeros(600, np.uint8), batch_size=7)
    assert tiny_model.largest_batch == 7


def test_dropout_does_not_reach_the_scores(tiny_model):
    noisy = ScanModel(torch.nn.Sequential(torch.nn.Dropout(0.5), tiny_model.body)).train()
    assert_close(
        scores_of(noisy, scoring_of(), SEQUENCE), scores_of(tiny_model, scoring_of(), SEQUENCE), 1e-6
    )


def test_codes_that_cannot_be_written_to_are_scored(tiny_model):
    codes = SEQUENCE.copy()
    codes.flags.writeable = False
    plan = plan_of(scoring_of(stride=24), {"chr1": codes[:24]})
    (block,) = plan.blocks("chr1")
    scores = WindowEngine(tiny_model, plan.scoring).score(codes[:24], plan.stretch(block), np.ones(24, bool))
    assert scores.shape == (2, 24)


def test_model_of_another_window_length_is_refused(tiny_model):
    with pytest.raises(ValueError, match="the plan's windows have 30 bp, the model's 24"):
        WindowEngine(tiny_model, Scoring(TRACKS, 30, 6))


def test_output_that_the_model_lacks_is_refused(tiny_model):
    with pytest.raises(ValueError, match="output 3 of 3 is asked for"):
        WindowEngine(tiny_model, scoring_of(tracks=(Track("x", (0, 3), (0.5, 0.5)),)))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_without_a_window_is_refused(tiny_model, batch_size):
    with pytest.raises(ValueError, match="expected at least 1"):
        WindowEngine(tiny_model, scoring_of(), batch_size=batch_size)


def test_device_is_the_gpu_only_where_there_is_one(device):
    assert (default_device() == "cuda") == torch.cuda.is_available()
    assert (device_name(device) == "cpu") == (device == "cpu")


def test_tf32_is_refused_where_there_is_no_gpu(tiny_model):
    with pytest.raises(PlanError, match="'tf32' is a GPU's, and this device is cpu; use --precision"):
        WindowEngine(tiny_model, scoring_of(precision="tf32"), device="cpu")


def test_bf16_rounds_the_scores_of_the_window_engine_and_mixed_does_not(tiny_model):
    exact, mixed, rounded = (
        scores_of(tiny_model, scoring_of(precision=name), SEQUENCE, device="cpu")
        for name in ("fp32", "mixed", "bf16")
    )
    np.testing.assert_array_equal(mixed, exact)
    assert 0 < np.nanmax(np.abs(rounded - exact)) < 0.05 * np.nanmax(np.abs(exact))


def test_the_default_precision_is_float32_on_a_cpu_and_mixed_on_a_gpu():
    assert default_precision("cpu") == "fp32"
    assert default_precision("cuda:1") == "mixed"
