"""Synthetic sequence: motifs written at known places into random background.

References
----------
The consensus sequences are those of the JASPAR 2024 profiles named beside each (doi 10.1093/nar/gkad1059),
written in IUPAC codes; REST's is the RE1 element of Schoenherr et al. (1996), doi 10.1073/pnas.93.18.9881.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import BASES, Codes, encode, reverse_complement

_BASES_OF_IUPAC = {
    **{base: base for base in BASES},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "N": BASES},
}


@dataclass(frozen=True)
class Motif:
    """A transcription factor and the sequence that it binds.

    Attributes
    ----------
    factor : str
        Name of the factor, which is also the name of its track.
    consensus : str
        IUPAC codes; where several bases are allowed, each is drawn as often as the others.
    source : str
        JASPAR identifier of the profile.
    """

    factor: str
    consensus: str
    source: str

    def __len__(self) -> int:
        return len(self.consensus)

    def probabilities(self) -> NDArray[np.float64]:
        """Return how often each base stands at each position, float64 (4, length), in A, C, G, T order."""
        allowed = [[base in _BASES_OF_IUPAC[letter] for letter in self.consensus] for base in BASES]
        counts = np.array(allowed, dtype=np.float64)
        probabilities: NDArray[np.float64] = counts / counts.sum(axis=0)
        return probabilities

    def sample(self, rng: np.random.Generator) -> Codes:
        """Return the codes of one instance, on a strand drawn at random."""
        bases = (rng.choice(list(_BASES_OF_IUPAC[letter])) for letter in self.consensus)
        instance = encode("".join(map(str, bases)))
        return instance if rng.random() < 0.5 else reverse_complement(instance)


MOTIFS = (
    Motif("CTCF", "TGGCCASYAGRKGGCRCTA", "MA0139.1"),
    Motif("GATA1", "AGATAAGA", "MA0035.4"),
    Motif("AP-1", "RTGASTCAY", "MA0099.3"),
    Motif("NRF1", "YGCGCATGCGCR", "MA0506.2"),
    Motif("ETS", "ACCGGAAGTR", "MA0062.3"),
    Motif("REST", "TTCAGCACCATGGACAGCGCC", "MA0138.2"),
)
ACCESSIBLE = "accessible"
OUTPUT_NAMES = (*(motif.factor for motif in MOTIFS), ACCESSIBLE)


@dataclass(frozen=True)
class Site:
    """One planted motif: `start` and `end` are 0-based, half-open."""

    factor: str
    start: int
    end: int


def random_background(rng: np.random.Generator, length_bp: int, gc_content: float) -> Codes:
    """Return the codes, uint8 (length_bp,), of independent random bases."""
    at, gc = (1 - gc_content) / 2, gc_content / 2
    return rng.choice(4, size=length_bp, p=(at, gc, gc, at)).astype(np.uint8)


def plant(
    codes: Codes, motifs: Sequence[Motif], starts: Sequence[int], rng: np.random.Generator
) -> list[Site]:
    """Write an instance of each motif at its start, in place, and return the sites."""
    sites = []
    for motif, start in zip(motifs, starts, strict=True):
        codes[start : start + len(motif)] = motif.sample(rng)
        sites.append(Site(motif.factor, start, start + len(motif)))
    return sites
