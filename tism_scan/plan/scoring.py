"""Which number is computed for each base."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from numpy.typing import NDArray

from tism_scan.errors import PlanError
from tism_scan.genome.alphabet import BASES
from tism_scan.plan.tiling import DEFAULT_STRIDE, Lattice, Stitch
from tism_scan.plan.tracks import Track

if TYPE_CHECKING:
    from torch import Tensor

Effects = TypeVar("Effects", NDArray[Any], "Tensor")

Strands = Literal["forward", "both"]
OutputSpace = Literal["logit", "probability"]
Values = Literal["mean", "tism", "mean+sd"]
Precision = Literal["fp32", "tf32", "mixed", "bf16", "split", "fp16"]
_AXES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tism": ("base", tuple(BASES)),
    "mean+sd": ("statistic", ("mean", "sd")),
}
MEAN, SD = range(2)  # where each is on the axis "statistic"
ONE_GRADIENT = (1.0,)  # the path of the original TISM
_CHOICES = {
    "stitch": get_args(Stitch),
    "strands": get_args(Strands),
    "output_space": get_args(OutputSpace),
    "values": get_args(Values),
    "precision": get_args(Precision),
}


@dataclass(frozen=True)
class Scoring:
    """Which number is computed for each base.

    Attributes
    ----------
    tracks : tuple of Track
        What is scored, in the order of the store's first axis.
    input_bp : int
        Length of the model's window.
    stride : int
        Distance between windows, bp.
    stitch : {"center", "mean", "all"}
        A base's score comes from the window whose core holds it, or is the mean over all windows that do, or
        their sum: where the outputs of neighbouring windows continue each other, every output that sees the
        base then counts once.
    strands : {"forward", "both"}
        With "both", the mean of the scores of the window and of its reverse complement.
    output_space : {"logit", "probability"}
        What is differentiated: the model's output, or its sigmoid.
    values : {"mean", "tism", "mean+sd"}
        Mean TISM, one value a base; TISM of all four bases in A, C, G, T order; or, of an ensemble, mean TISM
        and its standard deviation over the models.
    precision : {"fp32", "tf32", "mixed", "bf16", "split", "fp16"}
        Of products: float32; float32 rounded to TF32, on GPUs only; "mixed", a float32 forward pass and a
        bfloat16 backward pass; bfloat16 in both; as "mixed", but with a forward pass in three bfloat16
        products ("split") or one float16 product ("fp16"). Sums, and what is stored, are float32.
    path : tuple of float
        Points between the uniform sequence (0) and the window (1), from high to low. TISM is that of the mean
        of the gradients there; (1.0,) is the original.

    Raises
    ------
    PlanError
        If a setting is not one of those listed, or the stride does not fit the window.
    """

    tracks: tuple[Track, ...]
    input_bp: int
    stride: int = DEFAULT_STRIDE
    stitch: Stitch = "center"
    strands: Strands = "forward"
    output_space: OutputSpace = "logit"
    values: Values = "mean"
    precision: Precision = "fp32"
    path: tuple[float, ...] = ONE_GRADIENT

    def __post_init__(self) -> None:
        if not self.tracks:
            raise PlanError("no track was chosen; expected at least one, see `tism-scan tracks`")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise PlanError(
                    f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(allowed)}"
                )
        object.__setattr__(self, "path", checked_path(self.path))
        _ = self.lattice

    @property
    def lattice(self) -> Lattice:
        """Where the windows are placed."""
        return Lattice(self.input_bp, self.stride)

    @property
    def reach(self) -> slice:
        """The part of a window whose scores are used."""
        lattice = self.lattice
        if self.stitch != "center":
            return slice(0, lattice.input_bp)
        return slice(lattice.flank, lattice.flank + lattice.stride)

    @property
    def axis(self) -> tuple[str, tuple[str, ...]] | None:
        """The name and the labels of the axis between track and position, or None for one value a base."""
        return _AXES.get(self.values)

    @property
    def n_channels(self) -> int:
        """Values per track and base."""
        return len(self.axis[1]) if self.axis else 1

    @property
    def n_gradients(self) -> int:
        """Gradients of each track and window: one for each strand and point of the path."""
        return (2 if self.strands == "both" else 1) * len(self.path)

    def to_json(self) -> dict[str, Any]:
        """Return the scoring as plain lists, dicts, strings and numbers; a weight of 1 is 1.0."""
        tracks = [Track.from_json(track.to_json()).to_json() for track in self.tracks]
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"tracks": tracks}

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Scoring":
        """Return the scoring that `to_json` described."""
        tracks = tuple(Track.from_json(track) for track in described["tracks"])
        return cls(**dict(described) | {"tracks": tracks})

    @property
    def path_note(self) -> str:
        """What a line about the settings ends with: nothing for the original TISM."""
        return "" if self.path == ONE_GRADIENT else f", path {path_text(self.path)}"


def checked_path(path: Iterable[float]) -> tuple[float, ...]:
    """Return the points of a path from high to low, or raise PlanError if they are none."""
    try:
        points = tuple(sorted((float(s) for s in path), reverse=True))
    except (TypeError, ValueError):
        raise PlanError(f"path {path!r} is none; expected numbers such as (1, 0.75, 0.5)") from None
    if not points or not all(0 < s <= 1 for s in points) or len(set(points)) < len(points):
        raise PlanError(
            f"path {path_text(points) or '(nothing)'} is none; expected different numbers above 0 and up to "
            "1, such as 1,0.75,0.5; 1 alone is the original TISM"
        )
    return points


def path_text(path: Iterable[float]) -> str:
    """Return a path as it is typed: ``1,0.75,0.5``."""
    return ",".join(f"{s:.12g}" for s in path)


def minus_mean_effect(effects: Effects) -> Effects:
    """Return minus the mean effect of the three substitutions: mean TISM of TISM, mean ISM of ISM.

    Parameters
    ----------
    effects : float (..., 4, L), NumPy or torch
        In units of the output; 0 at the reference base, so that the four add up to the three.

    Returns
    -------
    float (..., L), as `effects`
        Positive where the reference base supports the output; NaN where a base is NaN.
    """
    negated: Effects = -effects.sum(-2) / 3
    return negated
