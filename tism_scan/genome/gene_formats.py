"""Transcripts, as the usual files of genes hold them: GTF, GFF3, BED, and UCSC's tables (refGene, genePred).

References
----------
GTF and GFF3 count from 1 and include the end; BED and UCSC's tables are 0-based and half-open. In GTF a
transcript is what shares a ``transcript_id``, in GFF3 what shares a ``Parent``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

Span = tuple[int, int]
Line = tuple[int, list[str]]

EXPECTED = "genes as GTF, GFF3, BED or a table of UCSC such as refGene, plain or gzipped"

_GTF_ATTRIBUTE = re.compile(r'([A-Za-z_]+)\s+"([^"]*)"')
_NAMES = ("Name", "gene_name", "gene", "gene_id", "locus_tag")
_MADE_UP_PREFIX = re.compile(r"^(gene|transcript|rna)[:-]")
_STRANDS = ("+", "-", ".")


class FormatError(Exception):
    """A line at fault, or a file of an unknown form; the text says which."""


@dataclass(slots=True)
class Transcript:
    """One transcript.

    Attributes
    ----------
    chrom, strand, gene, name : str
        `gene` tells genes apart, `name` is what people call it.
    exons, coding : list of (start, end)
        0-based, half-open, in no order; without exons it is one block.
    """

    chrom: str
    strand: str
    gene: str
    name: str
    exons: list[Span] = field(default_factory=list)
    coding: list[Span] = field(default_factory=list)


def read_transcripts(lines: Iterator[Line]) -> Iterable[Transcript]:
    """Return the transcripts of a file, from its lines that are neither empty nor comments.

    Raises
    ------
    FormatError
        If the first line has no known form, or a line is at fault.
    """
    first = next(lines, None)
    if first is None:
        raise FormatError("it holds no line")
    reader = _reader_for(first[1])
    if reader is None:
        shown = "\t".join(first[1])[:60]
        raise FormatError(f"line {first[0]} is of no known form: {shown!r}")
    return reader(_with_first(first, lines))


def _with_first(first: Line, lines: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from lines


def _reader_for(fields: list[str]) -> Callable[[Iterator[Line]], Iterable[Transcript]] | None:
    def are_numbers(*places: int) -> bool:
        return all(i < len(fields) and fields[i].isdigit() for i in places)

    if len(fields) == 9 and are_numbers(3, 4):
        return _read_gtf if _GTF_ATTRIBUTE.search(fields[8]) else _read_gff3
    if len(fields) >= 11 and fields[3] in _STRANDS and are_numbers(4, 5, 6, 7, 8):
        return lambda lines: _read_table(lines, 1)
    if len(fields) >= 10 and fields[2] in _STRANDS and are_numbers(3, 4, 5, 6, 7):
        return lambda lines: _read_table(lines, 0)
    if len(fields) >= 4 and are_numbers(1, 2):
        return _read_bed
    return None


def _read_bed(lines: Iterator[Line]) -> Iterator[Transcript]:
    for number, fields in lines:
        with _at(number):
            start, end = int(fields[1]), int(fields[2])
            strand = fields[5] if len(fields) > 5 and fields[5] in _STRANDS else "."
            transcript = Transcript(fields[0], strand, fields[3], fields[3], [(start, end)])
            if len(fields) >= 12:
                starts = [start + offset for offset in _numbers(fields[11])]
                sizes = _numbers(fields[10])
                transcript.exons = [(a, a + size) for a, size in zip(starts, sizes, strict=True)]
            _checked(transcript.exons)
            if len(fields) >= 8 and int(fields[7]) > int(fields[6]):
                transcript.coding = inside(transcript.exons, int(fields[6]), int(fields[7]))
        yield transcript


def _read_table(lines: Iterator[Line], shift: int) -> Iterator[Transcript]:
    """Read UCSC's tables; the first column of some is a bin, or the gene's name, and shifts the others."""
    for number, fields in lines:
        with _at(number):
            chrom, strand = fields[1 + shift], fields[2 + shift]
            exons = list(zip(_numbers(fields[8 + shift]), _numbers(fields[9 + shift]), strict=True))
            name = fields[shift]
            if len(fields) > 11 + shift:
                name = fields[11 + shift] or name
            elif shift and not fields[0].isdigit():
                name = fields[0]
            coding = inside(_checked(exons), int(fields[5 + shift]), int(fields[6 + shift]))
        yield Transcript(chrom, strand, name, name, exons, coding)


def _read_gtf(lines: Iterator[Line]) -> Iterable[Transcript]:
    found: dict[tuple[str, str], Transcript] = {}
    alone: dict[tuple[str, str], Transcript] = {}
    for number, fields in lines:
        kind = fields[2]
        if kind not in ("exon", "CDS", "gene", "transcript"):
            continue
        with _at(number):
            span, attributes = _from_one_based(fields), fields[8]
            is_part = kind in ("exon", "CDS")
            home, key = (found, "transcript_id") if is_part else (alone, "gene_id")
            place = (fields[0], _gtf_value(attributes, key) or _gtf_value(attributes, "gene_id"))
            transcript = home.get(place)
            if transcript is None:
                gene = _gtf_value(attributes, "gene_id")
                if not gene:
                    raise KeyError("gene_id")
                name = _gtf_value(attributes, "gene_name") or _gtf_value(attributes, "gene") or gene
                transcript = home[place] = Transcript(fields[0], fields[6], gene, name)
            (transcript.coding if kind == "CDS" else transcript.exons).append(span)
    return [*found.values(), *_without_parts(alone, {(t.chrom, t.gene) for t in found.values()})]


def _gtf_value(attributes: str, key: str) -> str:
    """Return the value of a key, or nothing; a regular expression takes several times as long."""
    sign = f'{key} "'
    at = attributes.find(sign)
    while at > 0 and attributes[at - 1] not in " ;\t":
        at = attributes.find(sign, at + 1)
    if at < 0:
        return dict(_GTF_ATTRIBUTE.findall(attributes)).get(key, "") if "  " in attributes else ""
    at += len(sign)
    return attributes[at : attributes.index('"', at)]


def _without_parts(alone: dict[tuple[str, str], Transcript], seen: set[tuple[str, str]]) -> list[Transcript]:
    """Return the genes that have no exon of their own, each as one block."""
    left = [gene for key, gene in alone.items() if key not in seen]
    for gene in left:
        gene.exons = [(min(start for start, _ in gene.exons), max(end for _, end in gene.exons))]
    return left


def _read_gff3(lines: Iterator[Line]) -> Iterable[Transcript]:
    parents: dict[str, str] = {}
    names: dict[str, str] = {}
    alone: dict[tuple[str, str], Transcript] = {}
    parts: list[tuple[str, str, str, str, Span]] = []
    for number, fields in lines:
        if len(fields) == 1 and fields[0].startswith(">"):
            break  # the sequence may follow
        with _at(number):
            attributes = dict(pair.split("=", 1) for pair in fields[8].strip(" ;").split(";") if "=" in pair)
            span, kind, own = _from_one_based(fields), fields[2], attributes.get("ID", "")
            above = [each for each in attributes.get("Parent", "").split(",") if each]
            if kind in ("exon", "CDS"):
                parts += [(each, fields[0], fields[6], kind, span) for each in above or [own]]
            elif own:
                parents[own] = above[0] if above else own
                names[own] = next((attributes[key] for key in _NAMES if attributes.get(key)), own)
                if kind.endswith("gene"):
                    block = alone.setdefault((fields[0], own), Transcript(fields[0], fields[6], own, ""))
                    block.exons.append(span)
    found: dict[tuple[str, str], Transcript] = {}
    for owner, chrom, strand, kind, span in parts:
        gene = parents.get(owner, owner)
        transcript = found.setdefault((chrom, owner), Transcript(chrom, strand, gene, ""))
        (transcript.coding if kind == "CDS" else transcript.exons).append(span)
    whole = [*found.values(), *_without_parts(alone, {(t.chrom, t.gene) for t in found.values()})]
    for transcript in whole:
        transcript.exons = transcript.exons or list(transcript.coding)
        name = unquote(names.get(transcript.gene, transcript.gene))
        transcript.name = _MADE_UP_PREFIX.sub("", name)
    return whole


def _from_one_based(fields: list[str]) -> Span:
    start, end = int(fields[3]) - 1, int(fields[4])
    return _checked([(start, end)])[0]


def _checked(spans: list[Span]) -> list[Span]:
    """Return spans, of which there must be some, and none empty or before the chrom's start."""
    if not spans:
        raise ValueError("it has no exon")
    for start, end in spans:
        if not 0 <= start < end:
            raise ValueError(f"the bases after {start} up to {end} are none")
    return spans


def inside(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the parts of spans from `start` to before `end`."""
    cut = ((max(a, start), min(b, end)) for a, b in spans)
    return [(a, b) for a, b in cut if a < b]


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.strip(",").split(",") if each]


class _at:  # noqa: N801  # it is used as a statement
    """Names the line of what goes wrong inside."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if isinstance(error, KeyError):
            raise FormatError(f"line {self._number} has no {error}") from None
        if isinstance(error, ValueError | IndexError):
            raise FormatError(f"line {self._number} cannot be read ({error})") from None
