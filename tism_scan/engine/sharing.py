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
NOT_ITS_GRADIENT = "the gradient of the model's output is not that of head(trunk(X))"
# Of a channel's largest value, in float64: far above rounding, far below what any padding does.
_LARGEST_DIFFERENCE = 1e-9


class NotSharedError(ValueError):
    """An engine that shares a trunk cannot compute a scoring with a model."""


def why_no_stack(model: Model, scoring: Scoring, *, is_tried: bool = False) -> str | None:
    """Return why the trunk engine cannot compute a scoring with a model, or None if it can.

    Parameters
    ----------
    model : Model
    scoring : Scoring
    is_tried : bool
        Whether another process has tried the same model, and found that it can: then a window's values are
        compared, and not its gradient, which takes twice as long.
    """
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
        with frozen(model):
            if is_tried:
                return None if _has_values_of_its_head(model, *parts, X) else NOT_ITS_HEAD
            return _why_not_its_head(model, *parts, X)
    except Exception as error:  # a user's trunk may fail in any way
        return f"the model's trunk and head fail on a window: {one_line(error)}"


def _why_not_in_float32(model: Model) -> str | None:
    """Return why a model's parts cannot be computed in float32, or None if they can."""
    tensors = (*model.parameters(), *model.buffers())
    others = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    shown = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
    return f"the model computes in {shown}, and windows are shared in float32" if others else None


def n_backward_passes(scoring: Scoring) -> int:
    """Return how many backward passes of a shared trunk give the scores of a slab's windows, for each track.

    One gives the sum over windows of their gradients. For ``stitch="center"``, a base's score is from one
    window, so the windows of a pass must be so far apart that none holds a base of another's core.
    """
    if scoring.stitch != "center":
        return 1
    lattice = scoring.lattice
    return -(-(lattice.flank + lattice.stride) // lattice.stride)


def _check_worth(scoring: Scoring) -> None:
    """Raise NotSharedError if windows one by one take as few bases through the trunk, forward and back."""
    n_passes, n_tracks = n_backward_passes(scoring), len(scoring.tracks)
    n_shared, n_alone = (1 + n_passes * n_tracks) * scoring.stride, (1 + n_tracks) * scoring.input_bp
    if scoring.stitch == "center" and n_shared >= n_alone:
        raise NotSharedError(
            f"stitch 'center' with stride {scoring.stride:,} needs as many bases in a shared "
            f"trunk as in windows of {scoring.input_bp:,} bp one by one"
        )


def _step_by_one_window(model: Model, scoring: Scoring) -> int | None:
    """Return the step of a model that was tried elsewhere, by one window in float32; None if it differs."""
    trunk, head = declared_parts(model) or (nn.Identity(), nn.Identity())
    input_bp, stride = scoring.input_bp, scoring.stride
    sequence = random_sequence(input_bp + 2 * stride).to(next(model.parameters(), torch.empty(0)))
    window = sequence[:, :, stride : stride + input_bp]
    try:
        with frozen(model), torch.no_grad():
            features, stretch = trunk(window.clone()), trunk(sequence.clone())
            step = int(stretch.shape[2] - features.shape[2]) // 2
            has_step = step > 0 and are_alike(stretch[:, :, step:-step], features)
            return step if has_step and _has_values_of_its_head(model, trunk, head, window) else None
    except Exception:  # a user's trunk may fail in any way; the trial says how
        return None


def shared_step(model: Model, scoring: Scoring, *, is_tried: bool = False) -> int:
    """Return how many places of a trunk's output lie between windows.

    The features of a window must be those places of a longer stretch: in float64, in each of three windows,
    one after the other.

    Parameters
    ----------
    model : Model
    scoring : Scoring
    is_tried : bool
        Whether another process has tried the same model, and found a step: if one window agrees with its
        stretch, in float32, the trial is left out, which takes as long as dozens of windows.

    Returns
    -------
    int

    Raises
    ------
    NotSharedError
        If a window's features depend on what is beyond it, its places are not those of a stretch, the model's
        output is not that of its head, or windows one by one are as cheap. The message names the first place
        that differs.
    """
    parts = declared_parts(model)
    if parts is None:
        raise NotSharedError(NO_PARTS)
    layers = trunk_layers(parts[0])
    reason = why_no_stack(model, scoring) if layers else _why_not_in_float32(model)
    if reason is not None:
        raise NotSharedError(reason)
    _check_worth(scoring)  # before the trial, which is costly for a large model
    step = _step_by_one_window(model, scoring) if is_tried else None
    if step is not None:
        return step
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
    dense = torch.randn(sequence.shape, generator=_generator()).to(sequence)
    for values, whole in ((sequence, stretch), (dense, trunk(dense))):
        largest = whole.abs().amax((0, 2)).clamp_min(torch.finfo(whole.dtype).tiny)
        for i_window in range(3):
            start = i_window * stride
            is_known = values is sequence and i_window == 0
            alone = features if is_known else trunk(values[:, :, start : start + input_bp])
            places = whole[:, :, i_window * step : i_window * step + n_places]
            difference = ((alone - places).abs() / largest[:, None]).amax((0, 1))
            _refuse_first(~(difference <= _LARGEST_DIFFERENCE), f"by {float(difference.max()):.1g} of it")
    reason = _why_not_its_head(model, trunk, head, window)
    if reason is not None:
        raise NotSharedError(reason)
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


def _has_values_of_its_head(model: nn.Module, trunk: nn.Module, head: nn.Module, window: Tensor) -> bool:
    """Return whether a model's outputs at a window are those of its head on its trunk."""
    with torch.no_grad():  # copies, since a model may work in place
        return are_alike(model(window.clone()), flat_outputs(head(trunk(window.clone()))))


def _why_not_its_head(model: nn.Module, trunk: nn.Module, head: nn.Module, window: Tensor) -> str | None:
    """Return why a model is not its head on its trunk, by value or gradient at a window; None if it is."""
    of_model, of_parts = (
        _with_gradient(outputs, window) for outputs in (model, lambda X: flat_outputs(head(trunk(X))))
    )
    if not are_alike(of_model[0], of_parts[0]):
        return NOT_ITS_HEAD
    return None if are_alike(of_model[1], of_parts[1]) else NOT_ITS_GRADIENT


def _with_gradient(model: Callable[[Tensor], Tensor], window: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs at a window, and the gradient of a random mixture of them, (1, 4, L).

    Each output has a part in it by its own size, so that small ones count beside large ones.
    """
    X = window.clone().requires_grad_()
    with torch.enable_grad():
        outputs = model(X.clone())  # which may work in place
        sizes = outputs.detach().abs()
        sizes = sizes.clamp_min(1e-6 * float(sizes.max())).clamp_min(torch.finfo(sizes.dtype).tiny)
        mixture = (outputs / sizes) @ torch.randn(outputs.shape[1], generator=_generator()).to(outputs)
        gradient: Tensor = torch.autograd.grad(mixture.sum(), X)[0]
    return outputs.detach(), gradient


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_sequence(n_bp: int) -> Tensor:
    """Return one-hot sequence, float32 (1, 4, n_bp), the same each time."""
    codes = torch.randint(4, (1, n_bp), generator=_generator())
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()
