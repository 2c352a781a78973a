"""Options that say which number is computed for each base; for every command that scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import click

from tism_scan.plan import OutputSpace, Strands
from tism_scan.tiling import Stitch

Command = TypeVar("Command", bound=Callable[..., Any])

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
)


@dataclass(frozen=True)
class ScoringRequest:
    """What was asked for with these options; see their help."""

    stride: int = 256
    stitch: Stitch = "center"
    strands: Strands = "forward"
    output_space: OutputSpace = "logit"

    @classmethod
    def take(cls, options: Mapping[str, Any]) -> "ScoringRequest":
        """Return the request among a command's options."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__})


def scoring_options(command: Command) -> Command:
    """Return a command with these options, in the order of the help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
