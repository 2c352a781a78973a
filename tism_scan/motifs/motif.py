"""A motif, and files of them of either kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import InputError

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


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


def read_motifs(path: str | Path) -> list[Motif]:
    """Return the motifs of a MEME text file, plain or gzipped, or of TF-MoDISco's h5 file.

    Raises
    ------
    InputError
        If the file cannot be read, holds no motif, or one that is at fault; the first few are shown, by the
        numbers of their lines.
    """
    from tism_scan.motifs.meme import read_meme
    from tism_scan.motifs.modisco import read_patterns

    path = Path(path)
    try:
        with open(path, "rb") as file:
            is_h5 = file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC
    except OSError as error:
        raise InputError(
            f"cannot read {str(path)!r}: {error.strerror or error}; expected MEME text, or a MoDISco h5"
        ) from None
    motifs = read_patterns(path) if is_h5 else read_meme(path)
    if not motifs:
        raise InputError(f"{str(path)!r} holds no motif; expected at least one")
    return motifs


def plain_name(words: Sequence[str]) -> str:
    """Return a motif's name from words, the best known last: that one first, without blanks."""
    return "_".join("_".join(reversed(words)).split())
