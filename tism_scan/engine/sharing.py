"""Whether the windows of a scan can share what a model computes, tried and never believed."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tism_scan.engine.trunk import are_alike, declared_parts, total_stride, trunk_layers
from tism_scan.models.contract import Model
from tism_scan.models.failures import one_line
from tism_scan.models.frozen import frozen
from tism_scan.models.outputs import flat_outputs
from tism_scan.plan.scoring import Scoring

NO_PARTS = "the model declares no trunk with a head on it"
NOT_ITS_HEAD = "the model's output is not head(trunk(X))"
# Of a channel's largest value, in float64: far above rounding, far below what any padding does.
_LARGEST_DIFFERENCE = 1e-9


class NotSharedError(ValueError):
    """An engine that shares a trunk cannot compute a scoring with a model."""


def why_no_stack(model: Model, scoring: Scoring) -> str | None:
    """Return why the trunk engine cannot compute a scoring with a model, or None if it can."""
    parts = declared_parts(model)
    if parts is None:
        return NO_PARTS
    layers = trunk_layers(parts[0])
    if not layers:
        return "the model's trunk is no stack of unpadded layers"
    if scoring.stride % total_stride(layers):
        return f"stride {scoring.stride} is no multiple of the trunk's, {total_stride(layers)}"
    reason = _why_not_in_float32(model)
    if reason is not None:
        return reason
    X = random_sequence(scoring.input_bp).to(next(model.parameters(), torch.empty(0)))
    try:
        with frozen(model), torch.no_grad():
            is_its_head = are_alike(model(X), flat_outputs(parts[1](parts[0](X))))
    except Exception as error:  # a user's trunk may fail in any way
        return f"the model's trunk and head fail on a window: {one_line(error)}"
    return None if is_its_head else NOT_ITS_HEAD


def _why_not_in_float32(model: Model) -> str | None:
    """Return why a model's parts cannot be computed in float32, or None if they can."""
    tensors = (*model.parameters(), *model.buffers())
    others = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    shown = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
    return f"the model computes in {shown}, and windows are shared in float32" if others else None


def shared_step(model: Model, scoring: Scoring) -> int:
    """Return how many places of a trunk's output lie between windows.

    The features of a window must be those places of a longer stretch: in float64, in each of three windows,
    one after the other.

    Parameters
    ----------
    model : Model
    scoring : Scoring

    Returns
    -------
    int

    Raises
    ------
    NotSharedError
        If a window's features depend on what is beyond it, its places are not those of a stretch, the model's
        output is not that of its head, or windows are stitched by their centres. The message names the first
        place that differs.
    """
    parts = declared_parts(model)
    if parts is None:
        raise NotSharedError(NO_PARTS)
    layers = trunk_layers(parts[0])
    reason = why_no_stack(model, scoring) if layers else _why_not_in_float32(model)
    if reason is not None:
        raise NotSharedError(reason)
    if scoring.stitch == "center":  # known before the trial, which is costly for a large model
        raise NotSharedError(
            "stitch 'center' shares only a trunk that is a stack of unpadded layers; try --stitch mean, "
            "which shares others, too"
        )
    try:
        exact = copy.deepcopy(model).double()
        with frozen(exact), torch.no_grad():
            return _tried_step(exact, scoring)
    except NotSharedError:
        raise
    except Exception as error:  # a user's trunk may fail in any way
        raise NotSharedError(
            f"the model's trunk and head fail on a stretch in float64: {one_line(error)}"
        ) from None


def _tried_step(model: Model, scoring: Scoring) -> int:
    trunk, head = declared_parts(model) or (nn.Identity(), nn.Identity())
    input_bp, stride = scoring.input_bp, scoring.stride
    sequence = random_sequence(input_bp + 2 * stride).to(next(model.parameters(), torch.empty(0).double()))
    window = sequence[:, :, :input_bp]
    features, stretch = trunk(window), trunk(sequence)
    n_places, n_more = features.shape[2], stretch.shape[2] - features.shape[2]
    step = trunk(sequence[:, :, : input_bp + stride]).shape[2] - n_places
    if step < 1 or n_more != 2 * step:
        raise NotSharedError(
            f"stride {stride} does not move the trunk's output by a whole number of places: a window has "
            f"{n_places:,} of them, {n_places + step:,} and {n_places + n_more:,} one and two strides later"
        )
    _check_nothing_beyond(trunk, sequence, input_bp, stride, step, n_places)
    # Dense numbers too: those of a sequence may leave most of a network's units at zero.
    for values in (sequence, torch.randn(sequence.shape, generator=_generator()).to(sequence)):
        whole = trunk(values)
        largest = whole.abs().amax((0, 2)).clamp_min(torch.finfo(whole.dtype).tiny)
        for i_window in range(3):
            start = i_window * stride
            alone = trunk(values[:, :, start : start + input_bp])
            places = whole[:, :, i_window * step : i_window * step + n_places]
            difference = ((alone - places).abs() / largest[:, None]).amax((0, 1))
            _refuse_first(~(difference <= _LARGEST_DIFFERENCE), f"by {float(difference.max()):.1g} of it")
    if not are_alike(model(window), flat_outputs(head(features))):
        raise NotSharedError(NOT_ITS_HEAD)
    of_model, of_parts = (
        _gradient(outputs, window) for outputs in (model, lambda X: flat_outputs(head(trunk(X))))
    )
    if not are_alike(of_model, of_parts):
        raise NotSharedError("the gradient of the model's output is not that of head(trunk(X))")
    return int(step)


def _check_nothing_beyond(
    trunk: nn.Module, sequence: Tensor, input_bp: int, stride: int, step: int, n_places: int
) -> None:
    """Refuse a trunk whose output at a window's places reads anything outside the window.

    All that is read of NaN is NaN, whatever the units are at, so that padding is seen through units that are
    off.
    """
    beyond = sequence.clone()
    beyond[:, :, :stride] = beyond[:, :, stride + input_bp :] = torch.nan
    places = trunk(beyond)[:, :, step : step + n_places]
    _refuse_first(places.isnan().any(1)[0], "of any value")


def _refuse_first(is_off: Tensor, by_how_much: str) -> None:
    """Raise NotSharedError if any place is off, and name the first."""
    if is_off.any():
        first = int(is_off.nonzero()[0])
        raise NotSharedError(
            f"the trunk's output at place {first:,} of {len(is_off):,} depends on what is beyond the window, "
            f"{by_how_much}; drop what padding reaches with tism_scan.models.Cropped"
        )


def _gradient(model: Callable[[Tensor], Tensor], window: Tensor) -> Tensor:
    """Return the gradient of a random mixture of outputs at a window, (1, 4, L)."""
    X = window.clone().requires_grad_()
    with torch.enable_grad():
        outputs = model(X)
        mixture = outputs @ torch.randn(outputs.shape[1], generator=_generator()).to(outputs)
        gradient: Tensor = torch.autograd.grad(mixture.sum(), X)[0]
    return gradient


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_sequence(n_bp: int) -> Tensor:
    """Return one-hot sequence, float32 (1, 4, n_bp), the same each time."""
    codes = torch.randint(4, (1, n_bp), generator=_generator())
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()
