"""Genes, motifs and other features, as tracks beside the scores: read once, written for every browser."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tism_scan.bigwig.bigbed import bigbed
from tism_scan.errors import InputError
from tism_scan.genome.bed import read_features
from tism_scan.genome.genes import bed12, read_genes
from tism_scan.genome.intervals import Interval
from tism_scan.plan.labels import unique_names

GENES = "genes"
_SUFFIXES = (".gz", ".bed")
_FOR_HTML = str.maketrans("<>", "__")  # browsers take names for HTML


@dataclass(frozen=True)
class Annotation:
    """Features of one file.

    Attributes
    ----------
    stem : str
        Of the names of its files.
    name : str
        As people know it.
    rows : tuple of tuples of str
        The columns of BED, 6 or 12, in the order of the chroms, then of their starts.
    n_elsewhere : int
        Features of the file that are on none of the chroms.
    """

    stem: str
    name: str
    rows: tuple[tuple[str, ...], ...]
    n_elsewhere: int = 0

    @property
    def is_genes(self) -> bool:
        """Whether these are the genes, which are found by their names."""
        return self.stem == GENES

    @property
    def n_columns(self) -> int:
        """Columns of a row."""
        return len(self.rows[0])

    def bed(self) -> bytes:
        """Return the features as BED."""
        return "".join("\t".join(row) + "\n" for row in self.rows).encode()

    def bigbed(self, chroms: Mapping[str, int]) -> bytes:
        """Return the features as bigBed, with the length of every chrom."""
        rows = ((row[0], int(row[1]), int(row[2]), "\t".join(row[3:])) for row in self.rows)
        return bigbed(chroms, rows, n_columns=self.n_columns)


def read_annotations(
    chroms: Mapping[str, int],
    other_names: Mapping[str, str],
    *,
    genes: str | Path | None = None,
    others: Sequence[str] = (),
) -> list[Annotation]:
    """Return the annotations of files, the genes first.

    Parameters
    ----------
    chroms : mapping from str to int
        Length of every chrom, under the names of the tracks.
    other_names : mapping from str to str
        The chrom of each name that files may use instead.
    genes : str or Path, optional
        See `tism_scan.genome.genes.read_genes`.
    others : sequence of str
        BED files, each as ``FILE`` or ``NAME=FILE``.

    Raises
    ------
    RegionError
        If a file cannot be read, or none of it is on the chroms.
    InputError
        If a name is empty.
    """
    found = []
    if genes is not None:
        read = read_genes(genes, chroms, other_names)
        found.append(Annotation(GENES, "Genes", _safe(bed12(read.genes)), read.n_elsewhere))
    named = [_named(text) for text in others]
    stems = unique_names([f"annotation_{_plain(name)}" for name, _ in named], 80)
    for (name, path), stem in zip(named, stems, strict=True):
        rows, n_elsewhere = read_features(path, chroms, other_names)
        found.append(Annotation(stem, name, _safe(rows), n_elsewhere))
    return found


def place_of(name: str, bed: bytes) -> Interval | None:
    """Return where a feature of a BED file is, by its name in any case, or None if there is none."""
    wanted = name.casefold()
    for line in bed.decode().splitlines():
        chrom, start, end, found, *_ = line.split("\t")
        if found.casefold() == wanted:
            return Interval(chrom, int(start), int(end))
    return None


def _named(text: str) -> tuple[str, Path]:
    """Return the name and the path of ``NAME=FILE`` or ``FILE``; a file's own name may hold the sign."""
    name, sign, path = text.partition("=")
    if not sign or Path(text).exists():
        stem = Path(text).name
        for suffix in _SUFFIXES:
            stem = stem.removesuffix(suffix)
        return stem or text, Path(text)
    if not name.strip() or not path:
        raise InputError(f"{text!r} has no name or no file; expected FILE, or NAME=FILE")
    return name.strip(), Path(path)


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)


def _safe(rows: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple((*row[:3], row[3].translate(_FOR_HTML), *row[4:]) for row in rows)
