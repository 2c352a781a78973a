"""How tracks are named in a variant file."""

import re
from collections.abc import Sequence

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tracks import Track

PHRED = "_PHRED"
_MISMATCH = "REFMISMATCH"
_LONGEST = 100


def quantity_of(plan: ScanPlan) -> str:
    """Return what a store's scores are called in names of fields and files: ``TISM`` or ``ISM``."""
    return "TISM" if plan.selection is None else "ISM"


def mismatch_id(plan: ScanPlan) -> str:
    """Return the name of the flag of records whose REF is another base than the store's genome has."""
    return f"{quantity_of(plan)}_{_MISMATCH}"


def info_ids(
    tracks: Sequence[Track], quantity: str = "TISM", reserved: Sequence[str] = (_MISMATCH,)
) -> tuple[str, ...]:
    """Return the name of each track's field, such as ``TISM_K562_CTCF``.

    Parameters
    ----------
    tracks : sequence of Track
    quantity : str
        What the names begin with; empty for the track's alone.
    reserved : sequence of str
        What no track may be called behind it.

    Returns
    -------
    tuple of str
        Letters, digits and underscores only; all different even where case is ignored, and so are those with
        ``_PHRED`` behind them, and the reserved ones.
    """
    prefix = f"{quantity}_" if quantity else ""
    taken = {f"{prefix}{name}".casefold() for name in reserved}
    ids = []
    for track in tracks:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", track.name).strip("_")[:_LONGEST] or f"track_{track.outputs[0]}"
        number, name = 1, stem
        while taken & _fields(f"{prefix}{name}"):
            number += 1
            name = f"{stem}_{number}"
        taken |= _fields(f"{prefix}{name}")
        ids.append(f"{prefix}{name}")
    return tuple(ids)


def _fields(name: str) -> set[str]:
    """Return the fields of a track whose first one has a name, without regard to case."""
    field = name.casefold()
    return {field, f"{field}{PHRED.casefold()}"}
