import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_models import blocks_scored_by
from torch import nn

from tism_scan.engine import choice, convolution, limits, trunk
from tism_scan.engine.choice import make_engine
from tism_scan.engine.cost import most_windows
from tism_scan.engine.sharing import NotSharedError, why_no_stack
from tism_scan.engine.trunk_engine import SLAB_BP_ON_CPU, TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ScanError
from tism_scan.genome.alphabet import N_CODE, is_acgt
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

RNG = np.random.default_rng(11)
TRACKS = (Track("a", (0,), (1.0,)), Track("b", (3,), (1.0,)), Track("mean", (1, 3), (0.5, 0.5)))
# Lower end, N runs longer and shorter than a window, and an end that cuts a core.
CODES = RNG.integers(0, 4, 5_010).astype(np.uint8)
CODES[900:910] = N_CODE
CODES[2_000:4_300] = N_CODE


class Odd(nn.Module):
    """Other kernels, strides, pools and functions than Beluga's; the head is no linear layer."""

    input_bp = 204
    alphabet = "TGCA"
    n_outputs = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Sequential(
            nn.Conv1d(4, 6, 5, stride=2),
            nn.GELU(),
            nn.AvgPool1d(3),
            nn.Sequential(nn.Conv1d(6, 7, 4, bias=False), nn.Dropout(0.5), nn.ELU()),
            nn.MaxPool1d(2),
            nn.Conv1d(7, 5, 3),
        )
        self.head = nn.Sequential(nn.Conv1d(5, 3, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(4))
        self.head(self.trunk(torch.zeros(1, 4, self.input_bp)))

    def forward(self, X):
        return self.head(self.trunk(X))


def assert_same(fast, slow):
    assert np.array_equal(np.isnan(fast), np.isnan(slow))
    largest = np.nanmax(np.abs(slow))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-5 * largest)


def assert_same_but_for_flips(fast, slow):
    """A ReLU whose input is within rounding of 0 may pass the gradient in one engine and not in the other.

    Which do depends on the CPU. A smooth model has none: see the test of a trunk of another build.
    """
    largest = np.nanmax(np.abs(slow))
    is_flipped = np.abs(fast - slow) > 1e-5 * largest
    assert is_flipped.mean() < 0.01
    np.testing.assert_allclose(fast[is_flipped], slow[is_flipped], rtol=0, atol=5e-2 * largest)
    assert_same(np.where(is_flipped, slow, fast), slow)


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("stride", [16, 64, 256, 1008, 2000])
def test_trunk_engine_equals_window_engine_at_every_base(narrow_beluga, device, stride, stitch):
    codes = CODES[: 2_600 if stride == 16 else None]
    scoring = Scoring(TRACKS, 2000, stride, stitch)
    fast = blocks_scored_by(TrunkEngine(narrow_beluga, scoring, batch_size=7, device=device), codes)
    assert np.array_equal(np.isfinite(fast).all(axis=0), is_acgt(codes))
    assert_same(fast, blocks_scored_by(WindowEngine(narrow_beluga, scoring, device=device), codes))


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize(
    "choices",
    [
        {"strands": "both"},
        {"values": "tism"},
        {"output_space": "probability"},
        {"strands": "both", "values": "tism", "output_space": "probability"},
        {"path": (1, 0.75, 0.5)},
        {"strands": "both", "values": "tism", "path": (0.9, 0.6)},
    ],
)
def test_trunk_engine_equals_window_engine_for_every_kind_of_score(narrow_beluga, stitch, choices):
    scoring = Scoring(TRACKS, 2000, 256, stitch, **choices)
    fast = blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES)
    assert_same_but_for_flips(fast, blocks_scored_by(WindowEngine(narrow_beluga, scoring), CODES))


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize(("values", "path"), [("mean", (1,)), ("tism", (1,)), ("tism", (0.9, 0.6))])
def test_a_trunk_of_another_build_is_shared_just_as_well(stitch, strands, values, path):
    model = Odd()
    for stride in (12, 36, 204):
        scoring = Scoring(TRACKS, 204, stride, stitch, strands, values=values, path=path)
        fast = blocks_scored_by(TrunkEngine(model, scoring, batch_size=9), CODES[:700])
        assert_same(fast, blocks_scored_by(WindowEngine(model, scoring), CODES[:700]))


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("function", [nn.ReLU, nn.ELU])
@pytest.mark.parametrize("pooling", [nn.AvgPool1d, nn.MaxPool1d])
def test_order_of_a_function_and_a_pooling_is_kept_where_it_matters(function, pooling, stitch):
    model = Odd()
    model.trunk[1], model.trunk[2] = function(), pooling(3)
    scoring = Scoring(TRACKS, 204, 36, stitch)
    fast = blocks_scored_by(TrunkEngine(model, scoring), CODES[:700])
    assert_same(fast, blocks_scored_by(WindowEngine(model, scoring), CODES[:700]))


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_scores_do_not_depend_on_blocks_or_slabs(narrow_beluga, stitch):
    scoring = Scoring(TRACKS, 2000, 256, stitch)
    whole = blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES, block_bp=8_192)
    for batch_size, block_bp in ((1, 1024), (3, 256), (64, 2048)):
        engine = TrunkEngine(narrow_beluga, scoring, batch_size=batch_size)
        assert_same(blocks_scored_by(engine, CODES, block_bp=block_bp), whole)


