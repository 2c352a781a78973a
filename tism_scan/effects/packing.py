"""The windows of many alleles in one array, with what overlaps in it once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tism_scan.effects.haplotypes import Comparison


class Packed:
    """The windows of a batch: each stretch of sequence once, end to end, and where each window is in them.

    Attributes
    ----------
    codes : uint8 (P,)
    firsts : int64 (W,)
        Where each window begins.
    input_bp : int
    references : int64 (n,)
        The reference window of each allele.
    alternatives : int64 (n,)
        The alternative window, or -1 for a substitution of the central base.
    bases : int64 (n,)
        The base that a substitution puts there, or -1.
    """

    def __init__(self, batch: Sequence[Comparison]) -> None:
        self.input_bp = len(batch[0].reference)
        self._pieces: list[NDArray[np.uint8]] = []
        self._n_packed = 0
        self._firsts: list[int] = []
        n = len(batch)
        self.references, self.alternatives = np.empty(n, np.int64), np.full(n, -1, np.int64)
        self.bases = np.array([comparison.base for comparison in batch], dtype=np.int64)
        self._pack_references(batch)
        for i, comparison in enumerate(batch):
            if comparison.alternative is not None:
                self.alternatives[i] = self._add(comparison.alternative)
        self.codes = np.concatenate(self._pieces)
        self.firsts = np.array(self._firsts, dtype=np.int64)

    def windows(self) -> NDArray[np.uint8]:
        """Return each window's codes, (W, input_bp)."""
        windows: NDArray[np.uint8] = self.codes[self.firsts[:, None] + np.arange(self.input_bp)]
        return windows

    def _pack_references(self, batch: Sequence[Comparison]) -> None:
        """Add the reference windows; those that overlap on a chrom share its bases."""
        chrom, start, end, at = "", 0, 0, {}  # of the stretch that the last window went on with
        for i in sorted(range(len(batch)), key=lambda i: (batch[i].chrom, batch[i].start)):
            each = batch[i]
            if not each.chrom:
                self.references[i] = self._add(each.reference)
                continue
            if each.chrom != chrom or each.start > end:
                self.references[i] = self._add(each.reference)
                chrom, start, at = each.chrom, each.start, {each.start: self.references[i]}
                offset = self._firsts[-1]
            elif each.start in at:
                self.references[i] = at[each.start]
            else:
                self._append(each.reference[end - each.start :])
                self.references[i] = at[each.start] = len(self._firsts)
                self._firsts.append(offset + each.start - start)
            end = each.start + self.input_bp

    def _add(self, codes: NDArray[np.uint8]) -> int:
        """Add a window by itself, and return its number."""
        self._firsts.append(self._n_packed)
        self._append(codes)
        return len(self._firsts) - 1

    def _append(self, codes: NDArray[np.uint8]) -> None:
        self._pieces.append(codes)
        self._n_packed += len(codes)
