"""The alleles of a variant file, one by one: what the parts of the work are made of."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from tism_scan.effects.haplotypes import Allele, OnMismatch, reason_of_allele
from tism_scan.errors import InputError, StoreError
from tism_scan.genome.alphabet import Codes, encode, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.plan.parts import Part
from tism_scan.store.parts import INPUT, PartStore
from tism_scan.variants.files import VariantFile, line_of, too_few_columns, windows_line_end
from tism_scan.variants.places import Contigs, position_of

_CHUNK_BP = 1 << 20
_CHECKED_BEFORE_REFUSAL = 10


class Item(NamedTuple):
    """One alternative allele of a file; of a record without any, the record.

    Attributes
    ----------
    contig : str
        As the file names it.
    id : str
    allele : Allele
    """

    contig: str
    id: str
    allele: Allele


def items_of(file: VariantFile, contigs: Contigs) -> Iterator[tuple[int, Item]]:
    """Yield each allele of a file with the number of its line, in the file's order.

    Raises
    ------
    InputError
        If a line cannot be read.
    """
    layout = file.layout
    i_id = _column_of_id(file)
    n_split = max(layout.chrom, layout.pos, layout.ref, layout.alt, i_id or 0) + 1
    number = len(file.header)
    for piece in file.pieces():
        for line in piece:
            number += 1
            where = line_of(file.path, number)
            if line.endswith(b"\r\n"):
                raise windows_line_end(where)
            fields = line.rstrip(b"\n").decode(errors="replace").split("\t", n_split)
            n_columns = line.count(b"\t") + 1
            if n_columns < max(n_split, layout.n_columns):
                raise too_few_columns(where, n_columns, layout)
            contig, text, ref, alts = (
                fields[i].strip() for i in (layout.chrom, layout.pos, layout.ref, layout.alt)
            )
            position = position_of(text, where)
            chrom, name = contigs.chrom(contig) or "", "." if i_id is None else fields[i_id].strip() or "."
            for alt in (alts or ".").split(","):
                yield number, Item(contig, name, Allele(chrom, position, ref, alt))


def _column_of_id(file: VariantFile) -> int | None:
    """Return which column holds a record's name, if one does."""
    if file.layout.kind == "VCF":
        return 2
    columns = file.header[-1].decode(errors="replace").lstrip("#").split("\t")
    names = [name.strip().upper() for name in columns]
    return names.index("ID") if "ID" in names else None


def packed(items: list[Item]) -> bytes:
    """Return alleles as bytes, for a part's input."""
    rows = ("\t".join((each.contig, each.id, *map(str, each.allele))) for each in items)
    return zlib.compress("\n".join(rows).encode(), 1)


def unpacked(content: bytes) -> list[Item]:
    """Return the alleles that `packed` made bytes of."""
    rows = [row.split("\t") for row in zlib.decompress(content).decode().split("\n")]
    return [Item(row[0], row[1], Allele(row[2], int(row[3]), row[4], row[5])) for row in rows]


def items_of_part(store: PartStore, part: Part) -> list[Item]:
    """Return the alleles of a part, as they were given to the workers.

    Raises
    ------
    StoreError
        If they are missing or damaged.
    """
    name = name_of_input(part.i_part)
    try:
        items = unpacked(store.read_input(name))
    except (zlib.error, ValueError, IndexError):
        items = []
    if len(items) != part.size:
        raise StoreError(
            f"{INPUT}/{name} is damaged in {store.path}; expected the alleles of {part}; delete that folder, "
            "and run again"
        )
    return items


