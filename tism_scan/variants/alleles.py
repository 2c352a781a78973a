"""The alleles of a batch of records: which have a score in the store, and why the others have none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import BASES
from tism_scan.genome.spans import span_mask
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.batches import Batch
from tism_scan.variants.files import Layout, line_of, too_few_columns, windows_line_end

INDEL = "indels"
MNV = "substitutions of several bases"
STAR = "* alleles"
SYMBOLIC = "symbolic alleles"
OTHER_LETTERS = "alleles with letters other than A, C, G and T"
UNKNOWN_CONTIG = "on contigs that the store lacks"
OFF_CHROM = "beside the chrom's ends"
NOT_SCANNED = "at bases that were not scanned"
NOT_REFINED = "at bases that were not refined"
NO_SCORE = "at bases without a score (N)"

_CODE = {letter: code for code, base in enumerate(BASES) for letter in (base.encode(), base.lower().encode())}
_LETTERS = frozenset(b"ACGTNacgtnRYSWKMBDHVryswkmbdhv")
_NOT_SNV = -1
_MOST_CACHED_BYTES = 64 << 20


@dataclass
class Counts:
    """What became of records and their alleles.

    Attributes
    ----------
    n_records, n_alleles, n_scored : int
        Alleles are the alternative ones.
    unscored : Counter of str
        Alleles without a score, by reason.
    n_checked, n_mismatches : int
        Records whose REF was compared with the store, and those where it is certainly another base.
    n_unsure : int
        Records whose REF the store cannot tell from another base, since several have no effect there.
    """

    n_records: int = 0
    n_alleles: int = 0
    n_scored: int = 0
    unscored: Counter[str] = field(default_factory=Counter)
    n_checked: int = 0
    n_mismatches: int = 0
    n_unsure: int = 0

    def add(self, other: "Counts") -> None:
        """Add what became of other records."""
        for name in ("n_records", "n_alleles", "n_scored", "n_checked", "n_mismatches", "n_unsure"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unscored += other.unscored


class BlockScores:
    """TISM of all four bases at places of a store; the block that was read last stays in memory if it fits.

    Parameters
    ----------
    store : ScoreStore
    i_tracks : sequence of int
    """

    def __init__(self, store: ScoreStore, i_tracks: Sequence[int]) -> None:
        self._store, self._i_tracks = store, i_tracks
        self._held: tuple[object, list[NDArray[np.float32]]] = (None, [])

    def at(self, chrom: str, start: int, end: int, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return TISM at some bases of a block, float32 (T, 4, n); NaN without a score.

        Parameters
        ----------
        chrom : str
        start, end : int
            The block.
        offsets : int64 (n,)
            From its start.
        """
        if self._held[0] == (chrom, start):
            return np.stack([channels[:, offsets] for channels in self._held[1]])
        fits = len(self._i_tracks) * 16 * (end - start) <= _MOST_CACHED_BYTES
        found, kept = [], []
        self._held = (None, [])
        for i_track in self._i_tracks:
            channels = self._store.read_channels(chrom, start, end, i_track)
            found.append(channels[:, offsets])
            if fits:
                kept.append(channels)
        if fits:
            self._held = ((chrom, start), kept)
        return np.stack(found)


@dataclass
class ScoredBatch:
    """The records of a batch and what the store says of them.

    Attributes
    ----------
    fields : list of list of bytes
        Of each record.
    codes : list of list of int
        Code of each alternative allele, or -1 if it gets no score.
    tism : float32 (T, 4, n)
        At each record's position.
    is_mismatch : bool (n,)
    counts : Counts
    """

    fields: list[list[bytes]]
    codes: list[list[int]]
    tism: NDArray[np.float32]
    is_mismatch: NDArray[np.bool_]
    counts: Counts


