"""What a model returns, as one row of outputs for each window, and what they are called."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def flat_outputs(returned: Any) -> Tensor:
    """Return what a model returned as floating-point (N, n_outputs).

    Parameters
    ----------
    returned : Tensor, or sequence or mapping of what may be returned, or None
        Tensors (N, ...) are put side by side, and their further axes flattened; None counts for nothing.

    Raises
    ------
    TypeError
        If a part is something else, or holds no floating-point numbers for each window; it is named.
    """
    heads = [head for _, head in _heads(returned)]
    if not heads:
        raise TypeError("it returns nothing; expected a tensor")
    # spelled out, since PyTorch does not infer -1 for a batch of none
    return torch.cat([head.reshape(len(head), math.prod(head.shape[1:])) for head in heads], dim=1)


def names_of_keys(returned: Any) -> tuple[str, ...] | None:
    """Return a name for each output by the keys that a model returned them under, or None without keys.

    The only output of a key bears its name; of several, the i-th is called ``key_i``.
    """
    widths: dict[str, int] = {}
    for name, head in _heads(returned):
        widths[name] = widths.get(name, 0) + math.prod(head.shape[1:])
    if not any(widths):
        return None
    return tuple(
        name if width == 1 and name else f"{name or 'output'}_{i}"
        for name, width in widths.items()
        for i in range(width)
    )


def _heads(returned: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of what a model returned, with the keys that lead to it."""
    if isinstance(returned, Tensor):
        if not returned.dim() or not returned.is_floating_point():
            kind = f"{str(returned.dtype).removeprefix('torch.')} {tuple(returned.shape)}"
            raise TypeError(f"{_called(name)} is {kind}; expected floating-point (N, ...)")
        yield name, returned
    elif isinstance(returned, Mapping):
        for key, part in returned.items():
            yield from _heads(part, f"{name}_{key}" if name else str(key))
    elif isinstance(returned, list | tuple):
        for part in returned:
            yield from _heads(part, name)
    elif returned is not None:
        raise TypeError(f"{_called(name)} is of type {type(returned).__name__}; expected a tensor")


def _called(name: str) -> str:
    return f"its output {name!r}" if name else "its output"
