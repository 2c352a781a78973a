"""How well TISM agrees with exact ISM for one's own model, and what each costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.attribution.gradients import mean_tism, tism
from tism_scan.attribution.mutagenesis import predict_substitutions
from tism_scan.attribution.transforms import ArrayLike, check_input, check_one_hot
from tism_scan.engine.devices import now
from tism_scan.engine.readout import Tracks, track_list
from tism_scan.models.frozen import BATCH_SIZE
from tism_scan.plan.scoring import ONE_GRADIENT, minus_mean_effect
from tism_scan.plan.tracks import Track

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Agreement:
    """Correlations between the Taylor approximation and exact ISM.

    Attributes
    ----------
    track : str
        The index of an output, the name of a `Track`, or ``"all"``.
    n_substitutions, n_positions : int
        Values compared. The reference base, where both are 0 by definition, and N are left out.
    tism_pearson, tism_spearman : float
        Over single substitutions. NaN where fewer than two values, or values that are all alike, are left.
    mean_tism_pearson, mean_tism_spearman : float
        Over positions, of mean TISM with the mean effect of ISM.
    slope : float
        Of the line of least squares that gives ISM's effect of a substitution by its TISM; above 1 where TISM
        understates it. NaN as for the correlations.
    """

    track: str
    n_substitutions: int
    n_positions: int
    tism_pearson: float
    tism_spearman: float
    mean_tism_pearson: float
    mean_tism_spearman: float
    slope: float


@dataclass(frozen=True)
class Concordance:
    """What `concordance` found.

    Attributes
    ----------
    per_track : tuple of Agreement
        In the order of the tracks.
    overall : Agreement
        Over the values of all tracks together, so tracks with large effects weigh most.
    tism_seconds : float
        Wall time of TISM, for every position of X.
    ism_seconds : float
        Wall time of exact ISM, for the compared positions only.
    """

    per_track: tuple[Agreement, ...]
    overall: Agreement
    tism_seconds: float
    ism_seconds: float


@dataclass(frozen=True)
class Comparison:
    """TISM and exact ISM of the same substitutions.

    Attributes
    ----------
    approximate, exact : float32 (N, T, 4, P)
        TISM and the effect of exact ISM, both 0 at the reference base.
    is_substitution : bool (N, 4, P)
        The values to compare: False at the reference base and at N.
    tism_seconds, ism_seconds : float
        As in `Concordance`.
    """

    approximate: Tensor
    exact: Tensor
    is_substitution: Tensor
    tism_seconds: float
    ism_seconds: float

    def per_track(self, names: Sequence[str]) -> tuple[Agreement, ...]:
        """Return the agreement of each track."""
        return tuple(
            agreement(name, self.approximate[:, [i]], self.exact[:, [i]], self.is_substitution)
            for i, name in enumerate(names)
        )

    def overall(self) -> Agreement:
        """Return the agreement over the values of all tracks together."""
        return agreement("all", self.approximate, self.exact, self.is_substitution)


def concordance(
    model: nn.Module,
    X: ArrayLike,
    tracks: Tracks,
    positions: Sequence[int] | slice | NDArray[np.integer[Any]],
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    path: Sequence[float] = ONE_GRADIENT,
) -> Concordance:
    """Return how well TISM and mean TISM agree with exact ISM at some positions, and the times of both.

    Parameters
    ----------
    model, X, tracks, batch_size, device, path
        As for `tism_scan.attribution.gradient`; X must be one-hot. One pass is run before the clocks start.
    positions : sequence of int, or slice
        Positions of X to mutate, 0-based, in bp; a range or an array will do. The cost of exact ISM is
        three forward passes for each position of each sequence.

    Raises
    ------
    ValueError
        If X is not one-hot (N, 4, L), or a position is outside it.
    TrackError
        If a track is no output of the model.
    InputError
        If the device is not there.
    """
    x = check_input(X)
    check_one_hot(x)
    chosen = _indices(positions, x.shape[2]).to(x.device)
    mean_tism(model, x[:1], tracks, batch_size=batch_size, device=device)  # warms up, and checks the tracks
    (found,) = compare(model, x, tracks, chosen, [path], batch_size=batch_size, device=device)
    return Concordance(
        found.per_track(_track_names(tracks, found.exact.shape[1])),
        found.overall(),
        found.tism_seconds,
        found.ism_seconds,
    )


def compare(
    model: nn.Module,
    X: Tensor,
    tracks: Tracks,
    positions: Tensor,
    paths: Sequence[Sequence[float]],
    *,
    batch_size: int,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> list[Comparison]:
    """Return TISM along each of some paths, and exact ISM, of all substitutions at some positions.

    Parameters
    ----------
    model, tracks, batch_size, device, progress
        As for `tism_scan.attribution.ism`. What is slower at first, such as loading a GPU's kernels, is in
        the times.
    X : float32 (N, 4, L)
        One-hot, all zeros at N.
    positions : int64 (P,)
        On X's device.
    paths : sequence of sequences of float
        As for `tism_scan.attribution.gradient`.

    Returns
    -------
    list of Comparison
        One for each path; all share what exact ISM found, and its time.
    """
    timed = [_timed_tism(model, X, tracks, positions, path, batch_size, device) for path in paths]
    began = now(X.device)
    predictions, at_reference = predict_substitutions(
        model, X, tracks, positions, batch_size=batch_size, device=device, progress=progress
    )
    exact = predictions - at_reference[:, :, None, None]
    ended = now(X.device)
    is_substitution = ((X == 0) & X.any(1, keepdim=True))[..., positions]
    return [Comparison(found, exact, is_substitution, seconds, ended - began) for found, seconds in timed]


def _timed_tism(
    model: nn.Module,
    X: Tensor,
    tracks: Tracks,
    positions: Tensor,
    path: Sequence[float],
    batch_size: int,
    device: str | torch.device | None,
) -> tuple[Tensor, float]:
    """Return TISM, (N, T, 4, P), along a path, and the time that it takes."""
    began = now(X.device)
    found = tism(model, X, tracks, batch_size=batch_size, device=device, path=path)[..., positions]
    return found, now(X.device) - began


def agreement(track: str, approximate: Tensor, exact: Tensor, is_substitution: Tensor) -> Agreement:
    """Return the agreement of two arrays of substitutions' effects.

    Parameters
    ----------
    track : str
        What the agreement is named.
    approximate, exact : float (N, T, 4, P)
        TISM and the effect of exact ISM, both 0 at the reference base.
    is_substitution : bool (N, 4, P)
        The values to compare: False at the reference base and at N.
    """
    mask = is_substitution.unsqueeze(1).expand(exact.shape)
    singles = [values[mask].cpu().numpy() for values in (approximate, exact)]
    is_base = mask.any(2)  # (N, T, P)
    means = [minus_mean_effect(values)[is_base].cpu().numpy() for values in (approximate, exact)]
    return Agreement(
        track,
        len(singles[0]),
        len(means[0]),
        pearson(*singles),
        spearman(*singles),
        pearson(*means),
        spearman(*means),
        slope_of(*singles),
    )


def pearson(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation of two arrays (n,); NaN if n < 2 or either is constant."""
    if len(a) < 2:
        return float("nan")
    da, db = _centred(a), _centred(b)
    scale = float(np.sqrt((da @ da) * (db @ db)))
    return float(da @ db) / scale if scale > 0 else float("nan")


