"""What a model returns, as one row of outputs for each window, and what they are called."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tism_scan.errors import ModelError
from tism_scan.models.held import weights_of

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
        that are predicted count, and those whose probability is nearly 0 do not. Along a path of inputs the
        weights are those of the window itself; see `tism_scan.models.held`.

    Raises
    ------
    ModelError
        If there are fewer positions than are to be averaged.
    """
    positions = head.flatten(2)
    if how == "max":
        return positions.amax(2)
    if how == "mean":
        return positions.mean(2)
    if how == "wlogit":
        return (weights_of(positions) * positions).sum(2)
    center = _CENTER.fullmatch(how)
    if center is None:
        return positions.sum(2)
    n, length = int(center[1]), positions.shape[2]
    if n > length:
        raise ModelError(
            f"--reduce center:{n} was asked for, and there are {length} positions; expected {length} or fewer"
        )
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
    ModelError
        As `reduced`, or if there is nothing to reduce.
    """
    heads = tensors_of(returned)
    if not heads:
        raise TypeError("it returns nothing; expected a tensor")
    if reduction is not None:
        if all(head.dim() < 3 for head in heads):
            raise ModelError(
                f"the model's outputs have no positions for --reduce {reduction}; leave --reduce out"
            )
        heads = [reduced(head, reduction) if head.dim() > 2 else head for head in heads]
    # spelled out, since PyTorch does not infer -1 for a batch of none
    return torch.cat([head.reshape(len(head), math.prod(head.shape[1:])) for head in heads], dim=1)


def tensors_of(returned: Any) -> list[Tensor]:
    """Return the tensors (N, ...) of what a model returned, in order; TypeError as `flat_outputs`."""
    return [head for _, head in _heads(returned)]


class Reduced(nn.Module):
    """A head, and one output for each channel of it."""

    def __init__(self, head: nn.Module, reduction: str) -> None:
        super().__init__()
        self.head, self.reduction = head, reduction

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs, (N, n_outputs)."""
        return flat_outputs(self.head(features), self.reduction)


def own_names(module: nn.Module) -> Any:
    """Return what a module calls its outputs, or None; Keras means layers by the same attribute."""
    is_of_keras = any(kind.__module__.partition(".")[0] == "keras" for kind in type(module).__mro__)
    return None if is_of_keras else getattr(module, "output_names", None)


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

    Returns
    -------
    tuple of str or None
        None, too, where there are more than a million. As many as `own` has, if those are not the channels'.
    """
    heads = [
        (name, head.shape[1] if head.dim() > 1 else 1, tuple(head.shape[2:]))
        for name, head in _heads(returned)
    ]
    if own is None and not any(name for name, _, _ in heads):
        return None
    n_of_key: Counter[str] = Counter()
    for name, n_channels, _ in heads:
        n_of_key[name] += n_channels
    if own is not None and len(own) != n_of_key.total():
        return tuple(own)
    # In the order of the outputs: a key may come again, as those of several tasks do.
    n_named: Counter[str] = Counter()
    names: list[str] = []
    n_outputs = 0
    for name, n_channels, positions in heads:
        is_flat = reduction is not None or not positions
        n_outputs += n_channels * (1 if is_flat else math.prod(positions))
        if n_outputs > _MOST_NAMES:
            return None
        for _ in range(n_channels):
            channel = (
                own[n_named.total()] if own is not None else _channel(name, n_named[name], n_of_key[name])
            )
            n_named[name] += 1
            names += [channel] if is_flat else [f"{channel}@{i}" for i in range(math.prod(positions))]
    if own is None and len(set(names)) < len(names):  # as of keys "a", with two channels, and "a_0"
        names = [f"{name} ({i})" for i, name in enumerate(names)]
    return tuple(names)


def _channel(key: str, i: int, n: int) -> str:
    """Return what a channel is called that is one of n of a key."""
    return key if n == 1 and key else f"{key or 'output'}_{i}"


def _heads(returned: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of what a model returned, with the keys that lead to it."""
    if isinstance(returned, Tensor):
        if not returned.dim() or not returned.is_floating_point():
            kind = f"{str(returned.dtype).removeprefix('torch.')} {tuple(returned.shape)}"
            raise TypeError(f"{_called(name)} is {kind}; expected floating-point (N, ...)")
        yield name, returned
    elif isinstance(returned, Mapping):
        for key, part in returned.items():
            word = " ".join(str(key).split())
            yield from _heads(part, f"{name}_{word}" if name else word)
    elif isinstance(returned, list | tuple):
        for part in returned:
            yield from _heads(part, name)
    elif returned is not None:
        raise TypeError(f"{_called(name)} is of type {type(returned).__name__}; expected a tensor")


def _called(name: str) -> str:
    return f"its output {name!r}" if name else "its output"
