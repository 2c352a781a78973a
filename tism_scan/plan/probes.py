"""What a model computes on two fixed windows: it tells a model whose code was edited, as no digest does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.plan.tracks import Track

# Of a track's largest value. Devices round float32 a hundred times less; bfloat16 keeps eight bits, and its
# tolerance is of the largest value of all tracks.
TOLERANCE = 1e-3
TOLERANCE_OF_HALVES = 3e-2
_ROUNDING = 1e-2  # in parts of the tolerance


@dataclass(frozen=True)
class Probes:
    """The value of each track on two fixed random windows.

    Attributes
    ----------
    values : tuple of tuple of float or None
        A row for each window, with a value for each track; None for NaN and infinity.
    tolerance : float
        By how much of the largest value the same model may differ on another machine.
    """

    values: tuple[tuple[float | None, ...], ...]
    tolerance: float = TOLERANCE

    @classmethod
    def of(cls, tracks: Sequence[Track], outputs: NDArray[np.float32], *, is_half: bool = False) -> "Probes":
        """Return the values of tracks in a model's outputs, (windows, n_outputs).

        Parameters
        ----------
        tracks : sequence of Track
        outputs : float32 (windows, n_outputs)
        is_half : bool
            Whether the model computes in half precision.
        """
        columns = [
            outputs[:, list(track.outputs)].astype(np.float64) @ np.array(track.weights) for track in tracks
        ]
        rows = np.stack(columns, axis=1).astype(np.float32).tolist()
        values = tuple(tuple(value if np.isfinite(value) else None for value in row) for row in rows)
        return cls(values, TOLERANCE_OF_HALVES if is_half else TOLERANCE)

    def to_json(self) -> dict[str, Any]:
        """Return the values as plain lists and numbers."""
        return {"tolerance": self.tolerance, "values": [list(row) for row in self.values]}

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Probes":
        """Return what `to_json` described."""
        rows = (
            tuple(None if value is None else float(value) for value in row) for row in described["values"]
        )
        return cls(tuple(rows), float(described["tolerance"]))

    def difference(self, now: "Probes", tracks: Sequence[Track]) -> str | None:
        """Return how the values now differ from these, in words, or None if they are the same.

        Parameters
        ----------
        now : Probes
            Of the same tracks.
        tracks : sequence of Track

        Returns
        -------
        str or None
            Names the track that differs most.
        """
        before, after = (np.array(each.values, dtype=np.float64) for each in (self, now))  # None is NaN
        if before.shape != after.shape or before.shape[1:] != (len(tracks),):
            return f"it has outputs of shape {after.shape}, and had {before.shape}"
        known = np.isfinite(before)
        of_track = np.max(np.abs(before), axis=0, initial=0.0, where=known)
        tolerance, largest = max(self.tolerance, now.tolerance), float(of_track.max(initial=0.0))
        # Rounding is of what the outputs are made of: a track that is small beside others has theirs, too.
        allowed = tolerance * (largest if tolerance > TOLERANCE else of_track + _ROUNDING * largest)
        apart = np.abs(after - before)
        apart[np.isnan(before) != np.isnan(after)] = np.inf
        apart[np.isnan(before) & np.isnan(after)] = 0
        if not (apart > allowed).any():
            return None
        i_window, i_track = divmod(int(np.argmax(np.where(apart > allowed, apart, -1))), len(tracks))
        was, is_now = before[i_window, i_track], after[i_window, i_track]
        return f"track {tracks[i_track].name!r} is {is_now:.4g} on a fixed random window, and was {was:.4g}"