def slope_of(a: Floats, b: Floats) -> float:
    """Return the slope of the line of least squares that gives b by a, (n,); NaN as `pearson`."""
    if len(a) < 2:
        return float("nan")
    da, db = _centred(a), _centred(b)
    square = float(da @ da)
    return float(da @ db) / square if square > 0 else float("nan")


def _centred(values: Floats) -> NDArray[np.float64]:
    """Return values minus their mean."""
    centred: NDArray[np.float64] = values.astype(np.float64) - values.mean(dtype=np.float64)
    return centred


def spearman(a: Floats, b: Floats) -> float:
    """Return Spearman's correlation of two arrays (n,): Pearson's of their ranks, ties sharing a rank."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Floats) -> NDArray[np.float64]:
    """Return the rank of each value, the mean rank for ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[inverse]


def _indices(positions: Sequence[int] | slice | NDArray[np.integer[Any]], length: int) -> Tensor:
    """Return positions as int64 (P,), or raise ValueError."""
    if isinstance(positions, slice):
        positions = range(*positions.indices(length))
    indices = np.asarray(positions)
    if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
        raise ValueError(f"positions {positions!r} are no list of integers; expected at least one position")
    wrong = indices[(indices < 0) | (indices >= length)]
    if wrong.size:
        raise ValueError(f"position {wrong[0]} is outside X; expected 0-{length - 1}")
    return torch.from_numpy(indices.astype(np.int64))


def _track_names(tracks: Tracks, n_tracks: int) -> list[str]:
    if tracks is None:
        return [str(i) for i in range(n_tracks)]
    return [track.name if isinstance(track, Track) else str(int(track)) for track in track_list(tracks)]
