"""TISM and mean TISM from a gradient: the number that everything else in this package is about."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tism_scan.models.held import HeldWeights


def tism_from_gradient(gradient: Tensor, X: Tensor) -> Tensor:
    """Return TISM: the approximate change of the output if each base replaced the reference base.

    Parameters
    ----------
    gradient : float (..., 4, L)
        Gradient of an output with respect to its one-hot input, in units of the output.
    X : float (..., 4, L)
        The one-hot input, broadcastable to `gradient`; an all-zero column is N.

    Returns
    -------
    Tensor like `gradient`, (..., 4, L)
        Negative where the substitution lowers the output; exactly 0 at the reference base; NaN in every
        channel of an N.
    """
    at_reference = (gradient * X).sum(-2, keepdim=True)
    return (gradient - at_reference).masked_fill_(_is_n(X).unsqueeze(-2), torch.nan)


def mean_tism_from_gradient(gradient: Tensor, X: Tensor) -> Tensor:
    """Return mean TISM: minus the mean of the three substitutions' TISM, one value for each position.

    It is 4/3 of the corrected gradient at the reference base.

    Parameters
    ----------
    gradient : float (..., 4, L)
        Gradient of an output with respect to its one-hot input, in units of the output.
    X : float (..., 4, L)
        The one-hot input, broadcastable to `gradient`; an all-zero column is N.

    Returns
    -------
    Tensor like `gradient`, (..., L)
        Positive where the reference base supports the output; NaN at N.
    """
    at_reference = (gradient * X).sum(-2)
    return ((4 * at_reference - gradient.sum(-2)) / 3).masked_fill_(_is_n(X), torch.nan)


def softened(X: Tensor, s: float) -> Tensor:
    """Return the sequence s of the way from the uniform one, 1/4 in each channel, to a one-hot X.

    Parameters
    ----------
    X : float (..., 4, L)
        One-hot; an all-zero column is N, and stays zero.
    s : float
        Above 0 and up to 1, which is X itself.

    Returns
    -------
    float (..., 4, L)
    """
    return X if s == 1 else s * X + (1 - s) / 4 * X.sum(-2, keepdim=True)


def mean_over_path(path: Sequence[float], X: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of what is computed of X softened by each point of a path, from high to low.

    TISM is linear in the gradient, so that the mean of TISM is TISM of the mean gradient. Where a model
    weights its positions, the weights are those of X all along the path: of a softened sequence it predicts
    next to nothing, so that its own weights would leave nothing of the gradient.
    """
    if len(path) == 1 and path[0] == 1:  # there is nothing to hold weights for
        return compute(X)
    weights = HeldWeights()
    with weights.noting():
        total = compute(softened(X, path[0]))
    if weights.noted and path[0] != 1:  # they are to be those of X
        with weights.noting():
            compute(X)
        with weights.holding():
            total = compute(softened(X, path[0]))
    for s in path[1:]:
        with weights.holding():
            total = total + compute(softened(X, s))
    return total / len(path)


def _is_n(X: Tensor) -> Tensor:
    """Return bool (..., L): where a column of X (..., 4, L) is all zeros."""
    return (X == 0).all(-2)
