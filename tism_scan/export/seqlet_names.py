"""The motif that each seqlet is most like: its name, and what all seqlets of a name hold together.

What is compared is the sequence of a seqlet and some bases beside it, one-hot. On the demo, among 60 motifs
more, that names 94 to 100 % of a factor's seqlets after it; weighted with |scores| 75 to 100 %, with scores
47 to 100 %, and hypothetical scores do worse still: small columns are near to every motif's middle.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import InputError, StoreError
from tism_scan.export.reference import codes_of_scores
from tism_scan.export.seqlets import Seqlets
from tism_scan.genome.alphabet import N_CODE, Codes
from tism_scan.genome.fasta import Genome, check_digest
from tism_scan.motifs.motif import NO_MOTIF, Motif
from tism_scan.motifs.tomtom import MOST_BP, check_tomtom, nearest_motifs
from tism_scan.progress import steps
from tism_scan.store.refined import ExactScores
from tism_scan.store.score_store import ScoreStore

COLUMNS = ("motif", "motif_strand", "motif_p")
DEFAULT_P = 0.01
_FLANK_BP = 4


class Name(NamedTuple):
    """What a seqlet is called.

    Attributes
    ----------
    motif : str
        `NO_MOTIF` if no motif is like enough.
    strand : str
        ``+`` or ``-``; ``.`` without a motif.
    p_value : float
        Of the likeness to this motif; NaN without one.
    """

    motif: str
    strand: str
    p_value: float

    def columns(self) -> str:
        """Return the columns of a row, each after a tab."""
        p_value = NO_MOTIF if math.isnan(self.p_value) else f"{self.p_value:.3g}"
        return f"\t{self.motif}\t{self.strand}\t{p_value}"


NO_NAME = Name(NO_MOTIF, ".", math.nan)


@dataclass(frozen=True)
class Held:
    """What the seqlets of one motif hold together.

    Attributes
    ----------
    n_seqlets : int
    magnitude : float
        Sum of |score| of all their bases.
    """

    n_seqlets: int
    magnitude: float

    def __add__(self, other: "Held") -> "Held":
        return Held(self.n_seqlets + other.n_seqlets, self.magnitude + other.magnitude)


@dataclass(frozen=True)
class Naming:
    """With what seqlets are named.

    Attributes
    ----------
    motifs : tuple of Motif
    genome : Path or None
        The FASTA that was scanned; without it, a store of all four bases tells its sequence, but for bases
        where several substitutions have no effect.
    most_p : float
        The highest p-value with which a seqlet has a name. It is not corrected for the number of motifs: with
        hundreds of them, nearly every sequence has a name.

    Raises
    ------
    InputError
        If that is no p-value.
    """

    motifs: tuple[Motif, ...]
    genome: Path | None = None
    most_p: float = DEFAULT_P

    def __post_init__(self) -> None:
        if not 0 < self.most_p <= 1:
            raise InputError(f"p-value {self.most_p:g} is outside 0 to 1; expected one such as {DEFAULT_P}")

    @property
    def by_chance(self) -> float:
        """How probable it is that a sequence by chance has a name."""
        n = len(self.motifs)
        return -math.expm1(n * math.log1p(-self.most_p)) if self.most_p < 1 else 1.0

    def __str__(self) -> str:
        n = len(self.motifs)
        return f"nearest of {n:,} motif{'s' * (n != 1)}, p-value {self.most_p:g} at most"

    def check(self, store: ScoreStore) -> None:
        """Raise unless the seqlets of a store can be named.

        Raises
        ------
        InputError
            If memelite is not installed.
        GenomeError
            If the FASTA cannot be read, or is not the store's.
        StoreError
            If the store does not tell its sequence, and there is no FASTA.
        """
        check_tomtom()
        if self.genome is None:
            if store.plan.scoring.values != "tism":
                raise StoreError(
                    f"{store.path} holds mean TISM, which tells no sequence to compare with motifs; expected "
                    "the FASTA that was scanned; give it with --genome"
                )
            return
        check_digest(self.genome, store.plan.genome_digest)

    def prepare(self) -> None:
        """Compile Tomtom, unless that was done before: what was compiled is kept on disk."""
        steps.info("loading Tomtom (the first time, a minute: it is compiled)")
        nearest_motifs([np.eye(4)], self.motifs)


class Namer:
    """Names the seqlets of a store; to be closed, as a context manager does.

    Parameters
    ----------
    store : ScoreStore
    scores : ScoreStore or ExactScores
        In which the seqlets were found.
    naming : Naming
    """

    def __init__(self, store: ScoreStore, scores: ScoreStore | ExactScores, naming: Naming) -> None:
        self._store, self._scores, self._naming = store, scores, naming
        self._genome = None if naming.genome is None else Genome(naming.genome)

    def __enter__(self) -> "Namer":
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._genome is not None:
            self._genome.close()

    def names(self, i_track: int, chrom: str, found: Seqlets) -> list[Name]:
        """Return the name of each seqlet of a chrom.

        Raises
        ------
        GenomeError, StoreError
            If the sequence cannot be read.
        """
        if not len(found):
            return []
        spans = [self._compared(i_track, chrom, *span) for span in zip(found.start, found.end, strict=True)]
        first, last = min(start for start, _ in spans), max(end for _, end in spans)
        codes = self._codes(i_track, chrom, first, last)
        pieces = [codes[start - first : end - first] for start, end in spans]
        i_known = [i for i, piece in enumerate(pieces) if (piece < N_CODE).any()]
        motifs, names = self._naming.motifs, [NO_NAME] * len(spans)
        nearest = nearest_motifs([_columns(pieces[i]) for i in i_known], motifs)
        for i, i_motif, is_reverse, p_value in zip(
            i_known, nearest.i_motif, nearest.is_reverse, nearest.p_value, strict=True
        ):
            if p_value <= self._naming.most_p:
                names[i] = Name(motifs[i_motif].name, "-" if is_reverse else "+", float(p_value))
        return names

    def _compared(self, i_track: int, chrom: str, start: int, end: int) -> tuple[int, int]:
        """Return which bases of a seqlet, and beside it, are compared: not too many of them."""
        start, end = max(0, start - _FLANK_BP), min(self._store.plan.chroms[chrom], end + _FLANK_BP)
        if end - start > MOST_BP:
            magnitudes = np.abs(np.nan_to_num(self._scores.read_track(chrom, start, end, i_track)))
            start += int(np.convolve(magnitudes, np.ones(MOST_BP), "valid").argmax())
            end = start + MOST_BP
        return int(start), int(end)

    def _codes(self, i_track: int, chrom: str, start: int, end: int) -> Codes:
        """Return the codes of some bases; those of bases that are not known are higher than T's."""
        if self._genome is not None:
            return self._genome.fetch(chrom, start, end)
        return codes_of_scores(self._store.read_channels(chrom, start, end, i_track)[None])


