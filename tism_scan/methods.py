"""Every attribution method under one name each, on whole windows: both strands, either output space.

A base's value is in units of the output. ``mean-tism``, ``mean-ism`` and ``gradxinput`` have one value a
base, positive where the reference base supports the output. The others have one for each of the four bases:
``tism`` and ``ism`` are negative where the substitution lowers the output, and 0 at the reference base.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import Tensor, nn

from tism_scan.alphabet import BASES, channel_of_base
from tism_scan.attribution import deep_lift_shap, gradient, ism, mean_tism, tism, transform
from tism_scan.attribution.transforms import Kind
from tism_scan.errors import PlanError
from tism_scan.plan import OutputSpace, Scoring, Strands
from tism_scan.tiling import Stitch
from tism_scan.tracks import Track

Method = Literal[
    "tism",
    "mean-tism",
    "ism",
    "mean-ism",
    "gradient",
    "gradxinput",
    "corrected",
    "hypothetical",
    "deepliftshap",
]
METHODS: tuple[Method, ...] = get_args(Method)
ONE_VALUE_METHODS = frozenset({"mean-tism", "mean-ism", "gradxinput"})
TISM_METHODS = frozenset({"tism", "mean-tism"})
ISM_METHODS = frozenset({"ism", "mean-ism"})

_KINDS: dict[Method, Kind] = {
    "gradient": "local",
    "gradxinput": "global",
    "corrected": "corrected",
    "hypothetical": "hypothetical",
}


@dataclass(frozen=True)
class MethodSettings:
    """Which number is computed for each base.

    Attributes
    ----------
    tracks : tuple of Track
    method : str
        One of `METHODS`.
    stride : int
        Distance between windows, bp, where more than one is needed.
    stitch : {"center", "mean"}
        As in a scan; "mean" is for ``tism`` and ``mean-tism``.
    strands : {"forward", "both"}
    output_space : {"logit", "probability"}
    background : tuple of four float
        Probabilities of A, C, G, T, the baseline of ``hypothetical``.
    seed : int
        Of the shuffles that ``deepliftshap`` compares with.

    Raises
    ------
    PlanError
        If the method is unknown, the settings contradict each other, or the background is none.
    """

    tracks: tuple[Track, ...]
    method: Method = "mean-tism"
    stride: int = 256
    stitch: Stitch = "center"
    strands: Strands = "forward"
    output_space: OutputSpace = "logit"
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    seed: int = 0

    def __post_init__(self) -> None:
        faults = []
        if self.method not in METHODS:
            faults.append(f"method {self.method!r} is not known; expected one of {', '.join(METHODS)}")
        elif self.stitch == "mean" and self.method not in TISM_METHODS:
            faults.append(
                f"stitch 'mean' was asked for with method {self.method!r}; expected tism or mean-tism; use "
                "stitch 'center'"
            )
        if len(self.background) != 4 or min(self.background) < 0 or abs(sum(self.background) - 1) > 1e-3:
            faults.append(
                f"background {self.background} does not fit; expected four probabilities, of A, C, G and T, "
                "that add up to 1"
            )
        if faults:
            raise PlanError(" | ".join(faults))

    @property
    def has_bases(self) -> bool:
        """Whether there is a value for each of the four bases."""
        return self.method not in ONE_VALUE_METHODS

    def scoring(self, input_bp: int) -> Scoring:
        """Return a scan's settings for the same number, of TISM or mean TISM."""
        values: Literal["tism", "mean"] = "tism" if self.method == "tism" else "mean"
        return Scoring(
            self.tracks, input_bp, self.stride, self.stitch, self.strands, self.output_space, values
        )


def attribute_windows(
    model: nn.Module, X: Tensor, settings: MethodSettings, start: int, end: int, *, batch_size: int
) -> Tensor:
    """Return the values of the bases [start, end) of windows.

    Parameters
    ----------
    model : torch.nn.Module
        With `alphabet`; see `tism_scan.attribution.gradient`.
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
    alphabet = str(model.alphabet)
    readout = _Probability(model) if settings.output_space == "probability" else model
    values = _attribute(readout, X, settings, alphabet, slice(start, end), batch_size)
    if settings.strands == "both":
        complement = channel_of_base(alphabet)[[3 - BASES.index(base) for base in alphabet]].tolist()
        mirrored = slice(X.shape[2] - end, X.shape[2] - start)
        other = _attribute(readout, X.flip(2)[:, complement], settings, alphabet, mirrored, batch_size)
        other = other.flip(-1)
        values = (values + (other[:, :, complement] if settings.has_bases else other)) / 2
    return values[:, :, channel_of_base(alphabet).tolist()] if settings.has_bases else values


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
            return tism(model, X, tracks, batch_size=batch_size)[..., within]
        case "mean-tism":
            return mean_tism(model, X, tracks, batch_size=batch_size)[..., within]
        case "deepliftshap":
            multipliers = deep_lift_shap(model, X, tracks, random_state=settings.seed, batch_size=batch_size)
            return multipliers[..., within]
    background = np.array([settings.background[BASES.index(base)] for base in alphabet], dtype=np.float32)
    values = transform(
        gradient(model, X, tracks, batch_size=batch_size)[..., within],
        X[..., within],
        _KINDS[method],
        baseline=background if method == "hypothetical" else None,
    )
    return values.sum(2) if method == "gradxinput" else values
