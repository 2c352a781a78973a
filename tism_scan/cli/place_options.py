"""Types of options that name a place: a path of this machine, or a URL as well."""

from collections.abc import Callable
from pathlib import Path

import click

from tism_scan.places import Place, file_place, store_place


class _PlaceParam(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """A path or a URL."""

    name = "path or url"

    def __init__(self, place_of: Callable[[str | Place], Place]) -> None:
        self.place_of = place_of

    def convert(self, value: str | Place, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        return self.place_of(value)


PATH = click.Path(path_type=Path)
STORE = _PlaceParam(store_place)
FILE = _PlaceParam(file_place)