def totals(names: Sequence[Name], found: Seqlets) -> dict[str, Held]:
    """Return what the seqlets of each motif hold."""
    held: dict[str, Held] = {}
    for name, magnitude in zip(names, found.magnitude, strict=True):
        held[name.motif] = held.get(name.motif, Held(0, 0.0)) + Held(1, float(magnitude))
    return held


def added(a: Mapping[str, Held], b: Mapping[str, Held]) -> dict[str, Held]:
    """Return what two lots of seqlets hold together."""
    nothing = Held(0, 0.0)
    return {motif: a.get(motif, nothing) + b.get(motif, nothing) for motif in {**a, **b}}


def table_rows(track: str, held: Mapping[str, Held]) -> list[tuple[str, str, int, float, float, float]]:
    """Return a row for each motif of a track, those that hold most first and the unnamed last.

    Returns
    -------
    list of (track, motif, seqlets, part of all seqlets, sum of |score|, part of that of all seqlets)
    """
    n = sum(each.n_seqlets for each in held.values())
    magnitude = sum(each.magnitude for each in held.values()) or 1.0
    order = sorted(held, key=lambda motif: (motif == NO_MOTIF, -held[motif].magnitude, motif))
    return [
        (
            track,
            motif,
            held[motif].n_seqlets,
            held[motif].n_seqlets / n,
            held[motif].magnitude,
            held[motif].magnitude / magnitude,
        )
        for motif in order
    ]


def table_text(tracks: Iterable[tuple[str, Mapping[str, Held]]]) -> str:
    """Return the motifs of tracks, by their names, as a table."""
    lines = ["track\tmotif\tn_seqlets\tpart_of_seqlets\tsum_of_magnitudes\tpart_of_magnitudes"]
    for track, held in tracks:
        for name, motif, n, part, magnitude, share in table_rows(track, held):
            lines.append(f"{name}\t{motif}\t{n}\t{part:.4f}\t{magnitude:.6g}\t{share:.4f}")
    return "\n".join(lines) + "\n"


def motif_rows(lines: Iterator[str]) -> Iterator[str]:
    """Yield a row of BED, named after its motif, for each place with a name of a file of seqlets.

    Several tracks may have one seqlet; what several of them say of the same bases comes once.
    """
    last, said = "", set[str]()
    for line in lines:
        if line.startswith("#"):
            continue
        chrom, start, end, _, score, _, _, _, motif, strand, _ = line.rstrip("\n").split("\t")
        if motif == NO_MOTIF:
            continue
        place = f"{chrom}\t{start}\t{end}"
        if place != last:
            last, said = place, set()
        if motif not in said:
            said.add(motif)
            yield f"{place}\t{motif}\t{score}\t{strand}\n"


def _columns(codes: Codes) -> NDArray[np.float64]:
    """Return the columns that stand for bases: one-hot, and all alike where a base is not known."""
    columns = np.full((4, len(codes)), 0.25)
    known = np.flatnonzero(codes < N_CODE)
    columns[:, known] = 0
    columns[codes[known], known] = 1
    return columns
