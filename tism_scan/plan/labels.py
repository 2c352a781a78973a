"""How tracks are called where they are listed, and in files: as names of files, and on one line of a text."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from tism_scan.plan.tracks import Track

EXACT_SUFFIX = "_ism"  # of files of exact ISM, behind what `file_stems` returns
_STEM_LENGTH = 150


def file_stems(tracks: Sequence[Track]) -> tuple[str, ...]:
    """Return a name for each track's file, without suffix, such as ``0267_K562_CTCF_None``.

    Returns
    -------
    tuple of str
        Letters, digits, ``.``, ``_``, ``+`` and ``-`` only, never a dot first, at most 150 characters, and
        all different even where file names ignore case.
    """
    stems = (
        _safe(f"{track.outputs[0]:04d}_{track.name}" if track.is_output else track.name) for track in tracks
    )
    return tuple(unique_names(stems, _STEM_LENGTH))


def names_apart(tracks: Sequence[Track]) -> list[str]:
    """Return each track's name, with its output's index behind it where several tracks have the name."""
    n_of = Counter(track.name for track in tracks)
    return [track.name if n_of[track.name] == 1 else f"{track.name} ({track.key})" for track in tracks]


def unique_names(names: Iterable[str], longest: int) -> list[str]:
    """Return names of limited length that differ even where case is ignored; equal ones get a number."""
    taken: set[str] = set()
    unique = []
    for name in names:
        number, candidate = 1, name[:longest]
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name[: longest - len(str(number)) - 1]}_{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def _safe(text: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_")[:_STEM_LENGTH]
    return re.sub(r"^\.", "_", stem) or "track"


def one_line(text: str, longest: int) -> str:
    """Return printable text without line breaks, cut to a length."""
    printable = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    words = " ".join(printable.split())
    return words if len(words) <= longest else f"{words[: longest - 3].rstrip()}..."
