"""A model while attributions are read off it: held still, checked, and its outputs turned into tracks.

The model is any `torch.nn.Module` from float (N, 4, L) to (N, n_outputs). If it returns a list or tuple of
heads they are concatenated, and axes after the first are flattened into outputs.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tism_scan.attribution.transforms import ArrayLike, as_float32
from tism_scan.errors import InputError, TrackError
from tism_scan.tracks import Track

Tracks = int | Track | Sequence[int | Track] | None


@contextmanager
def frozen(model: nn.Module, device: str | torch.device | None = None) -> Iterator[torch.device]:
    """Hold a model in evaluation mode, its parameters frozen, on a device; then put everything back.

    Parameters
    ----------
    model : torch.nn.Module
    device : str or torch.device, optional
        By default where the model is.

    Yields
    ------
    torch.device
        Where inputs must go.

    Raises
    ------
    ValueError
        If the model is spread over several devices and yet a device is asked for.
    InputError
        If the device is not there.
    """
    homes = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    home = next(iter(homes), torch.device("cpu"))
    target = home if device is None else _existing(device)
    if device is not None and len(homes) > 1:
        raise ValueError(
            f"the model is spread over {', '.join(sorted(map(str, homes)))}, yet device {str(device)!r} was "
            "asked for; leave the device out, or move the model to one"
        )
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        if target != home:
            model.to(target)
        with _full_float32() if target.type == "cuda" else nullcontext():
            yield target
    finally:
        for module, is_training in modes:
            module.training = is_training
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
        if target != home:
            model.to(home)


@contextmanager
def switched(switches: Sequence[tuple[Any, str]], value: object) -> Iterator[None]:
    """Give some attributes, (owner, name), a value, and put back what they were."""
    before = [getattr(owner, name) for owner, name in switches]
    try:
        for owner, name in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name), former in zip(switches, before, strict=True):
            setattr(owner, name, former)


def track_outputs(model: nn.Module, X: Tensor, tracks: Tracks = None) -> Tensor:
    """Return the value of each track, (N, T), for inputs (N, 4, L) on the model's device.

    Raises
    ------
    TrackError
        If a track is no output of the model, or none is selected.
    """
    return values_of_tracks(model(X), tracks)


def values_of_tracks(heads: Tensor | Sequence[Tensor], tracks: Tracks = None) -> Tensor:
    """Return the value of each track, (N, T), in what a model returned.

    Raises
    ------
    TrackError
        If a track is no output of the model, or none is selected.
    """
    outputs = flat_outputs(heads)
    if tracks is None:
        return outputs
    columns = []
    for track in track_list(tracks):
        chosen, weights = _outputs_of_track(track, outputs.shape[1])
        columns.append((outputs[:, chosen] * outputs.new_tensor(weights)).sum(1))
    return torch.stack(columns, dim=1)


def flat_outputs(heads: Tensor | Sequence[Tensor]) -> Tensor:
    """Return what a model returned as (N, n_outputs): heads side by side, further axes flattened."""
    each = [heads] if isinstance(heads, Tensor) else heads
    # spelled out, since PyTorch does not infer -1 for a batch of none
    return torch.cat([head.reshape(len(head), math.prod(head.shape[1:])) for head in each], dim=1)


def track_list(tracks: int | Track | Sequence[int | Track]) -> list[int | Track]:
    """Return a selection as a list of indices and tracks.

    Raises
    ------
    TrackError
        If it is empty.
    """
    if not isinstance(tracks, Sequence | np.ndarray | Tensor):
        return [tracks]
    if len(tracks) == 0:
        raise TrackError("no track was selected; expected at least one output, or None for all")
    return list(tracks)


def check_input(X: ArrayLike) -> Tensor:
    """Return X as float32 (N, 4, L), or raise ValueError."""
    x = as_float32(X)
    if x.dim() != 3 or x.shape[1] != 4 or x.numel() == 0:
        hint = "; add the first axis with X[None]" if x.dim() == 2 else ""
        raise ValueError(f"X has shape {tuple(x.shape)}; expected (N, 4, L) with N and L at least 1{hint}")
    return x


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError unless a batch size is at least 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the dtype that a model computes in: that of its first floating-point parameter."""
    tensors = (*model.parameters(), *model.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def _outputs_of_track(track: int | Track, n_outputs: int) -> tuple[list[int], list[float]]:
    """Return a track's outputs and weights, or raise TrackError."""
    if isinstance(track, Track):
        outputs, weights = list(track.outputs), list(track.weights)
    else:
        try:
            outputs, weights = [operator.index(track)], [1.0]
        except TypeError:
            raise TrackError(
                f"track {track!r} is neither an index nor a Track; expected an index in 0-{n_outputs - 1}, "
                "or a Track from tism_scan.tracks.select_tracks"
            ) from None
    wrong = [i for i in outputs if not 0 <= i < n_outputs]
    if wrong or isinstance(track, bool):
        raise TrackError(f"track {track!r} is no output of the model; expected an index in 0-{n_outputs - 1}")
    return outputs, weights


def _existing(device: str | torch.device) -> torch.device:
    """Return a device, or raise InputError if it is CUDA and there is none."""
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {str(device)!r} was asked for, but PyTorch sees no CUDA device here; "
            "expected 'cpu'; install a CUDA build of PyTorch to use a GPU"
        )
    return target


def _full_float32() -> AbstractContextManager[None]:
    """Keep cuDNN from rounding convolutions to TF32, whose errors are as large as many effects."""
    cudnn: Any = torch.backends.cudnn
    # PyTorch 2.9 split the switch by operation, and refuses to read the old one once they differ
    if hasattr(cudnn, "conv"):
        return switched([(cudnn.conv, "fp32_precision")], "ieee")
    return switched([(cudnn, "allow_tf32")], False)
