"""One bigWig of an export: what goes into it, and its writing, in whichever process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig import BigWigSummary, Writer, foreseen_bytes, write_bigwig
from tism_scan.export.chroms import n_wanted
from tism_scan.genome.alphabet import BASES
from tism_scan.plan.scoring import SD
from tism_scan.plan.tracks import Track
from tism_scan.store.arrays import rounded
from tism_scan.store.score_store import ScoreStore


@dataclass(frozen=True)
class TrackExport:
    """One bigWig of an export.

    Attributes
    ----------
    path : Path
    i_track : int
        Position of its track in the store.
    track : Track
    i_base : int or None
        The alternative base whose TISM is written, in A, C, G, T order; None for mean TISM.
    is_sd : bool
        Whether the standard deviation of mean TISM is written.
    names : Mapping from str to str
        Name in the file of every chrom of the store, in the store's order.
    chroms : tuple of str
        Those whose scores are written, as the store names them.
    keep_bits : int or None
        Mantissa bits that are kept; None keeps all that the store has.
    writer : Writer
    """

    path: Path
    i_track: int
    track: Track
    i_base: int | None
    names: Mapping[str, str]
    chroms: tuple[str, ...]
    keep_bits: int | None
    writer: Writer
    is_sd: bool = False

    @property
    def base(self) -> str | None:
        """The alternative base's letter."""
        return None if self.i_base is None else BASES[self.i_base]

    def bits_kept(self, store: ScoreStore) -> int:
        """Return how many bits of mantissa the file's scores have."""
        return min(23 if bits is None else bits for bits in (self.keep_bits, store.plan.keep_bits))

    def write(self, store: ScoreStore, n_threads: int, on_progress: Callable[[int], None]) -> BigWigSummary:
        """Write the file, and return what it holds; see `write_bigwig`."""
        plan = store.plan
        chrom_of = {name: chrom for chrom, name in self.names.items()}

        def read(name: str, start: int, end: int) -> NDArray[np.float32]:
            chrom = chrom_of[name]
            i_value = SD if self.is_sd else self.i_base
            if i_value is None:
                scores = store.read_track(chrom, start, end, self.i_track)
            else:
                scores = store.read_value(chrom, start, end, self.i_track, i_value)
            return scores if self.keep_bits is None else rounded(scores, self.keep_bits)

        return write_bigwig(
            self.path,
            {self.names[chrom]: length for chrom, length in plan.chroms.items()},
            read,
            block_bp=plan.block_bp,
            only=[self.names[chrom] for chrom in self.chroms],
            expected_bytes=foreseen_bytes(n_wanted(store.plan, self.chroms), self.bits_kept(store))[1],
            writer=self.writer,
            n_threads=n_threads,
            on_progress=on_progress,
        )
