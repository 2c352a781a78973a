"""From an allele to the windows that a model reads: the reference's, and the alternative's.

A variant stands at the window's centre: its first changed base is base ``input_bp // 2`` of the window. The
left flank is the same in both windows; past the allele, the right one goes on until the window is full.
Insertions and deletions are left-normalised first, as `bcftools norm` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tism_scan.genome.alphabet import BASES, N_CODE, Codes, encode, is_acgt
from tism_scan.genome.fasta import Genome

OnMismatch = Literal["flag", "skip", "swap", "fail"]
MOST_PLACEMENTS = 64  # of a repeat: each is another pair of windows

SCORED = ""
NO_ALT = "no alternative allele"
STAR = "* allele"
SYMBOLIC = "symbolic allele"
LETTERS = "letters other than A, C, G and T"
SAME = "REF and ALT are the same"
UNKNOWN_CONTIG = "contig that the genome lacks"
OFF_CHROM = "past the chrom's end"
N_IN_REF = "N in the genome"
TOO_LONG = "longer than the window holds"
MISMATCH = "REF is not the genome's"
NOT_FINITE = "the model gives NaN or infinity"
FAILED = "the model failed"
REASONS = (
    *(SCORED, NO_ALT, STAR, SYMBOLIC, LETTERS, SAME, UNKNOWN_CONTIG, OFF_CHROM, N_IN_REF, TOO_LONG),
    *(MISMATCH, NOT_FINITE, FAILED),
)
"""Why an allele has no score; they are kept by their numbers."""

_IUPAC = frozenset("ACGTRYSWKMBDHVN")
_CHUNK_BP = 256


class Allele(NamedTuple):
    """An allele of a file.

    Attributes
    ----------
    chrom : str
        As the genome names it; empty if it has no such chrom.
    position : int
        0-based.
    ref, alt : str
    """

    chrom: str
    position: int
    ref: str
    alt: str


@dataclass(frozen=True)
class Comparison:
    """One pair of windows, whose outputs are compared.

    Attributes
    ----------
    chrom, start : str and int
        Where the reference window is; chrom is empty if its bases are not the genome's.
    reference : uint8 (input_bp,)
    base : int
        For a substitution of the central base, the code of the other; else -1.
    alternative : uint8 (input_bp,) or None
        For any other allele.
    """

    chrom: str
    start: int
    reference: Codes
    base: int = -1
    alternative: Codes | None = None


@dataclass(frozen=True)
class Resolved:
    """What is to be computed for an allele, or why nothing is.

    Attributes
    ----------
    reason : str
        One of `REASONS`; empty if it is computed.
    ref_match : bool or None
        Whether REF is the genome's; None where that cannot be known.
    is_swapped : bool
        Whether REF and ALT were exchanged.
    n_in_window : int
        Bases of the reference window that are not A, C, G or T, those past the chrom's ends among them.
    comparisons : tuple of Comparison
        One, or one for each placement of a repeat.
    """

    reason: str = SCORED
    ref_match: bool | None = None
    is_swapped: bool = False
    n_in_window: int = 0
    comparisons: tuple[Comparison, ...] = ()


def resolved(
    genome: Genome,
    allele: Allele,
    input_bp: int,
    *,
    on_mismatch: OnMismatch = "flag",
    averages_shifts: bool = False,
) -> Resolved:
    """Return the windows of an allele.

    Parameters
    ----------
    genome : Genome
    allele : Allele
    input_bp : int
        Length of a window.
    on_mismatch : {"flag", "skip", "swap", "fail"}
        Where REF is not the genome's: with "flag" and "fail", the reference window has REF in the genome's
        place; with "skip", nothing is computed; with "swap", REF and ALT are exchanged if ALT is the
        genome's, and nothing is computed else.
    averages_shifts : bool
        Whether an insertion or deletion in a repeat gets a pair of windows for each of its placements.
    """
    reason = reason_of_allele(genome, allele)
    if reason:
        return Resolved(reason)
    ref, alt = encode(allele.ref), encode(allele.alt)
    found = genome.fetch(allele.chrom, allele.position, allele.position + len(ref))
    if not is_acgt(found).all():
        return Resolved(N_IN_REF)
    ref_match, is_swapped = bool(np.array_equal(found, ref)), False
    if not ref_match and on_mismatch in ("skip", "swap"):
        there = genome.fetch(allele.chrom, allele.position, allele.position + len(alt))
        if on_mismatch == "skip" or not np.array_equal(there, alt):
            return Resolved(MISMATCH, ref_match)
        ref, alt, is_swapped = alt, ref, True
    bases = _Bases(genome, allele.chrom, allele.position, ref, is_genomes=ref_match or is_swapped)
    position, ref, alt = _trimmed(allele.position, ref, alt)
    if max(len(ref), len(alt)) > input_bp - input_bp // 2:
        return Resolved(TOO_LONG, ref_match, is_swapped)
    position, ref, alt = _left_normalised(bases, position, ref, alt)
    n_places = _n_placements(bases, position, ref, alt) if averages_shifts else 1
    comparisons = tuple(
        _comparison(bases, position + shift, np.roll(ref, -shift), np.roll(alt, -shift), input_bp)
        for shift in range(n_places)
    )
    n_in_window = int((comparisons[0].reference == N_CODE).sum())
    return Resolved(SCORED, ref_match, is_swapped, n_in_window, comparisons)


def reason_of_allele(genome: Genome, allele: Allele) -> str:
    """Return why an allele cannot be computed whatever the genome's bases are; empty if it can."""
    if allele.alt in ("", "."):
        return NO_ALT
    if allele.alt == "*":
        return STAR
    if not _IUPAC.issuperset(allele.alt.upper()):
        return SYMBOLIC
    if not allele.chrom:
        return UNKNOWN_CONTIG
    if allele.position < 0 or allele.position + len(allele.ref) > genome.chroms[allele.chrom]:
        return OFF_CHROM
    if not allele.ref or not set(allele.ref.upper() + allele.alt.upper()) <= set(BASES):
        return LETTERS
    return SAME if allele.ref.upper() == allele.alt.upper() else SCORED