def test_more_tracks_than_are_computed_at_once_are_all_scored(narrow_beluga):
    tracks = tuple(Track(str(i), (i % 20,), (1.0 + i // 20,)) for i in range(37))
    scoring = Scoring(tracks, 2000, 256)
    fast = blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES[:1_500])
    assert_same(fast, blocks_scored_by(WindowEngine(narrow_beluga, scoring), CODES[:1_500]))


@pytest.mark.parametrize("stitch", ["center", "mean"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_unwanted_bases_change_no_other(stitch, data):
    engine = TrunkEngine(Odd(), Scoring(TRACKS[:1], 204, 12, stitch), batch_size=6)
    wanted = np.zeros(700, bool)
    for _ in range(3):
        start = data.draw(st.integers(0, 699))
        wanted[start : start + data.draw(st.integers(1, 50))] = True
    part = blocks_scored_by(engine, CODES[:700], wanted=wanted)
    assert_same(part, np.where(wanted, blocks_scored_by(engine, CODES[:700]), np.nan))


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_a_forward_pass_in_float32_keeps_the_scores_when_the_backward_pass_is_rounded(narrow_beluga, stitch):
    exact, mixed, rounded = (
        blocks_scored_by(
            TrunkEngine(narrow_beluga, Scoring(TRACKS, 2000, 256, stitch, precision=name)), CODES
        )
        for name in ("fp32", "mixed", "bf16")
    )
    is_base = np.isfinite(exact)
    agreement = [np.corrcoef(exact[is_base], scores[is_base])[0, 1] for scores in (mixed, rounded)]
    assert agreement[0] > 0.9999
    assert 0.9 < agreement[1] < agreement[0]
    assert not np.array_equal(mixed, exact, equal_nan=True)


@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_a_trunk_of_another_build_has_the_same_precisions(stitch):
    exact, mixed, rounded = (
        blocks_scored_by(TrunkEngine(Odd(), Scoring(TRACKS, 204, 36, stitch, precision=name)), CODES[:700])
        for name in ("fp32", "mixed", "bf16")
    )
    largest = np.nanmax(np.abs(exact))
    np.testing.assert_allclose(mixed, exact, rtol=0, atol=0.02 * largest)
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.1 * largest)


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("memory_gb", [1e-6, 0.01, 0.05, 1000])
def test_a_memory_budget_sets_the_size_of_slabs_and_changes_no_score(narrow_beluga, memory_gb, stitch):
    scoring = Scoring(TRACKS, 2000, 256, stitch)
    engine = TrunkEngine(narrow_beluga, scoring, memory_gb=memory_gb)
    assert engine.batch_size == {1e-6: 1, 1000: SLAB_BP_ON_CPU // 256}.get(memory_gb, engine.batch_size)
    assert_same(blocks_scored_by(engine, CODES), blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES))


def test_a_larger_budget_gives_larger_slabs(narrow_beluga):
    engines = [
        TrunkEngine(narrow_beluga, Scoring(TRACKS, 2000, 256), memory_gb=gb) for gb in (0.01, 0.02, 0.04, 0.2)
    ]
    sizes = [engine.batch_size for engine in engines]
    assert sizes == sorted(set(sizes))


def test_windows_without_a_wanted_base_are_not_computed(narrow_beluga, monkeypatch):
    engine = TrunkEngine(narrow_beluga, Scoring(TRACKS, 2000, 256))
    seen = []
    monkeypatch.setattr(
        "tism_scan.engine.trunk_engine.forward",
        lambda layers, X, passes: seen.append(X.shape[2]) or trunk.forward(layers, X, passes),
    )
    codes = np.full(100_000, N_CODE, np.uint8)
    codes[50_000:50_100] = 1
    scores = blocks_scored_by(engine, codes)
    assert np.isfinite(scores[0]).sum() == 100
    assert sum(seen) <= 2000 + 256


def test_cone_of_belugas_core_narrows_to_what_it_sees(narrow_beluga):
    layers = trunk.trunk_layers(narrow_beluga.trunk)
    extents = trunk.cone(layers, 2000, 872, 1128)
    assert extents[1] == (865, 1128)
    assert extents[-1] == (36, 71)
    assert trunk.n_positions(layers, 2000)[-1] == 106
    assert trunk.total_stride(layers) == 16


def test_out_of_memory_halves_the_slab_and_goes_on(narrow_beluga, monkeypatch):
    scoring = Scoring(TRACKS, 2000, 256)
    expected = blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES)

    def forward(layers, X, passes):
        if X.shape[2] > 2000 + 3 * 256:
            raise torch.OutOfMemoryError("no memory")
        return trunk.forward(layers, X, passes)

    monkeypatch.setattr("tism_scan.engine.trunk_engine.forward", forward)
    engine = TrunkEngine(narrow_beluga, scoring, batch_size=16)
    assert_same(blocks_scored_by(engine, CODES), expected)
    assert engine.batch_size == 4


def test_a_cpu_out_of_memory_halves_the_slab_too(narrow_beluga, monkeypatch):
    scoring = Scoring(TRACKS, 2000, 256)

    def forward(layers, X, passes):
        if X.shape[2] > 2000:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return trunk.forward(layers, X, passes)

    expected = blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES)
    monkeypatch.setattr("tism_scan.engine.trunk_engine.forward", forward)
    assert_same(blocks_scored_by(TrunkEngine(narrow_beluga, scoring), CODES), expected)


def test_memory_that_does_not_hold_one_window_is_an_error(narrow_beluga, monkeypatch):
    def forward(layers, X, passes):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("tism_scan.engine.trunk_engine.forward", forward)
    with pytest.raises(ScanError, match="one window of 3 tracks does not fit the memory"):
        blocks_scored_by(TrunkEngine(narrow_beluga, Scoring(TRACKS, 2000, 256)), CODES)


def test_fastest_engine_is_chosen_where_it_applies(narrow_beluga):
    assert isinstance(make_engine(narrow_beluga, Scoring(TRACKS, 2000, 256)), TrunkEngine)


def test_stride_that_the_trunk_does_not_allow_falls_back_and_says_so(narrow_beluga, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tism_scan"), "propagate", True)
    choice._warn_once.cache_clear()
    for _ in range(2):
        assert isinstance(make_engine(narrow_beluga, Scoring(TRACKS, 2000, 250)), WindowEngine)
    assert caplog.text.count("stride 250 is no multiple of the trunk's, 16") == 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 4, 3, padding=1),
        nn.Conv1d(4, 4, 3, dilation=2),
        nn.Conv1d(4, 4, 3, groups=2),
        nn.MaxPool1d(3, stride=2),
        nn.MaxPool1d(2, padding=1),
        nn.MaxPool1d(2, dilation=2),
        nn.AvgPool1d(2, ceil_mode=True),
        nn.BatchNorm1d(4),
        nn.Softmax(dim=1),
    ],
)
def test_trunk_with_a_layer_that_windows_do_not_share_is_not_shared(layer):
    assert trunk.trunk_layers(nn.Sequential(nn.Conv1d(4, 4, 1), layer)) is None


