"""What a gradient becomes: every attribution here is linear in the gradient, and cheap.

With g the gradient of one output at a one-hot input x, ref the reference base of a position and p a
baseline (probabilities of the four bases):

============== ====================================== ===================================
kind           value at base b                        where x is all zeros (N)
============== ====================================== ===================================
local          g[b]                                   as elsewhere
global         g[b] * (x[b] - p[b])                   -g[b] * p[b]: 0 for a baseline of 0
corrected      g[b] - mean of g over the bases        as elsewhere
hypothetical   g[b] - sum over c of p[c] * g[c]       as elsewhere
tism           g[b] - g[ref]                          NaN: there is no reference base
============== ====================================== ===================================

Channels keep the model's own order throughout; nothing here knows an alphabet.

References
----------
Sasse, Chikina, Mostafavi, "Quick and effective approximation of in silico saturation mutagenesis experiments
with first-order Taylor expansion", bioRxiv 2023.11.10.566588 (TISM, hypothetical). Majdandzic, Rajesh, Koo,
"Correcting gradient-based interpretations of deep neural networks for genomics", Genome Biology 24, 109
(2023), doi 10.1186/s13059-023-02956-3 (corrected).
"""

from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.tism import tism_from_gradient

Kind = Literal["local", "global", "corrected", "hypothetical", "tism"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What a caller may hand in; what comes back is of the same sort.
ArrayLike = NDArray[Any] | Tensor
Array = TypeVar("Array", NDArray[Any], Tensor)


def transform(gradient: Array, X: ArrayLike, kind: Kind, baseline: ArrayLike | None = None) -> Array:
    """Return one kind of attribution, made from a gradient (or from exact ISM effects).

    Every kind but ``local`` and ``global`` depends only on differences between bases of one position, so
    the ``effect`` of exact ISM may replace the gradient; its ``corrected`` is then centred ISM.

    Parameters
    ----------
    gradient : float (N, T, 4, L)
        As `tism_scan.attribution.gradient` returns it.
    X : float (N, 4, L)
        The one-hot inputs of the gradient, all zeros at N. Slice both alike to transform a region.
    kind : {"local", "global", "corrected", "hypothetical", "tism"}
        See the table at the top of this module, with the value that each kind takes at N.
    baseline : float (4,), (4, L) or (N, 4, L), optional
        For ``global`` (default 0) and ``hypothetical`` (default 0.25, which makes it ``corrected``); by
        channel in the model's order.

    Returns
    -------
    float32 (N, T, 4, L), NumPy or torch like `gradient`
        In units of the output; NaN only for ``tism``, at N.

    Raises
    ------
    ValueError
        If a shape does not fit, the kind is unknown, a baseline is given to a kind that has none, or, for
        ``tism``, X is not one-hot.

    References
    ----------
    See the top of this module.
    """
    g = as_float32(gradient)
    x = as_float32(X).to(g.device)
    _check_shapes(g, x)
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
    if baseline is not None and kind not in ("global", "hypothetical"):
        raise ValueError(f"kind {kind!r} has no baseline; leave it out, or choose global or hypothetical")
    x = x.unsqueeze(1)  # (N, 1, 4, L): one input for all tracks
    match kind:
        case "local":
            result = g.clone()
        case "global":
            result = g * (x - _baseline_like(baseline, 0.0, x))
        case "corrected":
            result = g - g.mean(-2, keepdim=True)
        case "hypothetical":
            result = g - (g * _baseline_like(baseline, 0.25, x)).sum(-2, keepdim=True)
        case "tism":
            check_one_hot(x)
            result = tism_from_gradient(g, x)
    return like(result, gradient)


def as_float32(values: ArrayLike) -> Tensor:
    """Return values as a float32 tensor without a graph, on the device they are on."""
    if isinstance(values, Tensor):
        return values.detach().to(torch.float32)
    array = np.asarray(values, dtype=np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def like(result: Tensor, values: Array) -> Array:
    """Return a result as what the caller gave: a tensor on its device, or a NumPy array."""
    if isinstance(values, Tensor):
        return result.to(values.device)
    return result.cpu().numpy()


def check_one_hot(X: Tensor) -> None:
    """Raise ValueError unless every column of X (..., 4, L) is one-hot or all zeros."""
    is_binary = ((X == 0) | (X == 1)).all()
    if not bool(is_binary & (X.sum(-2) <= 1).all()):
        raise ValueError(
            "X is not one-hot: expected one 1 and three 0 in every column, or four 0 at N; "
            "make it with tism_scan.genome.alphabet.one_hot"
        )


def _check_shapes(gradient: Tensor, X: Tensor) -> None:
    """Raise ValueError unless gradient is (N, T, 4, L) and X the matching (N, 4, L)."""
    shape = tuple(gradient.shape)
    if len(shape) != 4 or shape[2] != 4:
        raise ValueError(f"the gradient has shape {shape}; expected (N, T, 4, L)")
    if tuple(X.shape) != (shape[0], 4, shape[3]):
        raise ValueError(
            f"X has shape {tuple(X.shape)} beside a gradient of shape {shape}; "
            f"expected {(shape[0], 4, shape[3])}; slice both to the same region"
        )


def _baseline_like(baseline: ArrayLike | None, default: float, X: Tensor) -> Tensor:
    """Return a baseline that broadcasts against X (N, 1, 4, L) and over tracks."""
    if baseline is None:
        return torch.full((4, 1), default, device=X.device)
    values = as_float32(baseline).to(X.device)
    n, _, _, length = X.shape
    if tuple(values.shape) == (4,):
        return values[:, None]
    if tuple(values.shape) == (4, length):
        return values
    if tuple(values.shape) == (n, 4, length):
        return values.unsqueeze(1)
    raise ValueError(
        f"the baseline has shape {tuple(values.shape)}; expected (4,), {(4, length)} or {(n, 4, length)}"
    )


def check_input(X: ArrayLike) -> Tensor:
    """Return X as float32 (N, 4, L), or raise ValueError."""
    x = as_float32(X)
    if x.dim() != 3 or x.shape[1] != 4 or x.numel() == 0:
        hint = "; add the first axis with X[None]" if x.dim() == 2 else ""
        raise ValueError(f"X has shape {tuple(x.shape)}; expected (N, 4, L) with N and L at least 1{hint}")
    return x
