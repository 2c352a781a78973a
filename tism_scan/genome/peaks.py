"""Peak files (narrowPeak, or any BED), plain or gzipped: a centre for each peak, in the file's order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import RegionError
from tism_scan.genome.bed import interval_of, read_lines
from tism_scan.genome.intervals import unknown_chrom
from tism_scan.genome.lines import columns

_SUMMIT = 9  # the tenth column of narrowPeak
_BLOCKS = (12, 15)  # columns of BED12 and gappedPeak, whose tenth one counts blocks
_NO_SUMMIT = ("-1", ".")
_DEFAULTS = (".", "0", ".", "0", "-1", "-1")  # name, score, strand, signal, p-value, q-value


@dataclass(frozen=True)
class PeakSet:
    """The peaks of a file, in its order; arrays, since there may be a million of them.

    Attributes
    ----------
    chroms : tuple of str
        The genome's chroms with peaks, in the order in which the file first names them.
    labels : tuple of str
        What the file calls them.
    i_chrom : int64 (n,)
        Position of each peak's chrom in `chroms`.
    centers : int64 (n,)
        The summit, or the middle of a peak without one: 0-based, on its chrom.
    columns : tuple of str
        Columns 4 to 9 of each peak, apart by tabs: name, score, strand, signal, p-value, q-value.
    """

    chroms: tuple[str, ...]
    labels: tuple[str, ...]
    i_chrom: NDArray[np.int64]
    centers: NDArray[np.int64]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns)

    def names(self) -> list[str]:
        """Return the name of each peak, ``.`` for one without."""
        return [each.partition("\t")[0] for each in self.columns]

    def table(self) -> bytes:
        """Return all of it as text: a line for each peak, which `from_table` reads."""
        places = [f"{self.chroms[i]}\t{self.labels[i]}" for i in range(len(self.chroms))]
        rows = zip(self.i_chrom.tolist(), self.centers.tolist(), self.columns, strict=True)
        return "".join(f"{places[i]}\t{center}\t{rest}\n" for i, center, rest in rows).encode()

    def digest(self) -> str:
        """Return the SHA-256 of all of it."""
        return hashlib.sha256(self.table()).hexdigest()

    @classmethod
    def from_table(cls, content: bytes) -> "PeakSet":
        """Return the peaks that `table` wrote.

        Raises
        ------
        ValueError
            If the text is another.
        """
        rows = [line.split("\t", 3) for line in content.decode().split("\n")[:-1]]
        position_of: dict[tuple[str, str], int] = {}
        i_chrom = [position_of.setdefault((chrom, label), len(position_of)) for chrom, label, _, _ in rows]
        return cls(
            tuple(chrom for chrom, _ in position_of),
            tuple(label for _, label in position_of),
            np.array(i_chrom, dtype=np.int64),
            np.array([int(center) for _, _, center, _ in rows], dtype=np.int64),
            tuple(rest for _, _, _, rest in rows),
        )


def read_peaks(
    path: str | Path, chroms: Mapping[str, int], names: Mapping[str, str] | None = None
) -> PeakSet:
    """Return the peaks of a narrowPeak or BED file, plain or gzipped: one for each line, none left out.

    Parameters
    ----------
    path : str or Path
        Column 10 is the summit, counted from the peak's start; -1, or a file without that column, means the
        middle. In BED12 and gappedPeak files that column is another, and the middle is taken.
    chroms : mapping from str to int
        Length of every chrom, in bp.
    names : mapping from str to str, optional
        The file's name of each chrom; its own by default.

    Raises
    ------
    RegionError
        If the file cannot be read, holds no peak, or any line is at fault; the first few are shown.
    """
    names = {chrom: chrom for chrom in chroms} if names is None else names
    chrom_of = {name: chrom for chrom, name in names.items()}
    position_of: dict[str, int] = {}

    @cache  # a file of another genome has a million lines of it
    def unknown(label: str) -> str:
        return unknown_chrom(label, dict.fromkeys(chrom_of, 0))

    def peak(line: str) -> tuple[int, int, str]:
        found, fields = interval_of(line), columns(line)
        chrom = chrom_of.get(found.chrom)
        if chrom is None:
            raise ValueError(unknown(found.chrom))
        center = found.start + _summit(fields, len(found))
        if center >= chroms[chrom]:
            raise ValueError(
                f"the centre {center:,} is past the end of {found.chrom!r}, {chroms[chrom]:,} bp; check the "
                "genome's version"
            )
        return position_of.setdefault(found.chrom, len(position_of)), center, _described(fields)

    found = read_lines(path, peak)
    if not found:
        raise RegionError(f"{str(path)!r} holds no peak; expected narrowPeak or BED with at least one line")
    i_chrom, centers, described = zip(*found, strict=True)
    return PeakSet(
        tuple(chrom_of[label] for label in position_of),
        tuple(position_of),
        np.array(i_chrom, dtype=np.int64),
        np.array(centers, dtype=np.int64),
        described,
    )


def _summit(fields: Sequence[str], length: int) -> int:
    """Return the summit of a peak, from its start; ValueError says what is wrong with it."""
    if len(fields) <= _SUMMIT or len(fields) in _BLOCKS or fields[_SUMMIT] in _NO_SUMMIT:
        return length // 2
    try:
        summit = int(fields[_SUMMIT])
    except ValueError:
        raise ValueError(f"summit {fields[_SUMMIT]!r} (column 10) is not a whole number") from None
    if not 0 <= summit <= length:
        raise ValueError(
            f"summit {summit} (column 10) is outside its peak of {length} bp; expected the distance from the "
            "peak's start, or -1"
        )
    return summit


def _described(fields: Sequence[str]) -> str:
    """Return columns 4 to 9, apart by tabs; what a line does not have is what narrowPeak writes for it."""
    n_known = len(_DEFAULTS) if len(fields) > _SUMMIT and len(fields) not in _BLOCKS else 3
    given = fields[3 : 3 + n_known]
    return "\t".join([*given, *_DEFAULTS[len(given) :]])