def test_model_whose_output_is_more_than_its_head_is_not_shared(narrow_beluga):
    class Sigmoid(type(narrow_beluga)):
        def forward(self, X):
            return super().forward(X).sigmoid()

    narrow_beluga.__class__ = Sigmoid
    scoring = Scoring(TRACKS, 2000, 256)
    for is_tried in (False, True):
        reason = why_no_stack(narrow_beluga, scoring, is_tried=is_tried)
        assert reason == "the model's output is not head(trunk(X))"
    assert isinstance(make_engine(narrow_beluga, scoring, sharing=["stack"]), WindowEngine)


@pytest.mark.parametrize(("factor", "is_shared"), [(1 + 1e-6, True), (1.01, False)])
def test_model_whose_output_differs_from_its_heads_by_a_percent_is_not_shared(factor, is_shared):
    class Scaled(Odd):
        def forward(self, X):
            return super().forward(X) * factor

    assert (why_no_stack(Scaled(), Scoring(TRACKS, 204, 12)) is None) == is_shared


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_model_whose_gradient_is_not_that_of_its_head_is_not_shared(scale):
    class Fixed(Odd):
        def forward(self, X):
            outputs = super().forward(X)
            return torch.cat([outputs[:, :1].detach(), outputs[:, 1:]], dim=1)

    model = Fixed()
    for parameter in (model.head[-1].weight, model.head[-1].bias):
        parameter.data[0] *= scale
    scoring = Scoring(TRACKS, 204, 12)
    reason = "the gradient of the model's output is not that of head(trunk(X))"
    assert why_no_stack(model, scoring) == reason
    assert why_no_stack(model, scoring, is_tried=True) is None  # it has the values of the one that was tried


