"""The attribution methods, each under one name, and the settings that say which number is meant.

A base's value is in units of the output. ``mean-tism``, ``mean-ism`` and ``gradxinput`` have one value a
base, positive where the reference base supports the output. The others have one for each of the four bases:
``tism`` and ``ism`` are negative where the substitution lowers the output, and 0 at the reference base.

This module loads no torch, so that the command line's help is quick; `tism_scan.locus.values` computes.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from tism_scan.errors import PlanError
from tism_scan.plan.scoring import ONE_GRADIENT, OutputSpace, Precision, Scoring, Strands, checked_path
from tism_scan.plan.tiling import DEFAULT_STRIDE, Stitch
from tism_scan.plan.tracks import Track

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
PATHLESS_METHODS = ISM_METHODS | {"deepliftshap"}
HYPOTHETICAL_METHODS = frozenset(
    {"hypothetical", "deepliftshap"}
)  # whose values are hypothetical as they are
N_REFERENCES = 20  # shuffles of each window that ``deepliftshap`` compares it with


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
    stitch : {"center", "mean", "all"}
        As in a scan; "mean" and "all" are for ``tism`` and ``mean-tism``.
    strands : {"forward", "both"}
    output_space : {"logit", "probability"}
    background : tuple of four float
        Probabilities of A, C, G, T, the baseline of ``hypothetical``.
    seed : int
        Of the shuffles that ``deepliftshap`` compares with. Those of a window depend on it and on the
        window's own sequence, and on nothing else.
    precision : {"fp32", "tf32", "mixed", "bf16", "split", "fp16"}
        As in a scan; for ``tism`` and ``mean-tism`` on the scan's windows.
    path : tuple of float
        As in a scan; for the methods that are made of gradients.

    Raises
    ------
    PlanError
        If the method is unknown, the settings contradict each other, or the background is none.
    """

    tracks: tuple[Track, ...]
    method: Method = "mean-tism"
    stride: int = DEFAULT_STRIDE
    stitch: Stitch = "center"
    strands: Strands = "forward"
    output_space: OutputSpace = "logit"
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    seed: int = 0
    precision: Precision = "fp32"
    path: tuple[float, ...] = ONE_GRADIENT

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", checked_path(self.path))
        faults = []
        if self.method not in METHODS:
            faults.append(f"method {self.method!r} is not known; expected one of {', '.join(METHODS)}")
        elif self.stitch != "center" and self.method not in TISM_METHODS:
            faults.append(
                f"stitch {self.stitch!r} was asked for with method {self.method!r}; expected tism or "
                "mean-tism; use stitch 'center'"
            )
        if self.path != ONE_GRADIENT and self.method in PATHLESS_METHODS:
            faults.append(
                f"a path was asked for with method {self.method!r}, which is not made of gradients; expected "
                "tism, mean-tism or another gradient; leave the path out"
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
            self.tracks,
            input_bp,
            stride=self.stride,
            stitch=self.stitch,
            strands=self.strands,
            output_space=self.output_space,
            values=values,
            precision=self.precision,
            path=self.path,
        )
