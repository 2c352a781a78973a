"""Options that say which number is computed for each base; for every command that scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from tism_scan.cli.options.common import Command, with_options
from tism_scan.plan.scoring import OutputSpace, Precision, Scoring, Strands, Values
from tism_scan.plan.tiling import Stitch

if TYPE_CHECKING:
    from tism_scan.plan.tracks import Track

_OPTIONS = (
    click.option("--stride", default=256, show_default=True, help="Bases between windows."),
    click.option(
        "--stitch",
        type=click.Choice(get_args(Stitch)),
        default="center",
        show_default=True,
        help="Score a base from the window that it is central in, or as the mean over all that hold it.",
    ),
    click.option(
        "--strands",
        type=click.Choice(get_args(Strands)),
        default="forward",
        show_default=True,
        help="'both' averages each window with its reverse complement: better, and twice the time.",
    ),
    click.option(
        "--output-space",
        type=click.Choice(get_args(OutputSpace)),
        default="logit",
        show_default=True,
        help="What is explained: the model's output, or its sigmoid.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", *get_args(Precision)]),
        default="auto",
        show_default=True,
        help="Of products. 'mixed': float32 forward, bfloat16 backward; auto: mixed on GPUs, fp32 on CPUs.",
    ),
)


@dataclass(frozen=True)
class ScoringRequest:
    """What was asked for with these options; see their help."""

    stride: int = 256
    stitch: Stitch = "center"
    strands: Strands = "forward"
    output_space: OutputSpace = "logit"
    precision: Precision | Literal["auto"] = "auto"

    @classmethod
    def take(cls, options: Mapping[str, Any]) -> "ScoringRequest":
        """Return the request among a command's options."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__})

    def scoring(
        self,
        tracks: tuple["Track", ...],
        input_bp: int,
        *,
        values: Values = "mean",
        device: str | None = None,
    ) -> Scoring:
        """Return the settings of a scan, of tracks and windows of a length."""
        precision = self.precision_on(device)
        return Scoring(
            tracks, input_bp, self.stride, self.stitch, self.strands, self.output_space, values, precision
        )

    def precision_on(self, device: str | None) -> Precision:
        """Return the precision for a device, or for the best one here if that is None."""
        from tism_scan.engine.devices import default_precision

        return default_precision(device) if self.precision == "auto" else self.precision


def scoring_options(command: Command) -> Command:
    """Return a command with these options, in the order of the help."""
    return with_options(command, *_OPTIONS)
