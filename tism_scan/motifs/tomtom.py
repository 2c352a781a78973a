"""The motif that a sequence is most like, by Tomtom's p-value.

References
----------
Gupta et al., Genome Biology 8, R24 (2007), doi 10.1186/gb-2007-8-2-r24; computed by memelite.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.motifs.motif import Motif
from tism_scan.optional import required

MOST_BP = 40  # of a sequence that is compared: memory grows with the third power


@dataclass(frozen=True)
class Nearest:
    """The nearest motif of each of some sequences.

    Attributes
    ----------
    i_motif : int64 (n,)
    is_reverse : bool (n,)
        Whether it is the motif's reverse complement.
    p_value : float64 (n,)
        Of the likeness to this motif, by chance and given the columns of all motifs; not corrected for their
        number.
    """

    i_motif: NDArray[np.int64]
    is_reverse: NDArray[np.bool_]
    p_value: NDArray[np.float64]


def check_tomtom() -> None:
    """Raise InputError unless memelite is installed."""
    _memelite()


def nearest_motifs(sequences: Sequence[NDArray[np.float64]], motifs: Sequence[Motif]) -> Nearest:
    """Return the motif with the lowest p-value for each sequence, on either strand.

    The first call compiles Tomtom, which takes a minute; what was compiled is kept on disk.

    Parameters
    ----------
    sequences : sequence of float64 (4, w)
        One-hot, or probabilities; each with a base at least, and at most `MOST_BP`.
    motifs : sequence of Motif

    Raises
    ------
    InputError
        If memelite is not installed.
    """
    if not sequences:
        return Nearest(np.empty(0, np.int64), np.empty(0, bool), np.empty(0))
    tomtom = _memelite().tomtom
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of few motifs, which our command says itself
        found = tomtom(
            [np.ascontiguousarray(each) for each in sequences],
            [each.probabilities for each in motifs],
            n_nearest=1,
            n_jobs=1,
        )
    p_value, _, _, _, strand, i_motif = found[:, :, 0]
    return Nearest(i_motif.astype(np.int64), strand == 1, np.clip(p_value, 0, 1))


def _memelite() -> Any:
    return required("memelite.tomtom", "--motifs", "'tism-scan[motifs]'")
