"""The values of every attribution method on whole windows: both strands, either output space."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.attribution import deep_lift_shap, gradient, ism, mean_tism, tism, transform
from tism_scan.attribution.deeplift import own_shuffles
from tism_scan.attribution.transforms import Kind
from tism_scan.genome.alphabet import BASES, Codes, channel_of_base, complement_channels, one_hot
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import MeanOf, members_of
from tism_scan.plan.methods import Method, MethodSettings

_KINDS: dict[Method, Kind] = {
    "gradient": "local",
    "gradxinput": "global",
    "corrected": "corrected",
    "hypothetical": "hypothetical",
}


def attribute_codes(
    model: Model, codes: Codes, settings: MethodSettings, start: int, end: int, *, batch_size: int
) -> NDArray[np.float32]:
    """Return the values of the bases [start, end) of windows, computed where the model is.

    Parameters
    ----------
    codes : uint8 (N, L)
    model, settings, start, end, batch_size
        As for `attribute_windows`.

    Returns
    -------
    float32 (N, T, end - start), or (N, T, 4, end - start) in A, C, G, T order

    Raises
    ------
    ValueError
        If DeepLIFT/SHAP is asked for, and all shuffles of a window are alike: see `cannot_be_shuffled`.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    X = torch.from_numpy(one_hot(codes, model.alphabet)).to(device)
    values: NDArray[np.float32] = (
        attribute_windows(model, X, settings, start, end, batch_size=batch_size).cpu().numpy()
    )
    return values


def cannot_be_shuffled(error: ValueError) -> bool:
    """Return whether an error of `attribute_codes` says that all shuffles of a window are alike."""
    return "identical" in str(error)


def attribute_windows(
    model: Model, X: Tensor, settings: MethodSettings, start: int, end: int, *, batch_size: int
) -> Tensor:
    """Return the values of the bases [start, end) of windows.

    Parameters
    ----------
    model : Model
    X : float32 (N, 4, L)
        One-hot in the model's channel order, all zeros at N, on the model's device.
    settings : MethodSettings
    start, end : int
        In bp of X; for ISM the time grows with their distance.
    batch_size : int
        Model inputs in one pass.

    Returns
    -------
    float32 (N, T, end - start), or (N, T, 4, end - start) in A, C, G, T order
    """
    alphabet = model.alphabet
    readout = _probability_of(model) if settings.output_space == "probability" else model
    values = _attribute(readout, X, settings, alphabet, slice(start, end), batch_size)
    if settings.strands == "both":
        complement = complement_channels(alphabet).tolist()
        mirrored = slice(X.shape[2] - end, X.shape[2] - start)
        mirrored_settings = replace(settings, background=settings.background[::-1])  # T for A, G for C
        other = _attribute(
            readout, X.flip(2)[:, complement], mirrored_settings, alphabet, mirrored, batch_size
        )
        other = other.flip(-1)
        values = (values + (other[:, :, complement] if settings.has_bases else other)) / 2
    return values[:, :, channel_of_base(alphabet).tolist()] if settings.has_bases else values


def _probability_of(model: Model) -> nn.Module:
    """Return what computes a model's probabilities; of an ensemble, their mean, as its engine does."""
    members = [_Probability(member) for member in members_of(model)]
    return MeanOf(members) if len(members) > 1 else members[0]


class _Probability(nn.Module):
    """A model's outputs after the sigmoid; a module, so that DeepLIFT has a rule for it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.sigmoid = nn.Sigmoid()

    def forward(self, X: Tensor) -> Tensor:
        probabilities: Tensor = self.sigmoid(self.model(X))
        return probabilities


def _attribute(
    model: nn.Module, X: Tensor, settings: MethodSettings, alphabet: str, within: slice, batch_size: int
) -> Tensor:
    """Return the method's values of some bases on one strand, channels in the model's order."""
    tracks, method = settings.tracks, settings.method
    match method:
        case "ism" | "mean-ism":
            return ism(
                model,
                X,
                tracks,
                start=within.start,
                end=within.stop,
                output="effect" if method == "ism" else "mean_effect",
                batch_size=batch_size,
                progress=False,
            )
        case "tism":
            return tism(model, X, tracks, batch_size=batch_size, path=settings.path)[..., within]
        case "mean-tism":
            return mean_tism(model, X, tracks, batch_size=batch_size, path=settings.path)[..., within]
        case "deepliftshap":
            shuffles = own_shuffles(X, settings.seed)
            return deep_lift_shap(model, X, tracks, references=shuffles, batch_size=batch_size)[..., within]
    background = np.array([settings.background[BASES.index(base)] for base in alphabet], dtype=np.float32)
    values = transform(
        gradient(model, X, tracks, batch_size=batch_size, path=settings.path)[..., within],
        X[..., within],
        _KINDS[method],
        baseline=background if method == "hypothetical" else None,
    )
    return values.sum(2) if method == "gradxinput" else values
