"""Options that say which number is computed for each base; for every command that scores."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import click

from tism_scan.cli.options.common import Command, taken, with_options
from tism_scan.plan.scoring import OutputSpace, Precision, Strands, checked_path
from tism_scan.plan.tiling import DEFAULT_STRIDE, Stitch


class _PathParam(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """Points of a path, such as ``1,0.75,0.5``."""

    name = "points"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            points = [float(point) for point in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of numbers; expected points such as 1,0.75,0.5", param, ctx)
        return checked_path(points)


def path_option(**settings: Any) -> Callable[[Command], Command]:
    """Return the option for the points where gradients are taken."""
    return click.option("--path", type=_PathParam(), metavar="S,S,...", **settings)


_OPTIONS = (
    click.option(
        "--stride",
        default=DEFAULT_STRIDE,
        show_default=True,
        metavar="BP",
        help="Bases from the start of a window to the start of the next.",
    ),
    click.option(
        "--stitch",
        type=click.Choice(get_args(Stitch)),
        default="center",
        show_default=True,
        help="center: a base's score is that of the window whose centre holds it; mean: the mean over all "
        "windows that hold it; all, for models with an output for each position: its effect on every output "
        "that sees it, each counted once.",
    ),
    click.option(
        "--strands",
        type=click.Choice(get_args(Strands)),
        default="forward",
        show_default=True,
        help="both: average each window with its reverse complement; more accurate, twice the time.",
    ),
    click.option(
        "--output-space",
        type=click.Choice(get_args(OutputSpace)),
        default="logit",
        show_default=True,
        help="What the scores explain: the model's output (logit), or its sigmoid.",
    ),
    path_option(
        default="1",
        show_default=True,
        help="Average the gradients at these points between the uniform sequence (0) and the window (1): "
        "1,0.75,0.5 takes three times as long, and is closer to exact ISM; `audit` compares.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", *get_args(Precision)]),
        default="auto",
        show_default=True,
        help="Precision of matrix products. mixed: float32 forward, bfloat16 backward; split, fp16: mixed "
        "with a faster forward pass on GPUs. auto: fp32 on CPUs; on GPUs, a scan takes the fastest that "
        "agrees with fp32 on a sample of its genome, and other commands take mixed.",
    ),
)


def scoring_settings(options: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """Return the settings of a command's options, by the names that `Scoring` and `MethodSettings` give them.

    Precision "auto" becomes that of a device, or of the best one here if that is None.
    """
    from tism_scan.engine.devices import default_precision

    settings = taken(options, "stride", "stitch", "strands", "output_space", "precision", "path")
    if settings["precision"] == "auto":
        settings["precision"] = default_precision(device)
    return settings


def scoring_options(command: Command) -> Command:
    """Return a command with these options, in the order of the help."""
    return with_options(command, *_OPTIONS)