def inputs_of(file: VariantFile, contigs: Contigs, items_per_part: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each part's input."""
    items = (item for _, item in items_of(file, contigs))
    i_part = 0
    while piece := list(islice(items, items_per_part)):
        yield name_of_input(i_part), packed(piece)
        i_part += 1


def name_of_input(i_part: int) -> str:
    """Return the name of a part's input."""
    return f"{i_part:07d}"


@dataclass
class Survey:
    """What a file holds, from one reading of it.

    Attributes
    ----------
    n_items : int
    n_checked, n_mismatches : int
        Alleles whose REF was compared with the genome, and those where it is another sequence.
    first_mismatch : str
        Where the first of them is.
    is_sorted : bool
        Whether positions do not fall, and each contig is in one piece.
    farthest_bp : int
        The last base of any REF, past its chrom's end or not.
    """

    n_items: int = 0
    n_checked: int = 0
    n_mismatches: int = 0
    first_mismatch: str = ""
    is_sorted: bool = True
    farthest_bp: int = 0
    _contigs: set[str] = field(default_factory=set)
    _last: tuple[str, int] = ("", -1)

    def add(self, number: int, item: Item, bases: "ReferenceBases", on_mismatch: OnMismatch) -> None:
        """Count an allele."""
        self.n_items += 1
        self._follow(item)
        if reason_of_allele(bases.genome, item.allele):
            return
        chrom, position, ref, alt = item.allele
        found = bases.at(chrom, position, position + len(ref))
        if not is_acgt(found).all():
            return
        self.n_checked += 1
        is_other = not np.array_equal(found, encode(ref))
        if is_other and on_mismatch == "swap":
            is_other = not np.array_equal(bases.at(chrom, position, position + len(alt)), encode(alt))
        if is_other:
            self.n_mismatches += 1
            self.first_mismatch = self.first_mismatch or (
                f"line {number:,}, {item.contig}:{position + 1:,}, has REF {ref[:20]!r}"
            )

    def _follow(self, item: Item) -> None:
        contig, position = self._last
        if item.contig == contig:
            self.is_sorted &= item.allele.position >= position
        else:
            self.is_sorted &= item.contig not in self._contigs
            self._contigs.add(item.contig)
        self._last = item.contig, item.allele.position
        self.farthest_bp = max(self.farthest_bp, item.allele.position + len(item.allele.ref))

    def check(self, file: VariantFile, on_mismatch: OnMismatch) -> None:
        """Raise InputError if nothing is there, or REF is mostly, or with "fail" ever, not the genome's."""
        if not self.n_items:
            raise InputError(f"{str(file.path)!r} holds no variant; expected records below its header")
        if on_mismatch == "fail" and self.n_mismatches:
            raise InputError(
                f"{self.n_mismatches:,} of {self.n_checked:,} REF alleles of {str(file.path)!r} are not the "
                f"genome's, the first: {self.first_mismatch}; expected variants of this genome; give another "
                "--on-mismatch, or lift them over"
            )
        if self.n_checked >= _CHECKED_BEFORE_REFUSAL and 2 * self.n_mismatches > self.n_checked:
            raise InputError(
                f"{str(file.path)!r} is of another genome: {self.n_mismatches:,} of {self.n_checked:,} REF "
                "alleles are not this one's; expected variants of its assembly; lift them over"
            )


class ReferenceBases:
    """Bases of a genome, read a megabase at once, since variants are mostly sorted."""

    def __init__(self, genome: Genome) -> None:
        self.genome = genome
        self._where, self._codes = ("", 0, 0), np.empty(0, dtype=np.uint8)

    def at(self, chrom: str, start: int, end: int) -> Codes:
        """Return the bases [start, end) of a chrom."""
        held, first, last = self._where
        if chrom != held or not first <= start <= end <= last:
            first, last = start, max(end, start + _CHUNK_BP)
            self._where, self._codes = (chrom, first, last), self.genome.fetch(chrom, first, last)
        return self._codes[start - first : end - first]


def survey(file: VariantFile, contigs: Contigs, genome: Genome, on_mismatch: OnMismatch) -> Survey:
    """Return what a file holds.

    Raises
    ------
    InputError
        If a line cannot be read, no contig is known, most REF alleles are not the genome's, or any is, with
        "fail".
    """
    found, bases = Survey(), ReferenceBases(genome)
    for number, item in items_of(file, contigs):
        found.add(number, item, bases, on_mismatch)
    contigs.check_any_known(file)
    found.check(file, on_mismatch)
    return found
