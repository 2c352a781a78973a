"""A model held still while it is read: in evaluation mode, its parameters frozen, on one device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from tism_scan.errors import InputError
from tism_scan.models.rounding import rounding

# Model inputs in one pass, where nobody asked for another number.
BATCH_SIZE = 32

P = ParamSpec("P")
R = TypeVar("R")


def outside_inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that computes gradients even where its caller is in ``torch.inference_mode()``."""
    decorated: Callable[P, R] = torch.inference_mode(False)(function)
    return decorated


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
        with rounding(target, to_tf32=False, only_convolutions=True):
            yield target
    finally:
        for module, is_training in modes:
            module.training = is_training
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
        if target != home:
            model.to(home)


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError unless a batch size is at least 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the dtype that a model computes in: that of its first floating-point parameter."""
    tensors = (*model.parameters(), *model.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def _existing(device: str | torch.device) -> torch.device:
    """Return a device, or raise InputError if it is CUDA and there is none."""
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {str(device)!r} was asked for, but PyTorch sees no CUDA device here; "
            "expected 'cpu'; install a CUDA build of PyTorch to use a GPU"
        )
    return target
