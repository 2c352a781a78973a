"""Any trunk that windows can share: the scores of the window engine, from one backward pass a slab."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_models import blocks_scored_by
from torch import nn

from tism_scan.engine import choice, shared_engine, sharing
from tism_scan.engine.choice import make_engine, sharing_of
from tism_scan.engine.cost import saved_bytes
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.sharing import NotSharedError, n_backward_passes, shared_step
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ModelError, ScanError
from tism_scan.genome.alphabet import N_CODE, is_acgt
from tism_scan.models import Cropped
from tism_scan.models.ensemble import Ensemble
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

RNG = np.random.default_rng(11)
TRACKS = (Track("a", (0,), (1.0,)), Track("c", (2,), (1.0,)), Track("mean", (1, 2), (0.5, 0.5)))
CODES = RNG.integers(0, 4, 1_010).astype(np.uint8)
CODES[300:305] = N_CODE
CODES[420:700] = N_CODE
INPUT_BP = 120


class Residual(nn.Module):
    """A dilated convolution with a gate, added to its input."""

    def __init__(self, n_channels, dilation, *, is_padded):
        super().__init__()
        self.crop = 0 if is_padded else dilation
        padding = dilation if is_padded else 0
        self.norm = nn.BatchNorm1d(n_channels)
        self.both = nn.Conv1d(n_channels, 2 * n_channels, 3, dilation=dilation, padding=padding, groups=2)

    def forward(self, X):
        value, gate = self.both(self.norm(X)).chunk(2, dim=1)
        return X[:, :, self.crop : X.shape[2] - self.crop] + value.tanh() * gate.sigmoid()


class Heads(nn.Module):
    """Two heads, returned one beside the other: counts, and a profile."""

    def __init__(self, n_channels):
        super().__init__()
        self.counts, self.profile = nn.Linear(n_channels, 1), nn.Conv1d(n_channels, 2, 5)

    def forward(self, features):
        profile = self.profile(features)
        weights = profile.detach().softmax(2)
        return self.counts(features.mean(2)), (weights * profile).sum(2)


class Deep(nn.Module):
    """Residual, dilated, gated, normalised, grouped; three outputs in two heads."""

    input_bp = INPUT_BP
    alphabet = "TGCA"
    n_outputs = 3

    def __init__(self, *, is_padded=False, crop=(15, 15), pool=1):
        super().__init__()
        torch.manual_seed(3)
        layers = [
            nn.Conv1d(4, 6, 3, padding=int(is_padded)),
            *([nn.AvgPool1d(pool)] if pool > 1 else []),
            *(Residual(6, 2**i, is_padded=is_padded) for i in range(1, 4)),
        ]
        for each in layers:
            if isinstance(each, Residual):
                each.norm.running_mean.normal_()
                each.norm.running_var.uniform_(0.5, 2)
        self.trunk = Cropped(nn.Sequential(*layers), *crop) if is_padded else nn.Sequential(*layers)
        self.head = Heads(6)
        self.eval()

    def forward(self, X):
        counts, profile = self.head(self.trunk(X))
        return torch.cat([counts, profile], 1)


MODELS = {
    "unpadded": Deep,
    "padded": lambda: Deep(is_padded=True),
    "pooled": lambda: Deep(pool=2),
}


@pytest.fixture(params=MODELS)
def deep(request):
    return MODELS[request.param]()


def assert_same(fast, slow):
    assert np.array_equal(np.isnan(fast), np.isnan(slow))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-6 * np.nanmax(np.abs(slow), initial=0))


@pytest.mark.parametrize("stride", [4, 20, 120])
def test_shared_engine_equals_window_engine_at_every_base(deep, device, stride):
    scoring = Scoring(TRACKS, INPUT_BP, stride, "mean")
    fast = blocks_scored_by(SharedEngine(deep, scoring, batch_size=7, device=device), CODES)
    assert np.array_equal(np.isfinite(fast).all(axis=0), is_acgt(CODES))
    assert_same(fast, blocks_scored_by(WindowEngine(deep, scoring, device=device), CODES))


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
def test_shared_engine_equals_window_engine_for_every_kind_of_score(deep, choices):
    scoring = Scoring(TRACKS, INPUT_BP, 20, "mean", **choices)
    fast = blocks_scored_by(SharedEngine(deep, scoring), CODES)
    assert_same(fast, blocks_scored_by(WindowEngine(deep, scoring), CODES))


def test_scores_do_not_depend_on_blocks_slabs_heads_or_tracks_at_once(monkeypatch):
    model, scoring = Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean")
    whole = blocks_scored_by(SharedEngine(model, scoring), CODES)
    monkeypatch.setattr(shared_engine, "HEADS_AT_ONCE", 3)
    monkeypatch.setattr(shared_engine, "TRACKS_AT_ONCE", 2)
    for batch_size, block_bp in ((1, 100), (5, 20), (64, 400)):
        engine = SharedEngine(model, scoring, batch_size=batch_size)
        assert_same(blocks_scored_by(engine, CODES, block_bp=block_bp), whole)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_unwanted_bases_change_no_other(data):
    engine = SharedEngine(Deep(), Scoring(TRACKS[:1], INPUT_BP, 20, "mean"), batch_size=6)
    wanted = np.zeros(len(CODES), bool)
    for _ in range(3):
        start = data.draw(st.integers(0, len(CODES) - 1))
        wanted[start : start + data.draw(st.integers(1, 50))] = True
    part = blocks_scored_by(engine, CODES, wanted=wanted)
    assert_same(part, np.where(wanted, blocks_scored_by(engine, CODES), np.nan))


@pytest.mark.parametrize("stride", [20, 60])
@pytest.mark.parametrize(
    "choices", [{}, {"strands": "both", "values": "tism"}, {"output_space": "probability"}], ids=str
)
def test_center_takes_each_base_from_its_own_window(deep, stride, choices, device):
    scoring = Scoring(TRACKS, INPUT_BP, stride, "center", **choices)
    engine = SharedEngine(deep, scoring, batch_size=7, device=device)
    is_wanted = RNG.random(len(CODES)) < 0.02  # so that windows are missing between others
    for wanted in (None, is_wanted):
        slow = blocks_scored_by(WindowEngine(deep, scoring, device=device), CODES, wanted=wanted)
        assert_same(blocks_scored_by(engine, CODES, wanted=wanted), slow)


@pytest.mark.parametrize(("input_bp", "stride", "n_passes"), [(120, 20, 4), (120, 4, 16), (121, 61, 2)])
def test_windows_of_a_pass_hold_no_base_of_each_others_cores(input_bp, stride, n_passes):
    scoring = Scoring(TRACKS, input_bp, stride)
    assert n_backward_passes(scoring) == n_passes
    core, apart = scoring.reach, n_passes * stride
    assert apart >= core.stop
    assert input_bp - apart <= core.start
    assert n_backward_passes(Scoring(TRACKS, input_bp, stride, "mean")) == 1


def test_shared_engine_is_chosen_where_the_trunk_is_no_stack_and_it_is_cheaper(deep):
    assert isinstance(make_engine(deep, Scoring(TRACKS, INPUT_BP, 20, "mean")), SharedEngine)
    assert isinstance(make_engine(deep, Scoring(TRACKS, INPUT_BP, 20)), SharedEngine)
    assert isinstance(make_engine(deep, Scoring(TRACKS, INPUT_BP, 120)), WindowEngine)


def counted_trials(monkeypatch):
    """Return a list that grows with each trial in float64."""
    trials, real = [], sharing._tried_step
    monkeypatch.setattr(sharing, "_tried_step", lambda *given: trials.append(1) or real(*given))
    return trials


def test_trial_is_left_out_where_another_process_has_made_it(monkeypatch):
    trials, scoring = counted_trials(monkeypatch), Scoring(TRACKS, INPUT_BP, 20, "mean")
    assert (sharing_of(Deep(), scoring), len(trials)) == (("trunk",), 1)
    assert isinstance(make_engine(Deep(), scoring, sharing=["trunk"]), SharedEngine)
    assert isinstance(make_engine(Deep(), scoring, sharing=["none"]), WindowEngine)
    ensemble = make_engine(Ensemble([Deep(), Deep(pool=2)]), scoring, sharing=["trunk", "trunk"])
    assert ensemble.name == "2 x SharedEngine"
    assert len(trials) == 1


@pytest.mark.parametrize("pool", [1, 2])
def test_step_of_a_tried_model_is_that_of_the_trial(pool, monkeypatch):
    scoring, trials = Scoring(TRACKS, INPUT_BP, 20, "mean"), counted_trials(monkeypatch)
    step = shared_step(Deep(pool=pool), scoring, is_tried=True)
    assert not trials
    assert step == shared_step(Deep(pool=pool), scoring)


@pytest.mark.parametrize("crop", [(14, 15), (15, 14)])
def test_trial_is_made_where_the_model_is_not_as_it_was_tried(crop):
    with pytest.raises(NotSharedError, match="depends on what is beyond the window"):
        shared_step(Deep(is_padded=True, crop=crop), Scoring(TRACKS, INPUT_BP, 20, "mean"), is_tried=True)


@pytest.mark.parametrize(
    ("model", "choices", "reason"),
    [
        (
            Deep,
            {"stitch": "center", "stride": 120},
            "stitch 'center' with stride 120 needs as many bases in a shared trunk as in windows of 120 bp",
        ),
        (lambda: Deep(pool=2), {"stride": 18, "input_bp": 120}, None),
        (lambda: Deep(pool=3), {"stride": 20}, "stride 20 does not move the trunk's output by a whole"),
        (
            lambda: Deep(is_padded=True, crop=(14, 15)),
            {},
            "output at place 0 of 91 depends on what is beyond the window, of any value; drop what padding",
        ),
        (
            lambda: Deep(is_padded=True, crop=(15, 14)),
            {},
            "output at place 90 of 91 depends on what is beyond the window",
        ),
    ],
)
def test_refusal_says_what_is_wrong_with_the_trunk(model, choices, reason):
    scoring = Scoring(TRACKS, **({"input_bp": INPUT_BP, "stride": 20, "stitch": "mean"} | choices))
    if reason is None:
        assert shared_step(model(), scoring) == 9
        return
    with pytest.raises(NotSharedError, match=reason):
        SharedEngine(model(), scoring)


def test_model_whose_output_is_more_than_its_head_is_refused():
    class Louder(Deep):
        def forward(self, X):
            return 1.01 * super().forward(X)

    with pytest.raises(NotSharedError, match=r"the model's output is not head\(trunk\(X\)\)"):
        shared_step(Louder(), Scoring(TRACKS, INPUT_BP, 20, "mean"))


def test_trunk_that_looks_at_all_of_its_input_is_refused():
    class Centred(nn.Module):
        def forward(self, X):
            return X - X.mean(2, keepdim=True)

    model = Deep()
    model.trunk.append(Centred())
    with pytest.raises(NotSharedError, match="at place 0 of 90 depends on what is beyond the window"):
        shared_step(model, Scoring(TRACKS, INPUT_BP, 20, "mean"))


def test_trunk_that_counts_its_places_is_refused_with_the_first_that_differs():
    """It reads nothing beyond the window, and yet gives other features where the window stands elsewhere."""

    class Counted(nn.Module):
        def forward(self, X):
            return X + (torch.arange(X.shape[2]).to(X) > 70)

    model = Deep()
    model.trunk.append(Counted())
    step = shared_step(Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean"))
    expected = rf"at place {71 - step} of \d+ depends on what is beyond the window, by [\d.]+ of it"
    with pytest.raises(NotSharedError, match=expected):
        shared_step(model, Scoring(TRACKS, INPUT_BP, 20, "mean"))


def test_trunk_that_fails_in_float64_is_refused_with_its_own_words():
    class Single(nn.Module):
        def forward(self, X):
            return X @ torch.eye(X.shape[2])

    model = Deep()
    model.trunk.append(Single())
    with pytest.raises(NotSharedError, match="trunk and head fail on a stretch in float64: RuntimeError"):
        shared_step(model, Scoring(TRACKS, INPUT_BP, 20, "mean"))


def test_trial_leaves_the_model_as_it_was():
    model = Deep().train().requires_grad_(True)
    shared_step(model, Scoring(TRACKS, INPUT_BP, 20, "mean"))
    assert model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_log_says_why_windows_are_computed_one_by_one(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tism_scan"), "propagate", True)
    choice._warn_once.cache_clear()
    scoring = Scoring(TRACKS, INPUT_BP, 20, "mean")
    assert sharing_of(Deep(), scoring) == ("trunk",)
    assert not caplog.text
    scoring = Scoring(TRACKS, INPUT_BP, 120)
    for _ in range(2):
        assert sharing_of(Deep(), scoring) == ("none",)
    assert caplog.text.count("computed one by one, which is slower: stitch 'center' with stride 120") == 1
    sharing_of(Deep(), Scoring(TRACKS, INPUT_BP, 20))
    assert "takes 4 backward passes of the model's trunk for each track; --stitch mean" in caplog.text


def test_trunk_whose_places_are_fewer_on_a_long_stretch_is_an_error():
    class Short(nn.Module):
        def forward(self, X):
            return X[:, :, :200]

    model = Deep()
    model.trunk.append(Short())
    engine = SharedEngine(model, Scoring(TRACKS, INPUT_BP, 20, "mean"))
    with pytest.raises(ModelError, match=r"gives 200 places for a stretch of .* leave its trunk undeclared"):
        blocks_scored_by(engine, CODES)


@pytest.mark.parametrize("memory_gb", [1e-9, 2e-4, 1e-3, 1000])
def test_memory_budget_sets_the_size_of_slabs_and_changes_no_score(memory_gb):
    model, scoring = Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean")
    engine = SharedEngine(model, scoring, memory_gb=memory_gb)
    n_most = shared_engine.SLAB_BP_ON_CPU // 20
    if memory_gb in (1e-9, 1000):
        assert engine.batch_size == {1e-9: 1, 1000: n_most}[memory_gb]
    else:
        assert 1 < engine.batch_size < n_most
    assert_same(blocks_scored_by(engine, CODES), blocks_scored_by(SharedEngine(model, scoring), CODES))


def test_out_of_memory_halves_the_slab_and_goes_on(monkeypatch):
    model, scoring = Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean")
    expected = blocks_scored_by(SharedEngine(model, scoring), CODES)
    engine = SharedEngine(model, scoring, batch_size=16)

    def fail_if_long(module, inputs):
        if inputs[0].shape[2] > INPUT_BP + 3 * 20:
            raise torch.OutOfMemoryError("no memory")

    model.trunk.register_forward_pre_hook(fail_if_long)
    assert_same(blocks_scored_by(engine, CODES), expected)
    assert engine.batch_size == 4
    model.trunk.register_forward_pre_hook(
        lambda module, inputs: fail_if_long(module, [torch.zeros(1, 1, 999)])
    )
    with pytest.raises(ScanError, match="one window of 3 tracks does not fit the memory"):
        blocks_scored_by(engine, CODES)


def test_a_rounded_trunk_gives_nearly_the_same_scores():
    exact, rounded = (
        blocks_scored_by(SharedEngine(Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean", precision=name)), CODES)
        for name in ("fp32", "bf16")
    )
    is_base = np.isfinite(exact)
    assert 0.99 < np.corrcoef(exact[is_base], rounded[is_base])[0, 1] < 1
    assert not np.array_equal(exact, rounded, equal_nan=True)


def test_arithmetic_is_of_the_stride_in_the_trunk_and_of_every_window_in_the_head():
    model = Deep()
    few, more = (
        SharedEngine(model, Scoring(TRACKS, INPUT_BP, stride, "mean")).flop_per_window()
        for stride in (20, 40)
    )
    both = SharedEngine(model, Scoring(TRACKS, INPUT_BP, 20, "mean", "both")).flop_per_window()
    window = WindowEngine(model, Scoring(TRACKS, INPUT_BP, 20, "mean")).flop_per_window()
    assert few < more < window
    assert both == 2 * few
    along = SharedEngine(model, Scoring(TRACKS, INPUT_BP, 20, "mean", path=(1, 0.75, 0.5)))
    assert along.flop_per_window() == 3 * few


def test_what_a_module_keeps_is_counted_once_and_without_its_parameters():
    linear = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).requires_grad_(False)
    assert saved_bytes(linear, torch.zeros(10, 8)) == 10 * 16 * 4  # tanh's output; weights are not counted


@pytest.mark.parametrize("places", [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_crop_drops_what_it_is_told_at_each_side(places):
    X = torch.arange(10.0).reshape(1, 1, 10)
    assert torch.equal(Cropped(nn.Identity(), *places)(X), X[:, :, places[0] : 10 - places[1]])


@pytest.mark.parametrize("places", [(-1, 0), (0, -2)])
def test_crop_drops_a_number_of_places(places):
    with pytest.raises(ValueError, match="expected 0 or more of each"):
        Cropped(nn.Identity(), *places)


@pytest.mark.parametrize(("memory_gb", "n_windows"), [(1e-9, 1), (1000, 16)])
def test_memory_budget_reaches_the_window_engine_too(memory_gb, n_windows):
    model, scoring = Deep(), Scoring(TRACKS, INPUT_BP, 120)
    engine = make_engine(model, scoring, memory_gb=memory_gb, device="cpu")
    assert isinstance(engine, WindowEngine)
    assert engine.batch_size == n_windows
    assert_same(blocks_scored_by(engine, CODES), blocks_scored_by(WindowEngine(model, scoring), CODES))


def test_window_engine_takes_more_windows_of_a_smaller_model():
    def n_windows(width):
        torch.manual_seed(0)
        model = Deep()
        model.trunk = nn.Sequential(nn.Conv1d(4, width, 3), nn.Tanh(), nn.Conv1d(width, 6, 29))
        return WindowEngine(model, Scoring(TRACKS, INPUT_BP, 20), memory_gb=1e-3, device="cpu").batch_size

    assert 16 == n_windows(8) > n_windows(256) > n_windows(2048) >= 1


def test_memory_that_does_not_hold_one_window_is_said_when_it_is_scored():
    model, scoring = Deep(), Scoring(TRACKS, INPUT_BP, 20, "mean")

    def fail_with_a_graph(module, inputs):
        if torch.is_grad_enabled() and inputs[0].dtype == torch.float32:
            raise torch.OutOfMemoryError("no memory")

    model.trunk.register_forward_pre_hook(fail_with_a_graph)
    engine = SharedEngine(model, scoring)
    assert engine.batch_size == 1
    with pytest.raises(ScanError, match="one window of 3 tracks does not fit the memory"):
        blocks_scored_by(engine, CODES)


class Parts(nn.Module):
    """A model that is its head on its trunk, unless a test says otherwise."""

    input_bp, alphabet = 64, "ACGT"

    def __init__(self, trunk, head):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = trunk(), head()
        self.n_outputs = self.eval()(torch.zeros(1, 4, 64)).shape[1]

    def forward(self, X):
        return self.head(self.trunk(X))


class Masked(nn.Module):
    """Zero-padded, beside a channel of a size at which no difference of another would be seen."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(4, 3, 9, padding="same")

    def forward(self, X):
        h = self.layer(X)
        return torch.cat([h, torch.full_like(h[:, :1], -1e9)], 1)


