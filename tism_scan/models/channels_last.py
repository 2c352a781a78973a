"""One-dimensional layers in the memory format that CPUs compute quickest.

PyTorch's ``conv1d`` copies its input to channels-first memory. On CPUs the same convolution is faster with
the channels of a position side by side, which only two-dimensional layers keep; so while `channels_last`
lasts, models' one-dimensional layers run as two-dimensional ones of height 1. The results are the same to
float rounding, gradients included. A single window gains nothing and runs unchanged.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_Size = int | tuple[int, ...] | list[int]


class channels_last(TorchFunctionMode):  # noqa: N801  # used as a context, and named as torch names the format
    """A context in which float32 ``conv1d`` and ``max_pool1d`` run channels-last.

    Parameters
    ----------
    n_least : int
        The smallest batch that does.
    """

    def __init__(self, n_least: int = 2) -> None:
        super().__init__()
        self._n_least = n_least

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a torch function, or its two-dimensional twin."""
        twin = _TWINS.get(func)
        if twin is not None and args and _is_batch(args[0], self._n_least):
            return twin(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_batch(x: Any, n_least: int) -> bool:
    return isinstance(x, Tensor) and x.dim() == 3 and x.dtype == torch.float32 and len(x) >= n_least


def _conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: str | _Size = 0,
    dilation: _Size = 1,
    groups: int = 1,
) -> Tensor:
    return torch.conv2d(
        _flat_image(input),
        _flat_image(weight),
        bias,
        _pair(stride, 1),
        padding if isinstance(padding, str) else _pair(padding, 0),
        _pair(dilation, 1),
        groups,
    ).squeeze(2)


def _max_pool1d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    return torch.max_pool2d(
        _flat_image(input),
        _pair(kernel_size, 1),
        _pair(stride, 1) if stride else (),
        _pair(padding, 0),
        _pair(dilation, 1),
        ceil_mode,
    ).squeeze(2)


_TWINS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv1d: _conv1d,
    torch.max_pool1d: _max_pool1d,
}


def _flat_image(x: Tensor) -> Tensor:
    """Return (N, C, L) as (N, C, 1, L), channels side by side in memory."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def _pair(size: _Size, height: int) -> tuple[int, int]:
    """Return the size of a two-dimensional layer of one row."""
    return height, size if isinstance(size, int) else size[0]
