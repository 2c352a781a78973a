"""What a folder's page shows beside its tracks, so that more tracks may be added to it later."""

import json
from html import unescape
from pathlib import Path

from tism_scan.browser.annotations import Annotation
from tism_scan.browser.igv import SESSION
from tism_scan.errors import InputError


def kept_settings(folder: Path) -> tuple[str | None, list[Annotation]]:
    """Return the assembly's name and the annotations of a folder's page; none if there is no page.

    Raises
    ------
    InputError
        If the page's session cannot be read.
    """
    if not (folder / SESSION).is_file():
        return None, []
    try:
        session = json.loads((folder / SESSION).read_bytes())
        genome_id = session["tism_scan"]["genome_id"]
        named = [
            (str(track["url"]).removesuffix(".bed"), unescape(track["name"]))
            for track in session["tracks"]
            if track["type"] == "annotation"
        ]
        annotations = [Annotation(stem, name, _rows(folder / f"{stem}.bed")) for stem, name in named]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / SESSION} cannot be read ({error!r}); expected the page of an export; export the "
            "scan's own scores again, or choose another --out"
        ) from None
    return genome_id, annotations


def _rows(path: Path) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines())
