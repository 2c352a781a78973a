"""The identity of a set of peaks that is attributed: which peaks, by which method, and how wide the rows are.

Each peak has one window of its own, with the peak's centre in its middle. So stride, stitch and precision
play no part: products are float32.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tism_scan.errors import PlanError
from tism_scan.genome.peaks import PeakSet
from tism_scan.plan.methods import ISM_METHODS, N_REFERENCES, MethodSettings
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.probes import Probes
from tism_scan.plan.scan_plan import BLOCKS_AIMED_AT, SHARD_BYTES
from tism_scan.plan.scoring import Scoring

PEAKS = "peaks"
DEFAULT_WIDTH = 400
MOST_IN_PART = 256
FEWEST_IN_PART = 16  # but for few peaks, or very many tracks
PASSES_AIMED_AT = 4096


@dataclass(frozen=True)
class PeakSettings:
    """Which numbers a row around a peak holds.

    Attributes
    ----------
    method : MethodSettings
    input_bp : int
        Length of the window.
    width : int
        Length of a row, in bp; even, in the middle of the window.

    Raises
    ------
    PlanError
        If the width is odd, or does not fit the window, or a setting is unknown.
    """

    method: MethodSettings
    input_bp: int
    width: int

    def __post_init__(self) -> None:
        check_width(self.width)
        if self.width > self.input_bp:
            raise PlanError(
                f"a width of {self.width:,} bp is more than the model's window of {self.input_bp:,} bp; "
                f"expected at most {self.input_bp // 2 * 2:,}; give a smaller --width"
            )
        _ = self.scoring

    @property
    def scoring(self) -> Scoring:
        """Tracks, strands and output as in a scan's plan; a window by itself has no lattice."""
        return Scoring(
            self.method.tracks,
            self.input_bp,
            stride=self.input_bp,
            strands=self.method.strands,
            output_space=self.method.output_space,
            path=self.method.path,
        )

    @property
    def row(self) -> slice:
        """Where a row is in its window."""
        first = -(-self.input_bp // 2) - self.width // 2
        return slice(first, first + self.width)

    def window_start(self, center: int) -> int:
        """Return where the window of a peak starts on its chrom; it may be negative."""
        return center - -(-self.input_bp // 2)

    @property
    def passes_per_peak(self) -> int:
        """How many windows go through the model for each peak."""
        n = len(self.method.path)
        if self.method.method in ISM_METHODS:
            n = 1 + 3 * self.width
        elif self.method.method == "deepliftshap":
            n = 2 * N_REFERENCES * len(self.method.tracks)
        return n * (2 if self.method.strands == "both" else 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a peak's row: (T, 4, width), or (T, width) for methods with one value a base."""
        bases = (4,) if self.method.has_bases else ()
        return (len(self.method.tracks), *bases, self.width)

    @property
    def bytes_per_peak(self) -> int:
        """Bytes of a peak's row of values, before they are compressed."""
        return 4 * math.prod(self.row_shape)

    def fitting_part(self, n_peaks: int) -> int:
        """Return how many peaks make a part: not too much to lose or to write, nor all if they are few."""
        fitting = MOST_IN_PART
        while fitting > FEWEST_IN_PART and fitting * self.passes_per_peak > PASSES_AIMED_AT:
            fitting //= 2
        while fitting > 1 and (
            fitting * self.bytes_per_peak > SHARD_BYTES or fitting * BLOCKS_AIMED_AT > n_peaks
        ):
            fitting //= 2
        return fitting

    def options(self) -> dict[str, Any]:
        """Return what the numbers depend on beside the scoring, as JSON."""
        described: dict[str, Any] = {"method": self.method.method, "width": self.width}
        if self.method.method == "hypothetical":
            described["background"] = list(self.method.background)
        if self.method.method == "deepliftshap":
            described |= {"seed": self.method.seed, "n_references": N_REFERENCES}
        return described

    @classmethod
    def of(cls, plan: PartsPlan) -> "PeakSettings":
        """Return the settings of a plan of peaks."""
        options, scoring = dict(plan.options), plan.scoring
        own = {name: options[name] for name in ("seed",) if name in options}
        if "background" in options:
            own["background"] = tuple(options["background"])
        method = MethodSettings(
            scoring.tracks,
            options["method"],
            strands=scoring.strands,
            output_space=scoring.output_space,
            path=scoring.path,
            **own,
        )
        return cls(method, scoring.input_bp, options["width"])


def check_width(width: int) -> None:
    """Raise PlanError unless rows of a width have a middle."""
    if width < 2 or width % 2:
        raise PlanError(f"a width of {width} has no middle; expected an even number; use {width + 1}")


def peak_plan(
    settings: PeakSettings,
    peaks: PeakSet,
    *,
    chroms: Mapping[str, int],
    genome_digest: str,
    model: str,
    weights_digest: str,
    peaks_per_part: int = 0,
    probes: Probes | None = None,
) -> PartsPlan:
    """Return the identity of the work on a set of peaks.

    Parameters
    ----------
    settings : PeakSettings
    peaks : PeakSet
    chroms, genome_digest, model, weights_digest, probes
        As for `PartsPlan`.
    peaks_per_part : int
        0 chooses.
    """
    return PartsPlan(
        PEAKS,
        len(peaks),
        peaks_per_part or settings.fitting_part(len(peaks)),
        settings.scoring,
        genome_digest=genome_digest,
        weights_digest=weights_digest,
        model=model,
        chroms=chroms,
        options={"peaks_digest": peaks.digest(), **settings.options()},
        probes=probes,
    )
