"""Which base of the genome each score of a store belongs to.

TISM is exactly 0 at the genome's own base, and may be 0 at others that have no effect. So a store tells its
sequence, but for the few bases where several channels are 0; there, only the FASTA does.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import GenomeError, StoreError
from tism_scan.genome.alphabet import N_CODE, Codes
from tism_scan.genome.fasta import Genome
from tism_scan.store.score_store import ScoreStore

UNSURE = 5  # the code of a base that has scores, and that these do not tell


def check_four_bases(store: ScoreStore, command: str) -> None:
    """Raise StoreError unless a store holds TISM of all four bases."""
    if store.plan.scoring.values != "tism":
        raise StoreError(
            f"{store.path} holds mean TISM, one value a base, which says nothing of a single substitution; "
            f"`tism-scan {command}` needs a store of all four bases: make one with `tism-scan run --values "
            "tism`, another --out, and the same settings otherwise"
        )


def codes_of_scores(tism: NDArray[np.float32]) -> Codes:
    """Return the codes of the bases that scores belong to.

    Parameters
    ----------
    tism : float32 (T, 4, n)

    Returns
    -------
    uint8 (n,)
        `N_CODE` where a score is NaN, `UNSURE` where not exactly one channel is 0 in all tracks.
    """
    is_zero = (tism == 0).all(axis=0)
    codes = np.where(is_zero.sum(axis=0) == 1, is_zero.argmax(axis=0), UNSURE).astype(np.uint8)
    codes[np.isnan(tism).any(axis=(0, 1))] = N_CODE
    return codes


class Reference:
    """The genome of a store: from its scores, or from its FASTA.

    Parameters
    ----------
    chroms : Mapping from str to int
        Length of each chrom of the store.
    genome : Path or None

    Raises
    ------
    GenomeError
        If the FASTA cannot be read, or has other chroms.
    """

    def __init__(self, chroms: Mapping[str, int], genome: Path | None) -> None:
        self._genome = None if genome is None else Genome(genome)
        if self._genome is None:
            return
        for chrom, length in chroms.items():
            found = self._genome.chroms.get(chrom, 0)
            if found != length:
                raise GenomeError(
                    f"{str(genome)!r} is not the genome of the store: {chrom!r} has {found:,} bp in it, "
                    f"expected {length:,}; give the FASTA that was scanned"
                )

    @property
    def has_genome(self) -> bool:
        """Whether there is a FASTA to ask."""
        return self._genome is not None

    def codes(self, chrom: str, start: int, end: int, tism: NDArray[np.float32]) -> Codes:
        """Return the codes of some bases, uint8 (n,); `UNSURE` where neither FASTA nor scores tell.

        Parameters
        ----------
        chrom, start, end
        tism : float32 (T, 4, n)
            Their scores.

        Raises
        ------
        GenomeError
            If the FASTA cannot be read, or the scores belong to other bases.
        """
        told = codes_of_scores(tism)
        if self._genome is None:
            return told
        codes = self._genome.fetch(chrom, start, end)
        channels = np.where(codes == N_CODE, 0, codes)
        at_base = tism[:, channels, np.arange(tism.shape[-1])]
        is_other = (told != N_CODE) & ((codes == N_CODE) | (at_base != 0).any(axis=0))
        if is_other.any():
            position = start + int(is_other.argmax()) + 1
            raise GenomeError(
                f"the base {chrom}:{position:,} of the genome is not the one that was scored; expected the "
                "FASTA that was scanned; give it with --genome"
            )
        return codes
