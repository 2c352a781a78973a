"""Gradients, TISM and mean TISM of a model, and the state that the model is left in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in_weights import load_narrow_beluga
from torch import nn
from toy_models import LENGTH_BP, N_OUTPUTS, TwoHeads, inputs, linear_model, smooth_model

from tism_scan import attribution
from tism_scan.attribution import frozen, gradient, ism, mean_tism, tism, transform
from tism_scan.errors import InputError, PlanError, TrackError
from tism_scan.genome.alphabet import channel_of_base, decode, encode, one_hot
from tism_scan.plan.tracks import Track

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "narrow_seed7.npz")
CENTRAL = slice(900, 1100)
TRACKS = REFERENCE["tracks"].tolist()
# The reference's indices are the network's own channels, whatever bases they stand for.
REFERENCE_X = np.eye(4, dtype=np.float32)[REFERENCE["indices"]].transpose(0, 2, 1)
FUNCTIONS = [gradient, tism, mean_tism, ism]


@pytest.fixture(scope="module")
def narrow_beluga(tmp_path_factory):
    return load_narrow_beluga(7, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def computed(narrow_beluga):
    """Return everything that the reference holds, computed anew."""
    whole = gradient(narrow_beluga, REFERENCE_X, TRACKS, batch_size=2)
    g, x = whole[..., CENTRAL], REFERENCE_X[..., CENTRAL]
    with frozen(narrow_beluga), torch.no_grad():
        prediction = narrow_beluga(torch.tensor(REFERENCE_X))[:, TRACKS].numpy()
    return {
        "prediction": prediction,
        "local": whole,
        "global_zero": transform(g, x, "global", np.zeros(4)),
        "global_uniform": transform(g, x, "global", np.full(4, 0.25)),
        "corrected": transform(g, x, "corrected"),
        "hypothetical_uniform": transform(g, x, "hypothetical", np.full(4, 0.25)),
        "hypothetical_gc40": transform(g, x, "hypothetical", np.array([0.3, 0.2, 0.2, 0.3])),
        "tism": tism(narrow_beluga, REFERENCE_X, TRACKS, batch_size=2)[..., CENTRAL],
        "mean_tism": mean_tism(narrow_beluga, REFERENCE_X, TRACKS, batch_size=2)[..., CENTRAL],
        "ism_996_1004": ism(narrow_beluga, REFERENCE_X, TRACKS, start=996, end=1004),
    }


@pytest.fixture(scope="module")
def rounding_of_ism(narrow_beluga):
    """Return how far two float32 computations of an ISM effect may differ.

    An effect is a difference of two outputs that are much larger than itself. Each of the net's eight layers
    rounds its sums by up to half an epsilon of what they add up, of which the last layer's sum of magnitudes
    is the scale; two outputs make it a whole epsilon.
    """
    *body, last = narrow_beluga.head
    with torch.no_grad():
        hidden = torch.nn.Sequential(*body)(narrow_beluga.trunk(torch.tensor(REFERENCE_X)))
        scale = float((hidden.abs() @ last.weight.abs().T + last.bias.abs())[:, TRACKS].max())
    n_layers = sum(isinstance(each, torch.nn.Conv1d | torch.nn.Linear) for each in narrow_beluga.modules())
    return n_layers * np.finfo(np.float32).eps * scale


@pytest.mark.parametrize("name", sorted(set(REFERENCE.files) - {"indices", "tracks", "seed"}))
def test_the_original_method_is_reproduced(computed, rounding_of_ism, name):
    expected = REFERENCE[name]
    limit = rounding_of_ism if name.startswith("ism") else 1e-5 * np.abs(expected).max()
    assert computed[name].shape == expected.shape
    np.testing.assert_allclose(computed[name], expected, rtol=0, atol=limit)


def test_belugas_channels_are_a_g_c_t(narrow_beluga):
    sequence = "".join(np.array(list("AGCT"))[REFERENCE["indices"][0]])
    right, wrong = (
        mean_tism(narrow_beluga, one_hot(encode(sequence), order)[None], TRACKS)[0, :, CENTRAL]
        for order in (narrow_beluga.alphabet, "ACGT")
    )
    limit = 1e-5 * np.abs(REFERENCE["mean_tism"]).max()
    assert np.abs(right - REFERENCE["mean_tism"][0]).max() < limit
    assert np.abs(wrong - REFERENCE["mean_tism"][0]).max() > 1000 * limit


def test_a_model_that_reads_only_its_second_channel_responds_to_g_in_agct_order():
    model = linear_model()
    model[1].weight.data.zero_().view(N_OUTPUTS, 4, LENGTH_BP)[:, 1] = 1
    codes = encode("ACGT" * 6)
    values = tism(model, one_hot(codes, "AGCT")[None], 0)[0, 0][channel_of_base("AGCT")]
    assert (values["ACGT".index("G")] == np.where(codes == 2, 0, 1)).all()
    assert (values["ACGT".index("C")] == np.where(codes == 2, -1, 0)).all()


def test_tism_of_a_linear_model_is_exact_ism():
    X = inputs(has_n=True)
    model = linear_model().double()
    np.testing.assert_allclose(tism(model, X), ism(model, X), atol=1e-6)
    np.testing.assert_allclose(mean_tism(model, X), ism(model, X, output="mean_effect"), atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_batches_give_what_single_sequences_give(function):
    X, model = inputs(5, has_n=True), smooth_model()
    together = function(model, X, [4, 0, 2], batch_size=3)
    one_by_one = np.concatenate([function(model, X[[n]], [4, 0, 2], batch_size=1) for n in range(5)])
    assert together.shape[:2] == (5, 3)
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    for i, track in enumerate([4, 0, 2]):
        np.testing.assert_allclose(together[:, [i]], function(model, X, track), atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_numpy_gives_numpy_and_torch_gives_torch_in_float32(function):
    X = inputs(2)
    from_numpy = function(smooth_model(), X.astype(np.int8))
    from_torch = function(smooth_model().double(), torch.tensor(X))
    assert isinstance(from_numpy, np.ndarray)
    assert isinstance(from_torch, torch.Tensor)
    assert from_numpy.dtype == np.float32
    assert from_torch.dtype == torch.float32
    assert not from_torch.requires_grad
    np.testing.assert_allclose(from_torch.numpy(), from_numpy, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_heads_in_a_list_are_concatenated(function):
    X, model = inputs(2), smooth_model()
    np.testing.assert_array_equal(function(TwoHeads(model), X, [1, 3]), function(model, X, [1, 3]))
    assert function(TwoHeads(model), X).shape[1] == N_OUTPUTS


def test_a_weighted_track_is_the_weighted_sum_of_its_outputs():
    X, model = inputs(2), smooth_model()
    single = gradient(model, X)
    grouped = gradient(model, X, [Track("difference", (3, 1), (1.0, -0.5)), 2])
    np.testing.assert_allclose(grouped[:, 0], single[:, 3] - 0.5 * single[:, 1], atol=1e-6)
    np.testing.assert_allclose(grouped[:, 1], single[:, 2], atol=1e-6)


def _mixed_state_model() -> nn.Module:
    """Return a model in training mode but for one layer, with one parameter frozen."""
    model = smooth_model().train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    return model


def _state(model: nn.Module) -> list[object]:
    return [
        [module.training for module in model.modules()],
        [(p.requires_grad, p.device, p.grad) for p in model.parameters()],
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_model_is_left_as_it_was(function):
    model = _mixed_state_model()
    before = _state(model)
    function(model, inputs(2), device="cpu")
    assert _state(model) == before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_model_is_left_as_it_was_after_an_error(function):
    model = _mixed_state_model()
    before = _state(model)
    with pytest.raises(TrackError, match="track 99"):
        function(model, inputs(2), 99)
    assert _state(model) == before


def test_dropout_is_off_while_attributing():
    model, X = smooth_model().train(), inputs(2)
    np.testing.assert_array_equal(gradient(model, X), gradient(model, X))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_cuda_gives_the_same_and_the_model_comes_back(function):
    model, X = smooth_model(), inputs(3)
    np.testing.assert_allclose(function(model, X, device="cuda"), function(model, X, device="cpu"), atol=1e-5)
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_even_where_the_caller_turned_them_off(guard):
    model, X = smooth_model(), inputs(2)
    with guard():
        inside = gradient(model, torch.tensor(X))
    np.testing.assert_array_equal(inside.numpy(), gradient(model, X))


def test_a_model_that_cannot_be_differentiated_is_named():
    class Detached(nn.Module):
        def forward(self, X):
            return X.detach().sum((1, 2))[:, None]

    with pytest.raises(ValueError, match="output of Detached cannot be differentiated"):
        gradient(Detached(), inputs(1))


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (5, "track 5 is no output of the model; expected an index in 0-4"),
        ([0, -1], "track -1 is no output"),
        ("CTCF", "track 'C' is neither an index nor a Track"),
        (1.5, "track 1.5 is neither an index nor a Track"),
        ([], "no track was selected"),
        (Track("pair", (0, 7), (1.0, 1.0)), "name='pair'.*is no output"),
    ],
)
def test_tracks_that_the_model_lacks_are_named(tracks, message):
    with pytest.raises(TrackError, match=message):
        gradient(linear_model(), inputs(1), tracks)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (inputs(1)[0], r"X has shape \(4, 24\); expected \(N, 4, L\).*X\[None\]"),
        (inputs(1).transpose(0, 2, 1), r"X has shape \(1, 24, 4\)"),
        (inputs(1)[:0], r"X has shape \(0, 4, 24\)"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_inputs_of_another_shape_are_refused(function, X, message):
    with pytest.raises(ValueError, match=message):
        function(linear_model(), X)


@pytest.mark.parametrize("method", [gradient, tism, mean_tism])
def test_mean_along_a_path_is_made_of_the_gradients_at_its_points(method):
    model, X, path = smooth_model(), inputs(3, has_n=True), (1, 0.75, 0.5)
    softened = [s * X + (1 - s) / 4 * X.sum(1, keepdims=True) for s in path]
    expected = np.mean([gradient(model, each) for each in softened], axis=0)
    if method is not gradient:
        at_reference = (expected * X[:, None]).sum(2, keepdims=True)
        expected = expected - at_reference
        expected[np.broadcast_to((X.sum(1) == 0)[:, None, None], expected.shape)] = np.nan
    if method is mean_tism:
        expected = -expected.sum(2) / 3
    np.testing.assert_allclose(method(model, X, path=path), expected, atol=1e-5)
    np.testing.assert_array_equal(method(model, X, path=(1,)), method(model, X))


def test_path_that_is_none_is_refused():
    with pytest.raises(PlanError, match="path 2 is none; expected different numbers above 0 and up to 1"):
        gradient(smooth_model(), inputs(1), path=(2,))


@pytest.mark.parametrize("function", [tism, mean_tism, ism])
def test_soft_inputs_have_no_reference_base(function):
    with pytest.raises(ValueError, match="X is not one-hot"):
        function(linear_model(), inputs(1) * 0.5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_empty_batch_is_refused(function):
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        function(linear_model(), inputs(1), batch_size=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="device 'cuda' was asked for"):
        gradient(linear_model(), inputs(1), device="cuda")


def test_random_sequences_and_motifs_come_from_tangermeme_in_any_channel_order():
    pytest.importorskip("tangermeme")
    X = attribution.random_one_hot((1, 4, 30), random_state=0)
    X = attribution.substitute(X, "CTCAGTGATG", start=5, alphabet=list("AGCT"))
    codes = X[0].numpy()[channel_of_base("AGCT")].argmax(0).astype(np.uint8)
    assert decode(codes)[5:15] == "CTCAGTGATG"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'saliency'"):
        _ = attribution.saliency


class _Untraceable(torch.autograd.Function):
    """Doubles, in a way that several backward passes cannot share."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return torch.tensor(2 * gradient.numpy())


def test_tracks_that_cannot_share_a_backward_pass_get_one_each():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = smooth_model()

        def forward(self, X):
            return _Untraceable.apply(self.body(X))

    X = inputs(2)
    np.testing.assert_allclose(gradient(Doubled(), X), 2 * gradient(smooth_model(), X), atol=1e-6)