class _Bases:
    """A chrom with REF at its place, whether or not the genome has it there."""

    def __init__(self, genome: Genome, chrom: str, start: int, ref: Codes, *, is_genomes: bool) -> None:
        self._genome, self.chrom, self._start, self._ref = genome, chrom, start, ref
        self.is_genomes = is_genomes
        self._held_from, self._held = 0, np.empty(0, dtype=np.uint8)

    def fetch(self, start: int, end: int) -> Codes:
        codes = self._genome.fetch(self.chrom, start, end)
        first, last = max(start, self._start), min(end, self._start + len(self._ref))
        if first < last:
            codes[first - start : last - start] = self._ref[first - self._start : last - self._start]
        return codes

    def at(self, position: int) -> int:
        """Return one base; its neighbours are kept."""
        if not self._held_from <= position < self._held_from + len(self._held):
            self._held_from = position - position % _CHUNK_BP
            self._held = self.fetch(self._held_from, self._held_from + _CHUNK_BP)
        return int(self._held[position - self._held_from])


def _trimmed(position: int, ref: Codes, alt: Codes) -> tuple[int, Codes, Codes]:
    """Return an allele without the bases that REF and ALT share at their ends, the right end first."""
    n_shared = min(len(ref), len(alt))
    n_right = _n_alike(ref[::-1][:n_shared], alt[::-1][:n_shared])
    ref, alt = ref[: len(ref) - n_right], alt[: len(alt) - n_right]
    n_shared = min(len(ref), len(alt))
    n_left = _n_alike(ref[:n_shared], alt[:n_shared])
    return position + n_left, ref[n_left:], alt[n_left:]


def _n_alike(one: Codes, other: Codes) -> int:
    """Return how many of the first bases are the same."""
    differing = np.flatnonzero(one != other)
    return int(differing[0]) if len(differing) else len(one)


def _left_normalised(bases: _Bases, position: int, ref: Codes, alt: Codes) -> tuple[int, Codes, Codes]:
    """Return a trimmed insertion or deletion as far to the left as the repeat around it goes."""
    if len(ref) and len(alt):
        return position, ref, alt
    moved = ref if len(ref) else alt
    n = _n_steps(lambda step: bases.at(position - 1 - step), lambda step: int(moved[-1 - step % len(moved)]))
    return position - n, np.roll(ref, n), np.roll(alt, n)


def _n_placements(bases: _Bases, position: int, ref: Codes, alt: Codes) -> int:
    """Return at how many places from here to the right an insertion or deletion gives the same sequence."""
    if len(ref) and len(alt):
        return 1
    moved, end = ref if len(ref) else alt, position + len(ref)
    n_most = MOST_PLACEMENTS - 1
    return 1 + _n_steps(lambda step: bases.at(end + step), lambda step: int(moved[step % len(moved)]), n_most)


def _n_steps(found: Callable[[int], int], wanted: Callable[[int], int], most: int | None = None) -> int:
    """Return for how many steps what is found is what is wanted; N is never."""
    n = 0
    while (most is None or n < most) and found(n) == wanted(n):
        n += 1
    return n


def _comparison(bases: _Bases, position: int, ref: Codes, alt: Codes, input_bp: int) -> Comparison:
    """Return the windows of a trimmed allele at one of its places."""
    start = position - input_bp // 2
    reference = bases.fetch(start, start + input_bp)
    chrom = bases.chrom if bases.is_genomes else ""
    if len(ref) == len(alt) == 1:
        return Comparison(chrom, start, reference, base=int(alt[0]))
    n_right = input_bp - input_bp // 2 - len(alt)
    after = position + len(ref)
    parts = (reference[: input_bp // 2], alt, bases.fetch(after, after + n_right))
    return Comparison(chrom, start, reference, alternative=np.concatenate(parts))
