"""Which of a store's tracks are meant."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from tism_scan.errors import TrackError
from tism_scan.tracks import Track


def choose_tracks(tracks: Sequence[Track], spec: str | None) -> list[int]:
    """Return the positions of the tracks that a selection fits, in the store's order.

    Parameters
    ----------
    tracks : sequence of Track
        The store's tracks.
    spec : str or None
        Comma-separated output indices, names and globs; None fits all.

    Raises
    ------
    TrackError
        If a part of the selection fits no track of the store; the nearest names are listed.
    """
    if spec is None:
        return list(range(len(tracks)))
    chosen: set[int] = set()
    faults = []
    for part in filter(None, map(str.strip, spec.split(","))):
        fitting = {
            i
            for i, track in enumerate(tracks)
            if part in (track.key, track.name) or fnmatchcase(track.name, part)
        }
        if not fitting:
            near = difflib.get_close_matches(part, [track.name for track in tracks], n=5, cutoff=0.3)
            faults.append(
                f"{part!r} fits no track of the store" + (f"; nearest: {', '.join(near)}" if near else "")
            )
        chosen |= fitting
    if faults or not chosen:
        raise TrackError(" | ".join(faults) or f"{spec!r} chooses no track; give indices, names or globs")
    return sorted(chosen)