def score_batch(
    batch: Batch, layout: Layout, scores: BlockScores, plan: ScanPlan, n_tracks: int, path: str
) -> ScoredBatch:
    """Return the records of a batch with their scores, of a store with a plan.

    Raises
    ------
    InputError
        If a line has too few columns or Windows' line ends.
    StoreError
        If the store is damaged.
    """
    fields = _split(batch, layout, path)
    n = len(fields)
    counts = Counts(n_records=n)
    offsets = np.array([int(each[layout.pos]) - 1 - batch.start for each in fields], dtype=np.int64)
    is_inside = np.array((offsets >= 0) & (offsets < batch.end - batch.start), dtype=np.bool_)
    tism = np.full((n_tracks, 4, n), np.nan, dtype=np.float32)
    is_wanted = np.zeros(n, dtype=np.bool_)
    if batch.chrom is not None and is_inside.any():
        wanted = span_mask(plan.wanted.get(batch.chrom, ()), batch.start, batch.end)
        is_wanted[is_inside] = wanted[offsets[is_inside]]
        if is_wanted.any():
            tism[..., is_inside] = scores.at(batch.chrom, batch.start, batch.end, offsets[is_inside])
    has_score = np.array(~np.isnan(tism).any(axis=(0, 1)), dtype=np.bool_)
    is_mismatch = _mismatches([each[layout.ref] for each in fields], tism, has_score, counts)
    unwanted = NOT_SCANNED if plan.selection is None else NOT_REFINED
    reasons = _reasons_of_places(batch.chrom, is_inside, np.where(is_wanted, NO_SCORE, unwanted), has_score)
    codes = []
    for each, reason in zip(fields, reasons, strict=True):
        alts = each[layout.alt].strip()
        alleles = [] if alts in (b".", b"") else alts.split(b",")
        codes.append([_code_of(each[layout.ref].strip(), allele, reason, counts) for allele in alleles])
    return ScoredBatch(fields, codes, tism, is_mismatch, counts)


def _split(batch: Batch, layout: Layout, path: str) -> list[list[bytes]]:
    """Return the fields of a batch's records, those of a VCF only as far as INFO, without the line end."""
    rows = []
    for number, line in enumerate(batch.lines, batch.first_line):
        line = line.removesuffix(b"\n")
        if line.endswith(b"\r"):
            raise windows_line_end(line_of(path, number))
        fields = line.split(b"\t", 8) if layout.kind == "VCF" else line.split(b"\t")
        if len(fields) < layout.n_columns:
            raise too_few_columns(line_of(path, number), len(fields), layout)
        rows.append(fields)
    return rows


def _mismatches(
    refs: Sequence[bytes], tism: NDArray[np.float32], has_score: NDArray[np.bool_], counts: Counts
) -> NDArray[np.bool_]:
    """Return the records whose REF is certainly not the base that the store was computed for.

    TISM is exactly 0 at that base. It may be 0 at others, too, that have no effect; so only a REF whose TISM
    is another number is certainly wrong.
    """
    codes = np.array([_CODE.get(ref.strip()[:1], _NOT_SNV) for ref in refs], dtype=np.int64)
    is_checked = has_score & (codes != _NOT_SNV)
    is_zero = (tism == 0).all(axis=0)
    is_ref_zero = is_zero[codes, np.arange(len(refs))]
    is_mismatch: NDArray[np.bool_] = is_checked & ~is_ref_zero
    counts.n_checked = int(is_checked.sum())
    counts.n_mismatches = int(is_mismatch.sum())
    counts.n_unsure = int((is_checked & is_ref_zero & (is_zero.sum(axis=0) > 1)).sum())
    return is_mismatch


def _reasons_of_places(
    chrom: str | None,
    is_inside: NDArray[np.bool_],
    reasons_on_chrom: NDArray[np.str_],
    has_score: NDArray[np.bool_],
) -> list[str]:
    """Return why each place has no score; empty where it has one."""
    if chrom is None:
        return [UNKNOWN_CONTIG] * len(is_inside)
    nested = np.where(has_score, "", reasons_on_chrom)
    found: list[str] = np.where(is_inside, nested, OFF_CHROM).tolist()
    return found


def _code_of(ref: bytes, alt: bytes, reason_of_place: str, counts: Counts) -> int:
    """Return the code of an alternative allele, or -1 if it gets no score, and count it."""
    counts.n_alleles += 1
    code = _CODE.get(alt, _NOT_SNV)
    is_snv = code != _NOT_SNV and len(ref) == 1 and ref in _CODE
    reason = reason_of_place if is_snv else _reason_of_allele(ref, alt) or reason_of_place or OTHER_LETTERS
    if reason:
        counts.unscored[reason] += 1
        return _NOT_SNV
    counts.n_scored += 1
    return code


def _reason_of_allele(ref: bytes, alt: bytes) -> str:
    """Return why an allele gets no score wherever it is; empty if only its letters are at fault."""
    if alt == b"*":
        return STAR
    if not alt or not _LETTERS.issuperset(alt):
        return SYMBOLIC
    if len(ref) != len(alt):
        return INDEL
    return MNV if len(ref) > 1 else ""