def test_model_is_tried_once_for_whether_it_can_be_shared(narrow_beluga):
    seen = []
    narrow_beluga.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0].shape))
    assert isinstance(make_engine(narrow_beluga, Scoring(TRACKS, 2000, 256)), TrunkEngine)
    assert seen == [(1, 4, 2000)]


def test_model_that_cannot_be_shared_is_refused_by_the_trunk_engine(tiny_model):
    with pytest.raises(NotSharedError, match="declares no trunk"):
        TrunkEngine(tiny_model, Scoring(TRACKS[:1], 24, 6))


def test_actors_that_share_a_device_take_no_more_than_their_parts_of_its_memory(narrow_beluga, monkeypatch):
    scoring = Scoring(TRACKS, 2000, 256)
    monkeypatch.setattr(limits, "memory_of", lambda device: 40e6)
    whole, half = (make_engine(narrow_beluga, scoring, device="cpu", share=share) for share in (1.0, 0.5))
    assert half.batch_size == TrunkEngine(narrow_beluga, scoring, device="cpu", memory_gb=0.02).batch_size
    assert half.batch_size < whole.batch_size


def test_batch_is_no_larger_than_32_bit_indexing_takes(narrow_beluga, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tism_scan"), "propagate", True)
    scoring, widest = Scoring(TRACKS, 2000, 256), narrow_beluga.trunk[0].out_channels
    engine = TrunkEngine(narrow_beluga, scoring, batch_size=10**8, device="cpu")
    longest = (engine.batch_size - 1) * 256 + 2000
    assert widest * longest < 2**31 <= widest * (longest + 256)
    assert caplog.text.count("batches of 100000000 windows are more than 32-bit indexing takes") == 1


def test_slab_of_full_beluga_may_have_26207_windows():
    trunk_of_full_size = nn.Sequential(
        nn.Conv1d(4, 320, 8), nn.ReLU(), nn.Conv1d(320, 320, 8), nn.MaxPool1d(4)
    )
    assert most_windows(trunk.trunk_layers(trunk_of_full_size), 2000, 256) == 26_207


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("is_odd", [False, True])
def test_channels_that_only_fill_up_change_no_score(narrow_beluga, monkeypatch, stitch, is_odd):
    model, lattice = (Odd(), (204, 12)) if is_odd else (narrow_beluga, (2000, 256))
    scoring = Scoring(TRACKS, *lattice, stitch)
    expected = blocks_scored_by(TrunkEngine(model, scoring, device="cpu"), CODES)
    monkeypatch.setattr(convolution, "BYTES_OF_POSITION", {"cpu": 32})
    engine = TrunkEngine(model, scoring, device="cpu")
    assert [engine.layers[0].weight.shape[1], engine.layers[0].n_channels] == [8, 4]
    assert_same(blocks_scored_by(engine, CODES), expected)


def test_weights_are_in_memory_as_the_inputs_of_a_convolution_are():
    layers = trunk.trunk_layers(nn.Sequential(nn.Conv1d(4, 8, 5), nn.Conv1d(8, 6, 3, stride=2)))
    for layer in layers:
        for weight in (layer.weight, layer.transposed):
            assert weight.is_contiguous(memory_format=torch.channels_last)
