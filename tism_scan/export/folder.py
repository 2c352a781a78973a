"""The folder that an export writes into: made if it is missing, and checked for room."""

import os
import shutil
from pathlib import Path

from tism_scan.errors import ExportError


def make_folder(out: Path) -> None:
    """Make a folder unless it is there.

    Raises
    ------
    ExportError
        If nothing can be written into it, or it is a Zarr store or a part of one.
    """
    place = out.resolve()
    store = next((folder for folder in (place, *place.parents) if (folder / "zarr.json").is_file()), None)
    if store is not None:
        raise ExportError(
            f"{out} is inside the Zarr store {store}; expected a folder for files; choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise ExportError(
            f"cannot write into {out}: permission denied; change its permissions, or choose another --out"
        )


def check_room(out: Path, n_bytes: float, need: str, remedy: str) -> None:
    """Raise ExportError if a folder's disk has less room than is needed.

    Parameters
    ----------
    out : Path
    n_bytes : float
    need : str
        What needs it, with its verb, such as ``"the rows need up to"``.
    remedy : str
        What takes less room.
    """
    free = shutil.disk_usage(out).free
    if n_bytes > free:
        raise ExportError(
            f"{need} {n_bytes / 1e9:.3g} GB and {out} has {free / 1e9:.3g} GB free; make room there, choose "
            f"another --out, or {remedy}"
        )
