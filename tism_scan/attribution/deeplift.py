"""DeepLIFT/SHAP, computed by tangermeme; its only door.

References
----------
Lundberg, Lee, "A unified approach to interpreting model predictions", NeurIPS 2017 (DeepLIFT/SHAP).
Shrikumar, Greenside, Kundaje, "Learning important features through propagating activation differences", ICML
2017.
"""

import hashlib
import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from tism_scan.attribution.transforms import (
    KINDS,
    Array,
    ArrayLike,
    Kind,
    as_float32,
    check_input,
    check_one_hot,
    like,
    transform,
)
from tism_scan.engine.readout import Tracks, track_outputs
from tism_scan.models.frozen import BATCH_SIZE, check_batch_size, dtype_of, frozen
from tism_scan.optional import required
from tism_scan.plan.methods import N_REFERENCES

References = str | ArrayLike | Callable[..., Tensor]


def deep_lift_shap(
    model: nn.Module,
    X: Array,
    tracks: Tracks = None,
    *,
    references: References = "dinucleotide",
    n_references: int = N_REFERENCES,
    kind: Kind = "hypothetical",
    random_state: int = 0,
    warning_threshold: float = 1e-3,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
) -> Array:
    """Return DeepLIFT/SHAP attributions of each track, the mean over the references of each sequence.

    Parameters
    ----------
    model, X, tracks, device
        As for `tism_scan.attribution.gradient`; X must be one-hot. Each track takes passes of its own.
    references : str, array or callable
        What each sequence is compared with:
        ``"dinucleotide"``: `n_references` shuffles of it that keep its dinucleotide counts;
        ``"uniform"``: 0.25 in every channel; ``"zero"``: 0 in every channel;
        an array: (4,) or (4, L), one for all; (R, 4, L), R for all; (N, R, 4, L), R for each sequence;
        a callable such as those of `tangermeme.ersatz`, called as ``references(X, n=n_references,
        random_state=...)``, that returns (N, R, 4, L).
    n_references : int
        Shuffles of each sequence; for ``"dinucleotide"`` and callables.
    kind : {"local", "global", "corrected", "hypothetical", "tism"}
        What is made of the multipliers of each reference, as `transform` makes it of a gradient, with the
        reference as its baseline. The default is what TF-MoDISco reads; at the reference base it is the
        contribution of the base. ``local`` are the multipliers themselves.
    random_state : int
        Seed of the shuffles; sequence i is shuffled with ``random_state + i``.
    warning_threshold : float
        Largest accepted difference, in units of the output, between the sum of a pair's contributions and
        the change of the output.
    batch_size : int
        Pairs of sequence and reference in one pass.

    Returns
    -------
    float32 (N, T, 4, L), NumPy or torch like `X`
        In units of the output. For ``global``, the sum over a sequence is its output less the mean output
        of its references. NaN only for ``tism``, at N.

    Warns
    -----
    RuntimeWarning
        By tangermeme, where the sum misses the change of the output: the model holds an operation that has
        no DeepLIFT rule.

    Raises
    ------
    ValueError
        If X is not one-hot (N, 4, L), the references have another shape, or the kind is unknown.
    TrackError
        If a track is no output of the model.
    InputError
        If tangermeme is not installed, or the device is not there.
    """
    x = check_input(X)
    check_one_hot(x)
    check_batch_size(batch_size)
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
    tangermeme_shap = tangermeme_module("deep_lift_shap").deep_lift_shap
    baselines = _references_for(x, references, n_references, random_state)
    n_at_once = max(1, batch_size // baselines.shape[1])
    parts = []
    with frozen(model, device) as place, warnings.catch_warnings():
        # what is passed on was checked above, but tangermeme knows neither N nor references that are not
        # one-hot; its warnings about convergence are not touched
        warnings.filterwarnings("ignore", message="(X|references) must be one-hot encoded")
        readout = _TrackReadout(model, tracks).eval()
        n_tracks = _count_tracks(readout, x[:1].to(place, dtype_of(model)))
        for xs, refs in zip(torch.split(x, n_at_once), torch.split(baselines, n_at_once), strict=True):
            by_track = [
                tangermeme_shap(
                    readout,
                    xs,
                    target=i_track,
                    references=refs,
                    raw_outputs=True,
                    only_warn=True,
                    warning_threshold=warning_threshold,
                    batch_size=batch_size,
                    device=place,
                )
                for i_track in range(n_tracks)
            ]  # each (n, R, 4, L)
            parts.append(_mean_over_references(torch.stack(by_track, dim=2), xs, refs, kind))
    return like(torch.cat(parts).to(x.device), X)


def own_shuffles(X: Tensor, seed: int = 0, n_references: int = N_REFERENCES) -> Tensor:
    """Return dinucleotide shuffles of sequences, each seeded by a number and by the sequence itself.

    So those of a sequence depend neither on the others nor on its place among them.

    Parameters
    ----------
    X : float32 (N, 4, L)
        One-hot, all zeros at N.
    seed, n_references : int

    Returns
    -------
    float32 (N, n_references, 4, L), on X's device

    Raises
    ------
    ValueError
        If all shuffles of a sequence are alike.
    InputError
        If tangermeme is not installed.
    """
    shuffle = tangermeme_module("ersatz").dinucleotide_shuffle
    parts = []
    for x in X:
        content = hashlib.sha256(f"{seed} ".encode() + x.to(torch.uint8).cpu().numpy().tobytes()).digest()
        own_seed = int.from_bytes(content[:4]) >> 1  # NumPy takes 32 bits, and some generators 31
        parts.append(shuffle(x[None], n=n_references, random_state=own_seed, allow_N=True))
    return torch.cat(parts)


def tangermeme_module(name: str) -> ModuleType:
    """Return a module of tangermeme.

    Raises
    ------
    InputError
        If tangermeme is not installed.
    """
    module: ModuleType = required(
        f"tangermeme.{name}", "DeepLIFT/SHAP and random sequences", "'tism-scan[attribution]'"
    )
    return module


class _TrackReadout(nn.Module):
    """A model whose outputs are the selected tracks, as tangermeme explains one output at a time."""

    def __init__(self, model: nn.Module, tracks: Tracks) -> None:
        super().__init__()
        self.model = model
        self.tracks = tracks

    def forward(self, X: Tensor) -> Tensor:
        return track_outputs(self.model, X, self.tracks)


def _count_tracks(readout: _TrackReadout, X: Tensor) -> int:
    with torch.no_grad():
        return int(readout(X).shape[1])


def _mean_over_references(multipliers: Tensor, X: Tensor, references: Tensor, kind: Kind) -> Tensor:
    """Return (n, T, 4, L) of multipliers (n, R, T, 4, L), each transformed with its own reference."""
    n, n_references = multipliers.shape[:2]
    pairs = multipliers.flatten(0, 1)
    baseline = references.flatten(0, 1) if kind in ("global", "hypothetical") else None
    attributions = transform(
        pairs, X.repeat_interleave(n_references, dim=0).to(pairs.device), kind, baseline=baseline
    )
    return attributions.reshape(n, n_references, *attributions.shape[1:]).mean(1)


def _references_for(X: Tensor, references: References, n_references: int, random_state: int) -> Tensor:
    """Return the references of every sequence, float32 (N, R, 4, L)."""
    n, _, length = X.shape
    if isinstance(references, str):
        match references:
            case "uniform":
                return torch.full((n, 1, 4, length), 0.25, device=X.device)
            case "zero":
                return torch.zeros((n, 1, 4, length), device=X.device)
            case "dinucleotide":
                shuffle = tangermeme_module("ersatz").dinucleotide_shuffle
                shuffled: Tensor = shuffle(X, n=n_references, random_state=random_state, allow_N=True)
                return shuffled
        raise ValueError(
            f"references {references!r} are unknown; expected 'dinucleotide', 'uniform', 'zero', an array "
            "or a callable"
        )
    given = references(X, n=n_references, random_state=random_state) if callable(references) else references
    values = as_float32(given).to(X.device)
    if values.shape in ((4,), (4, length)):
        values = values.reshape(1, 4, -1)
    if values.dim() == 3:
        values = values.unsqueeze(0)
    if values.dim() != 4 or len(values) not in (1, n) or values.shape[1] == 0 or values.shape[2] != 4:
        fits = False
    else:
        fits = values.shape[3] in (1, length)
    if not fits:
        raise ValueError(
            f"the references have shape {tuple(as_float32(given).shape)}; expected (4,), {(4, length)}, "
            f"(R, 4, {length}) or ({n}, R, 4, {length})"
        )
    return values.expand(n, -1, 4, length)
