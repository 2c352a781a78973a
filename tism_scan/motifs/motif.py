"""A motif, whichever kind of file it is from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_MOTIF = "."  # in tables, where others have the name of one


@dataclass(frozen=True)
class Motif:
    """How often each base stands at each position of a motif.

    Attributes
    ----------
    name : str
        Without blanks.
    probabilities : float64 (4, w)
        In A, C, G, T order; each position's add up to 1.
    """

    name: str
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.probabilities.shape[1])