MOTIF = [2, 0, 3, 3, 0, 1, 0, 2, 0]


class Detector(nn.Module):
    """Zero-padded, and off unless a motif is there."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(4, 1, len(MOTIF), padding="same")
        self.layer.weight.data = nn.functional.one_hot(torch.tensor(MOTIF), 4).T[None].float()
        self.layer.bias.data.fill_(0.5 - len(MOTIF))

    def forward(self, X):
        return self.layer(X).relu()


class Louder(nn.Sequential):
    """A stack that does more than its layers."""

    def forward(self, X):
        return super().forward(3 * X.tanh())


def means(n_channels):
    return lambda: nn.Sequential(nn.Conv1d(n_channels, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def wavy():
    return nn.Sequential(nn.Conv1d(4, 6, 5), Residual(6, 2, is_padded=False))


def with_hook():
    trunk = nn.Sequential(nn.Conv1d(4, 6, 5))
    trunk[0].register_forward_hook(lambda module, inputs, output: 2 * output.tanh())
    return trunk


TRICKY = {
    "a large channel beside padded ones": (Masked, means(4)),
    "a padded detector that is off": (Detector, lambda: nn.Sequential(nn.AdaptiveMaxPool1d(1), nn.Flatten())),
    "a trunk that does more than its layers": (lambda: Louder(nn.Conv1d(4, 6, 5)), means(6)),
    "a trunk with a hook": (with_hook, means(6)),
    "a head that does more than its layers": (
        wavy,
        lambda: Louder(nn.Flatten(), nn.Linear(6 * 56, 5), nn.ReLU(), nn.Linear(5, 2)),
    ),
    "a head that flattens nothing": (
        wavy,
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(56, 1), nn.Flatten(), nn.Linear(6, 2)),
    ),
    "a head that works in place": (wavy, lambda: nn.Sequential(nn.ELU(inplace=True), *means(6)())),
    "a trunk that works in place": (
        lambda: nn.Sequential(nn.Conv1d(4, 6, 5), nn.ELU(inplace=True)),
        means(6),
    ),
}


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("parts", TRICKY.values(), ids=TRICKY)
def test_whatever_a_model_does_the_scores_are_those_of_its_windows(parts, stitch):
    model, scoring = Parts(*parts), Scoring(TRACKS[:1], 64, 8, stitch, "both")
    codes = np.random.default_rng(0).integers(0, 4, 300).astype(np.uint8)
    for start in (2, 58, 66, 90, 122):
        codes[start : start + len(MOTIF)] = MOTIF
    slow = blocks_scored_by(WindowEngine(model, scoring, device="cpu"), codes)
    assert_same(blocks_scored_by(make_engine(model, scoring, device="cpu"), codes), slow)


@pytest.mark.parametrize("trunk", [lambda: nn.Sequential(nn.Conv1d(4, 6, 5)), wavy], ids=["stack", "other"])
def test_parts_that_do_not_fit_one_another_are_refused_with_their_own_words(trunk):
    model = Parts(trunk, means(6))
    model.head = nn.Linear(3, 2)
    with pytest.raises(NotSharedError, match=r"trunk and head fail on .*: RuntimeError: mat1 and mat2"):
        shared_step(model, Scoring(TRACKS[:1], 64, 8, "mean"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_parts_in_another_precision_are_refused(dtype):
    model = Parts(wavy, means(6)).to(dtype)
    with pytest.raises(NotSharedError, match=f"in {str(dtype)[6:]}, and windows are shared in float32"):
        shared_step(model, Scoring(TRACKS[:1], 64, 8, "mean"))


def test_parts_whose_gradient_is_another_are_refused():
    class Held(Parts):
        def forward(self, X):
            features = self.trunk(X)
            return self.head((features + features.detach()) / 2)

    with pytest.raises(NotSharedError, match="the gradient of the model's output is not that of head"):
        shared_step(Held(wavy, means(6)), Scoring(TRACKS[:1], 64, 8, "mean"))
