"""What a model returns, as one row of outputs for each window, and what they are called."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tism_scan.errors import ModelError

REDUCTIONS = ("sum", "mean", "max", "wlogit")
_CENTER = re.compile(r"center:([1-9]\d*)")
_MOST_NAMES = 1_000_000


def check_reduction(how: str) -> None:
    """Raise ModelError unless this is a way to make one output of all positions of a channel.

    Raises
    ------
    ModelError
    """
    if how not in REDUCTIONS and not _CENTER.fullmatch(how):
        raise ModelError(
            f"reduction {how!r} is not known; expected one of {', '.join(REDUCTIONS)}, or center:N, such as "
            "center:1; correct --reduce"
        )


def reduced(head: Tensor, how: str) -> Tensor:
    """Return one output for each channel of outputs for each position, (N, C, ...) to (N, C).

    Parameters
    ----------
    head : float (N, C, ...)
        Logits.
    how : str
        Over all positions, "sum", "mean" or "max"; "center:N", the mean of the N positions in the middle; or
        "wlogit", the sum of logits weighted by their sigmoid, which is held fixed in the gradient: positions
        that are predicted count, and those whose probability is nearly 0 do not.

    Raises
    ------
    ValueError
        If there are fewer positions than are to be averaged.
    """
    positions = head.flatten(2)
    if how == "max":
        return positions.amax(2)
    if how == "mean":
        return positions.mean(2)
    if how == "wlogit":
        return (positions.detach().sigmoid() * positions).sum(2)
    center = _CENTER.fullmatch(how)
    if center is None:
        return positions.sum(2)
    n, length = int(center[1]), positions.shape[2]
    if n > length:
        raise ValueError(f"the reduction is center:{n}, and there are {length} positions")
    start = (length - n) // 2
    return positions[:, :, start : start + n].mean(2)


def flat_outputs(returned: Any, reduction: str | None = None) -> Tensor:
    """Return what a model returned as floating-point (N, n_outputs).

    Parameters
    ----------
    returned : Tensor, or sequence or mapping of what may be returned, or None
        Tensors (N, ...) are put side by side, and their further axes flattened; None counts for nothing.
    reduction : str, optional
        What makes one output of all positions of a channel, where there are positions; see `reduced`.

    Raises
    ------
    TypeError
        If a part is something else, or holds no floating-point numbers for each window; it is named.
    ValueError
        As `reduced`, or if there is nothing to reduce.
    """
    heads = [head for _, head in _heads(returned)]
    if not heads:
        raise TypeError("it returns nothing; expected a tensor")
    if reduction is not None:
        if all(head.dim() < 3 for head in heads):
            raise ValueError(f"its outputs have no positions for --reduce {reduction}; leave --reduce out")
        heads = [reduced(head, reduction) if head.dim() > 2 else head for head in heads]
    # spelled out, since PyTorch does not infer -1 for a batch of none
    return torch.cat([head.reshape(len(head), math.prod(head.shape[1:])) for head in heads], dim=1)


class Reduced(nn.Module):
    """A head, and one output for each channel of it."""

    def __init__(self, head: nn.Module, reduction: str) -> None:
        super().__init__()
        self.head, self.reduction = head, reduction

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs, (N, n_outputs)."""
        return flat_outputs(self.head(features), self.reduction)


def names_of(
    returned: Any, own: Sequence[str] | None = None, reduction: str | None = None
) -> tuple[str, ...] | None:
    """Return a name for each output, or None if nothing is named.

    Parameters
    ----------
    returned : Any
        What a model returned.
    own : sequence of str, optional
        Names of the channels, by the model itself. Without, they bear the key under which they were returned:
        the only one of a key its name, the i-th of several ``key_i``.
    reduction : str, optional
        As for `flat_outputs`. Without, outputs for each position are called ``channel@position``, 0-based.
    """
    shapes = [
        (name, head.shape[1] if head.dim() > 1 else 1, head.shape[2:]) for name, head in _heads(returned)
    ]
    n_of_key: Counter[str] = Counter()
    for name, n_channels, _ in shapes:
        n_of_key[name] += n_channels
    keys = [
        name if n == 1 and name else f"{name}_{i}" if name else str(i)
        for name, n in n_of_key.items()
        for i in range(n)
    ]
    channels = list(keys) if own is None else list(own)
    has_positions = reduction is None and any(positions for _, _, positions in shapes)
    if not has_positions:
        return tuple(channels) if own is not None or any(n_of_key) else None
    lengths = [math.prod(positions) for _, n, positions in shapes for _ in range(n)]
    if sum(lengths) > _MOST_NAMES or len(channels) != len(lengths):
        return None if own is None else tuple(own)
    return tuple(f"{channel}@{i}" for channel, n in zip(channels, lengths, strict=True) for i in range(n))


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
