"""How tracks are named in a variant file."""

import re
from collections.abc import Sequence

from tism_scan.plan.tracks import Track

PREFIX = "TISM_"
MISMATCH = f"{PREFIX}REFMISMATCH"
PHRED = "_PHRED"
_LONGEST = 100


def info_ids(tracks: Sequence[Track]) -> tuple[str, ...]:
    """Return the name of each track's field, such as ``TISM_K562_CTCF``.

    Returns
    -------
    tuple of str
        Letters, digits and underscores only; all different even where case is ignored, and so are those with
        ``_PHRED`` behind them, and ``TISM_REFMISMATCH``.
    """
    taken = {MISMATCH.casefold()}
    ids = []
    for track in tracks:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", track.name).strip("_")[:_LONGEST] or f"track_{track.outputs[0]}"
        number, name = 1, stem
        while taken & _fields(name):
            number += 1
            name = f"{stem}_{number}"
        taken |= _fields(name)
        ids.append(f"{PREFIX}{name}")
    return tuple(ids)


def _fields(name: str) -> set[str]:
    """Return the fields that a track of a name may have, without regard to case."""
    field = f"{PREFIX}{name}".casefold()
    return {field, f"{field}{PHRED.casefold()}"}
