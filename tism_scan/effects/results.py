"""The results of a part: numbers of each allele and track, as bytes."""

import io
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tism_scan.effects.haplotypes import FAILED, REASONS

NO_MATCH, MATCH, UNKNOWN = 0, 1, -1


@dataclass(frozen=True)
class Results:
    """What was found of n alleles on T tracks.

    Attributes
    ----------
    ref, diff : float32 (n, T)
        The track on the reference window, and its change in the alternative one, negative where the
        alternative lowers it; NaN without a score.
    log2fc : float32 (n, T) or (n, 0)
        log2 of the ratio of the two probabilities; without columns if outputs are no logits.
    ref_match : int8 (n,)
        1 where REF is the genome's, 0 where it is not, -1 where that cannot be known.
    is_swapped : bool (n,)
    n_in_window : int32 (n,)
        -1 without a window.
    reason : uint8 (n,)
        Which of `REASONS`.
    """

    ref: NDArray[np.float32]
    diff: NDArray[np.float32]
    log2fc: NDArray[np.float32]
    ref_match: NDArray[np.int8]
    is_swapped: NDArray[np.bool_]
    n_in_window: NDArray[np.int32]
    reason: NDArray[np.uint8]

    @property
    def alt(self) -> NDArray[np.float32]:
        """The track on the alternative window, float32 (n, T)."""
        total: NDArray[np.float32] = self.ref + self.diff
        return total

    @property
    def n_scored(self) -> int:
        """How many alleles have a score."""
        return int((self.reason == 0).sum())

    def to_bytes(self) -> bytes:
        """Return the numbers as a file of NumPy's."""
        file = io.BytesIO()
        np.savez(file, **{each.name: getattr(self, each.name) for each in fields(self)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Results":
        """Return the numbers that `to_bytes` made bytes of."""
        with np.load(io.BytesIO(content)) as held:
            return cls(**{each.name: held[each.name] for each in fields(cls)})

    @classmethod
    def empty(cls, n: int, n_tracks: int, *, has_log2fc: bool) -> "Results":
        """Return results without any score, whose model failed."""
        return cls(
            np.full((n, n_tracks), np.nan, np.float32),
            np.full((n, n_tracks), np.nan, np.float32),
            np.full((n, n_tracks if has_log2fc else 0), np.nan, np.float32),
            np.full(n, UNKNOWN, np.int8),
            np.zeros(n, np.bool_),
            np.full(n, -1, np.int32),
            np.full(n, REASONS.index(FAILED), np.uint8),
        )
