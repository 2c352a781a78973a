"""Whether a model's outputs can be differentiated where it is to be computed, and what stands in the way."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from tism_scan.errors import ModelError
from tism_scan.models.failures import is_out_of_memory, one_line
from tism_scan.models.frozen import frozen

# TorchScript runs as it was written at first, and in code of its own from the third call on.
_CALLS_OF_TORCHSCRIPT = 3


def check_differentiable(model: nn.Module, input_bp: int, device: str | torch.device | None = None) -> None:
    """Raise unless a model's outputs can be differentiated with respect to its input: one gradient is tried.

    Memory that does not hold one window is not refused here: engines say more of it.

    Parameters
    ----------
    model : torch.nn.Module
    input_bp : int
    device : str or torch.device, optional
        Where it is to be computed; by default where it is.

    Raises
    ------
    ModelError
        Names the model's tensors that are on another device, if that is why.
    """
    is_script = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    with frozen(model, device) as target:
        try:
            with torch.enable_grad():
                for _ in range(_CALLS_OF_TORCHSCRIPT if is_script else 1):
                    X = torch.zeros((1, 4, input_bp), dtype=torch.float32, device=target, requires_grad=True)
                    outputs = model(X)
                    if not outputs.requires_grad:
                        raise ModelError(
                            "the model's outputs cannot be differentiated; expected ones that depend on the "
                            "input; look for detach, no_grad or argmax in its forward, or use ism, which "
                            "needs no gradient"
                        )
                    torch.autograd.grad(outputs.sum(), X)
        except ModelError:
            raise
        except Exception as error:  # a user's forward may fail in any way
            if is_out_of_memory(error):
                return
            kind = "a TorchScript model: load the module that it was made from; " if is_script else ""
            raise ModelError(
                f"the model's outputs cannot be differentiated on {target}: {one_line(error)}; {kind}use "
                f"ism, which needs no gradient, or change the model{left_behind(model, target)}"
            ) from None


def left_behind(model: nn.Module, device: torch.device) -> str:
    """Return a hint that names plain tensors of a model on another device; nothing if there are none.

    Modules move parameters and buffers only.
    """
    found = [
        f"{name}.{key} ({tensor.device})".removeprefix("body.").removeprefix(".")
        for name, module in model.named_modules()
        for key, tensor in _plain_tensors(module)
        if tensor.device.type != device.type
    ]
    if not found:
        return ""
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return f"; not on {device.type}, since it is no buffer: {shown}; register it with register_buffer"


def move_plain_tensors(model: nn.Module, move: Callable[[Tensor], Tensor]) -> None:
    """Take tensors that are attributes of modules, and no buffers, to the device where others go.

    Some models make a table at their first call, on the device of that call.

    Parameters
    ----------
    model : torch.nn.Module
    move : callable
        What the parameters are moved by.
    """
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                target = move(torch.empty(0, device=value.device)).device
                if target != value.device:
                    setattr(module, key, value.to(target))


def take_from_inference(model: nn.Module) -> None:
    """Copy parameters and buffers that were made in inference mode, which stops gradients."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                copied = parameter.detach().clone()
                module.register_parameter(name, nn.Parameter(copied, requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_inference():
                setattr(module, name, buffer.clone())


def copied(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of a module; tensors that it computed, such as a weight that is normed, are values in it.

    Raises
    ------
    ModelError
        If it holds something that cannot be copied.
    """
    computed = {
        id(tensor): tensor.detach().clone()
        for module in model.modules()
        for _, tensor in _plain_tensors(module)
        if not tensor.is_leaf
    }
    try:
        with torch.no_grad():  # else what TorchScript copies is computed, too
            return copy.deepcopy(model, computed)
    except Exception as error:  # what a user's module holds may refuse in any way
        raise ModelError(
            f"model {name!r} cannot be copied: {one_line(error)}; expected a module of tensors and plain "
            "values; give package.module:factory, a function that makes it"
        ) from None


def _plain_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a module has as attributes, or in a list or mapping of them."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    for key, value in vars(module).items():
        if key in ("_parameters", "_buffers", "_modules"):
            continue
        if isinstance(value, Mapping):
            values = list(value.values())
        else:
            values = list(value) if isinstance(value, list | tuple) else [value]
        yield from ((key, each) for each in values if isinstance(each, Tensor))


@contextmanager
def without_reentry() -> Iterator[None]:
    """Let checkpoints of the reentrant kind, which cannot be differentiated by an input, be of the other."""
    before = checkpoint.CheckpointFunction
    checkpoint.CheckpointFunction = _NotReentrant  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        checkpoint.CheckpointFunction = before  # type: ignore[misc]


class _NotReentrant:
    """What PyTorch calls for a reentrant checkpoint, in its place."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *arguments: Any) -> Any:
        def run(*again: Any) -> Any:
            with without_reentry():  # the backward pass runs it, too, when the context is over
                return function(*again)

        return checkpoint.checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=preserve)
