"""Groups of options that several commands share."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from tism_scan.storage.places import Place, file_place, store_place

Command = TypeVar("Command", bound=Callable[..., Any])

_EMPTY = "the path is empty, as from a shell variable that is not set; expected a file or folder; name it"


def taken(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some of a command's options by name."""
    return {name: options[name] for name in names}


def with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Return a command with some options, in the order of the help."""
    for option in reversed(options):
        command = option(command)
    return command


def refuse_unused(names: Container[str], where: str) -> None:
    """Raise if an option was typed that has no meaning there, such as ``with --peaks``."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_typed = context.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.DEFAULT
        if str(parameter.name) in names and is_typed:
            raise click.UsageError(f"{parameter.opts[-1]} has no meaning {where}; leave it out")


def jobs_option(help_text: str) -> Callable[[Command], Command]:
    """Return the option for the number of processes, which is chosen by default."""
    return click.option("--jobs", type=click.IntRange(1), metavar="N", help=help_text)


# How tracks are named, wherever they are.
TRACK_GRAMMAR = (
    "indices of the model's outputs from 0, inclusive ranges, names and globs, such as 267,300-309,'*CTCF*'; "
    "or 'all'."
)
tracks_option = click.option(
    "--tracks", metavar="SPEC", help=f"Tracks of the store: {TRACK_GRAMMAR} [default: all]"
)


def values_option(help_text: str) -> Callable[[Command], Command]:
    """Return the option for which scores of a store are meant: the scan's, or the exact ISM of some bases."""
    return click.option(
        "--values", type=click.Choice(["scan", "ism"]), default="scan", show_default=True, help=help_text
    )


class _PlaceParam(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """A path or a URL; the help calls it by its name."""

    def __init__(self, name: str, place_of: Callable[[str | Place], Place]) -> None:
        self.name, self.place_of = name, place_of

    def convert(self, value: str | Place, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        if value == "":
            self.fail(_EMPTY, param, ctx)
        return self.place_of(value)


class _PathParam(click.Path):
    """A path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(_EMPTY, param, ctx)
        return super().convert(value, param, ctx)


PATH = _PathParam(path_type=Path)
PATH.name = "file"  # as the help calls it; an option for a folder says so itself
STORE = _PlaceParam("folder or url", store_place)
FILE = _PlaceParam("file or url", file_place)
