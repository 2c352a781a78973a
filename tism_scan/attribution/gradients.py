"""Gradients of a model's outputs with respect to its input, and what is read off them at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial

import torch
from torch import Tensor, nn

from tism_scan.attribution.transforms import Array, check_input, check_one_hot, like
from tism_scan.engine.readout import Tracks, track_outputs
from tism_scan.engine.tism import mean_over_path, mean_tism_from_gradient, tism_from_gradient
from tism_scan.models.channels_last import channels_last
from tism_scan.models.frozen import BATCH_SIZE, check_batch_size, dtype_of, frozen
from tism_scan.plan.scoring import ONE_GRADIENT, checked_path


def gradient(
    model: nn.Module,
    X: Array,
    tracks: Tracks = None,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    path: Sequence[float] = ONE_GRADIENT,
) -> Array:
    """Return the gradient of each track with respect to the input: the local attribution.

    Parameters
    ----------
    model : torch.nn.Module
        From float (N, 4, L) to (N, n_outputs). It runs in evaluation mode with frozen parameters; its mode,
        device and requires_grad flags are put back afterwards, whatever happens.
    X : float (N, 4, L), NumPy or torch
        One-hot in the model's channel order, all zeros at N.
    tracks : int, Track, or sequence of these, optional
        Outputs of the model; a `Track` of several outputs is their weighted sum. By default all outputs.
    batch_size : int
        Sequences in one pass. The result does not depend on it, to float rounding.
    device : str or torch.device, optional
        Where to compute; by default where the model is. On CUDA, convolutions run in full float32, not in
        PyTorch's default of TF32.
    path : sequence of float
        Points s above 0 and up to 1: the gradient is the mean of those at ``s * X + (1 - s) / 4``, where N
        stays zero. (1,) is the gradient at X.

    Returns
    -------
    float32 (N, T, 4, L), NumPy or torch like `X` and on its device
        In units of the output; finite at N too.

    Raises
    ------
    PlanError
        If the path is none.
    ValueError
        If X has another shape or no sequence, the batch size is below 1, or the output does not depend on X
        in a way that PyTorch can differentiate.
    TrackError
        If a track is no output of the model.
    InputError
        If the device is not there.
    """
    return _in_batches(model, X, tracks, batch_size, device, path, lambda gradient, _: gradient)


def tism(
    model: nn.Module,
    X: Array,
    tracks: Tracks = None,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    path: Sequence[float] = ONE_GRADIENT,
) -> Array:
    """Return TISM: the approximate change of each track if a base replaced the reference base.

    Parameters are those of `gradient`; X must be one-hot.

    Returns
    -------
    float32 (N, T, 4, L), NumPy or torch like `X`
        Negative where the substitution lowers the output; 0 at the reference base; NaN at N.

    Raises
    ------
    ValueError, TrackError, InputError
        As `gradient`, and ValueError if X is not one-hot.

    References
    ----------
    Sasse, Chikina, Mostafavi, bioRxiv 2023.11.10.566588.
    """
    check_one_hot(check_input(X))
    return _in_batches(
        model, X, tracks, batch_size, device, path, lambda gradient, x: tism_from_gradient(gradient, x)
    )


def mean_tism(
    model: nn.Module,
    X: Array,
    tracks: Tracks = None,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    path: Sequence[float] = ONE_GRADIENT,
) -> Array:
    """Return mean TISM: minus the mean of the three substitutions' TISM, one value a base.

    Parameters are those of `gradient`; X must be one-hot.

    Returns
    -------
    float32 (N, T, L), NumPy or torch like `X`
        Positive where the reference base supports the output; NaN at N.

    Raises
    ------
    ValueError, TrackError, InputError
        As `gradient`, and ValueError if X is not one-hot.

    References
    ----------
    Sasse, Chikina, Mostafavi, bioRxiv 2023.11.10.566588.
    """
    check_one_hot(check_input(X))
    return _in_batches(
        model, X, tracks, batch_size, device, path, lambda gradient, x: mean_tism_from_gradient(gradient, x)
    )


def _in_batches(
    model: nn.Module,
    X: Array,
    tracks: Tracks,
    batch_size: int,
    device: str | torch.device | None,
    path: Sequence[float],
    finish: Callable[[Tensor, Tensor], Tensor],
) -> Array:
    """Return ``finish(gradient, x)`` of every batch, where x is (N, 1, 4, L), put together."""
    x = check_input(X)
    check_batch_size(batch_size)
    points = checked_path(path)
    parts = []
    # inference_mode(False): the caller may be in inference mode, where nothing can be differentiated
    with frozen(model, device) as place, _quickest_on(place), torch.inference_mode(False):
        for chunk in torch.split(x, batch_size):
            batch = chunk.to(place, dtype_of(model), copy=True)
            compute = partial(_gradient_of, model, tracks, max(1, batch_size // len(batch)))
            gradients = mean_over_path(points, batch, compute)
            parts.append(finish(gradients, batch.unsqueeze(1)).to(x.device, torch.float32))
    return like(torch.cat(parts), X)


def _quickest_on(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a device computes gradients quickest."""
    return channels_last() if device.type == "cpu" else nullcontext()


def _gradient_of(model: nn.Module, tracks: Tracks, n_at_once: int, X: Tensor) -> Tensor:
    """Return (N, T, 4, L): one forward pass, and a backward pass for every `n_at_once` tracks."""
    with torch.enable_grad():
        X = X.detach().requires_grad_(True)
        outputs = track_outputs(model, X, tracks)
        if not outputs.requires_grad:
            raise ValueError(
                f"the output of {type(model).__name__} cannot be differentiated; expected one that depends "
                "on X; look for detach, no_grad or argmax in its forward, or use ism, which needs no gradient"
            )
        totals = outputs.sum(0)
        gradients = _backward_passes(totals, X, min(n_at_once, len(totals)))
    return gradients.transpose(0, 1)


def _backward_passes(totals: Tensor, X: Tensor, n_at_once: int) -> Tensor:
    """Return the gradient (T, N, 4, L) of totals (T,), for several tracks at once where that works."""
    if n_at_once > 1:
        groups = torch.split(torch.eye(len(totals), dtype=totals.dtype, device=X.device), n_at_once)
        with suppress(RuntimeError):  # some operations cannot be batched, or memory is short
            return torch.cat([_batched_backward(totals, X, group) for group in groups])
    return torch.stack(
        [
            torch.autograd.grad(total, X, retain_graph=i + 1 < len(totals), materialize_grads=True)[0]
            for i, total in enumerate(totals)
        ]
    )


def _batched_backward(totals: Tensor, X: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient (n, N, 4, L) of n weighted sums of the totals; the graph is kept."""
    (gradients,) = torch.autograd.grad(
        totals, X, weights, retain_graph=True, is_grads_batched=True, materialize_grads=True
    )
    return gradients.expand(len(weights), *X.shape)
