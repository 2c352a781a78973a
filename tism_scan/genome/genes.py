"""Genes, one transcript each, to be drawn beside scores and found by their names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tism_scan.errors import RegionError
from tism_scan.genome.gene_formats import (
    EXPECTED,
    FormatError,
    Line,
    Span,
    Transcript,
    inside,
    read_transcripts,
)
from tism_scan.genome.intervals import unknown_chrom
from tism_scan.genome.lines import columns, text_lines

_NO_DATA = ("#", "track ", "browser ")


@dataclass(frozen=True)
class Gene:
    """One gene, as one of its transcripts has it.

    Attributes
    ----------
    chrom, name, strand : str
    exons : tuple of (start, end)
        In order, apart from one another; 0-based, half-open.
    coding : (start, end)
        From the first coding base to after the last; empty, at the end, where there is none.
    """

    chrom: str
    name: str
    strand: str
    exons: tuple[Span, ...]
    coding: Span

    @property
    def start(self) -> int:
        """Where the first exon starts."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """Where the last exon ends."""
        return self.exons[-1][1]


@dataclass(frozen=True)
class GenesRead:
    """What a file of genes holds for some chroms.

    Attributes
    ----------
    genes : tuple of Gene
        In the order of the chroms, then of their starts.
    n_elsewhere : int
        Transcripts on other chroms.
    """

    genes: tuple[Gene, ...]
    n_elsewhere: int


def read_genes(
    path: str | Path, chroms: Mapping[str, int], other_names: Mapping[str, str] | None = None
) -> GenesRead:
    """Return the genes of a file that are on some chroms.

    Of a gene's transcripts the one with the longest coding sequence is taken, then the one with the longest
    exons, then the leftmost. Transcripts of one name that do not overlap are genes of their own.

    Parameters
    ----------
    path : str or Path
        GTF, GFF3, BED, or a table of UCSC such as refGene; plain or gzipped.
    chroms : mapping from str to int
        Length of every chrom, in bp.
    other_names : mapping from str to str, optional
        The chrom that goes by another name in the file.

    Raises
    ------
    RegionError
        If the file cannot be read, none of it is on the chroms, or a gene lies past the end of its chrom.
    """
    path, names = Path(path), dict.fromkeys(chroms) | dict(other_names or {})
    by_gene: dict[tuple[str, str, str], list[Transcript]] = defaultdict(list)
    n_elsewhere, stranger = 0, ""
    try:
        for transcript in read_transcripts(_fields(path)):
            if transcript.chrom not in names:
                n_elsewhere, stranger = n_elsewhere + 1, stranger or transcript.chrom
                continue
            transcript.chrom = names[transcript.chrom] or transcript.chrom
            by_gene[transcript.chrom, transcript.strand, transcript.gene].append(transcript)
    except FormatError as error:
        raise RegionError(f"{path} cannot be used: {error}; expected {EXPECTED}") from None
    if not by_gene:
        shown = unknown_chrom(stranger, chroms) if stranger else f"expected {EXPECTED}"
        raise RegionError(f"no gene of {path} is on a chrom of the tracks: {shown}")
    genes = [_gene(_longest(same), chroms, path) for all_ in by_gene.values() for same in _apart(all_)]
    rank = {chrom: i for i, chrom in enumerate(chroms)}
    genes.sort(key=lambda gene: (rank[gene.chrom], gene.start, gene.end, gene.name))
    return GenesRead(tuple(genes), n_elsewhere)


def bed12(genes: Iterable[Gene]) -> Iterator[tuple[str, ...]]:
    """Yield the twelve columns of each gene in a BED file."""
    for gene in genes:
        sizes = "".join(f"{end - start}," for start, end in gene.exons)
        starts = "".join(f"{start - gene.start}," for start, _ in gene.exons)
        ends = (str(gene.start), str(gene.end))
        coding = tuple(map(str, gene.coding))
        name = "_".join(gene.name.split()) or "."
        yield (gene.chrom, *ends, name, "0", gene.strand, *coding, "0", str(len(gene.exons)), sizes, starts)


def _fields(path: Path) -> Iterator[Line]:
    for number, line in text_lines(path, EXPECTED):
        if line.strip() and not line.startswith(_NO_DATA):
            yield number, columns(line)


def _span(transcript: Transcript) -> Span:
    spans = transcript.exons or transcript.coding
    return min(start for start, _ in spans), max(end for _, end in spans)


def _apart(transcripts: list[Transcript]) -> Iterator[list[Transcript]]:
    """Yield the transcripts of one name in groups that overlap."""
    same: list[Transcript] = []
    reach = 0
    for transcript in sorted(transcripts, key=_span):
        start, end = _span(transcript)
        if same and start >= reach:
            yield same
            same = []
        same.append(transcript)
        reach = max(reach, end)
    yield same


def _longest(transcripts: list[Transcript]) -> Transcript:
    def length(spans: list[Span]) -> int:
        return sum(end - start for start, end in spans)

    return max(transcripts, key=lambda each: (length(each.coding), length(each.exons)))


def _gene(transcript: Transcript, chroms: Mapping[str, int], path: Path) -> Gene:
    length = chroms[transcript.chrom]
    start, end = _span(transcript)
    if start >= length:
        raise RegionError(
            f"{path} has {transcript.name!r} at {transcript.chrom}:{start + 1:,}-{end:,}, past the end of "
            f"the chrom, {length:,}; expected genes of the assembly that was scanned"
        )
    exons: list[Span] = []
    for first, last in sorted(transcript.exons or transcript.coding):
        first, last = max(first, exons[-1][1] if exons else 0), min(last, length)
        if exons and first == exons[-1][1] and last > first:
            exons[-1] = (exons[-1][0], last)
        elif last > first:
            exons.append((first, last))
    coding = inside(transcript.coding, exons[0][0], exons[-1][1])
    ends = (min(a for a, _ in coding), max(b for _, b in coding)) if coding else (exons[-1][1],) * 2
    strand = transcript.strand if transcript.strand in ("+", "-") else "."
    return Gene(transcript.chrom, transcript.name, strand, tuple(exons), ends)
