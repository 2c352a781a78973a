"""A bigBed: rows of a BED file with an index, which UCSC and WashU load where they take no plain BED.

The layout is a bigWig's, with rows in place of scores: header, the columns' names, total summary, tree of
chroms, number of rows, blocks of rows, index. There are no zoom levels; readers count the rows instead.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice

import numpy as np

from tism_scan.bigwig.headers import HEADER, TOTAL_SUMMARY, VERSION, chrom_tree
from tism_scan.bigwig.index import IndexedParts
from tism_scan.bigwig.sections import Packed

MAGIC = 0x8789F2EB
COLUMNS = (
    "string chrom",
    "uint chromStart",
    "uint chromEnd",
    "string name",
    "uint score",
    "char[1] strand",
    "uint thickStart",
    "uint thickEnd",
    "uint reserved",
    "int blockCount",
    "int[blockCount] blockSizes",
    "int[blockCount] chromStarts",
)

Row = tuple[str, int, int, str]

_ROWS_PER_BLOCK = 512
_PLACE = struct.Struct("<3I")


def bigbed(chroms: Mapping[str, int], rows: Iterable[Row], *, n_columns: int) -> bytes:
    """Return a bigBed.

    Parameters
    ----------
    chroms : mapping from str to int
        Length of every chrom.
    rows : iterable of (chrom, start, end, rest)
        In the order of the chroms, then of their starts; `rest` is the other columns, apart by tabs.
    n_columns : int
        Columns of a row in all, of the 12 that BED has, so 3 to 12.

    Raises
    ------
    ValueError
        If rows come out of order.
    """
    file, n_rows = io.BytesIO(), 0
    names = "".join(f'  {column}; "{column.split()[-1]}"\n' for column in COLUMNS[:n_columns])
    columns = f'table bed\n"BED"\n(\n{names})\n'.encode() + b"\0"
    summary_at = HEADER.size + len(columns)
    tree_at = summary_at + TOTAL_SUMMARY.size
    file.write(b"\0" * tree_at)
    file.write(chrom_tree(chroms, tree_at))
    rows_at = file.tell()
    file.write(b"\0" * 8)
    parts, coverage, largest = IndexedParts(file, io.BytesIO()), _Coverage(), 0
    i_chrom = {chrom: i for i, chrom in enumerate(chroms)}
    for block in _blocks(_in_order(rows, i_chrom)):
        content = b"".join(_PLACE.pack(*row[:3]) + row[3].encode() + b"\0" for row in block)
        ends = [end for _, _, end, _ in block]
        number = block[0][0]
        parts.append([Packed(number, block[0][1], number, max(ends), zlib.compress(content, 6))])
        coverage.add(number, [start for _, start, _, _ in block], ends)
        n_rows, largest = n_rows + len(block), max(largest, len(content))
    index_at = parts.write_index(file, per_part=_ROWS_PER_BLOCK)
    file.write(struct.pack("<I", MAGIC))
    file.seek(0)
    file.write(
        HEADER.pack(
            MAGIC,
            VERSION,
            0,
            tree_at,
            rows_at,
            index_at,
            n_columns,
            n_columns,
            HEADER.size,
            summary_at,
            largest,
            0,
        )
    )
    file.write(columns + TOTAL_SUMMARY.pack(*coverage.summary()))
    file.seek(rows_at)
    file.write(struct.pack("<Q", n_rows))
    return file.getvalue()


_Numbered = tuple[int, int, int, str]


def _in_order(rows: Iterable[Row], i_chrom: Mapping[str, int]) -> Iterator[_Numbered]:
    last = (0, 0)
    for chrom, start, end, rest in rows:
        place = (i_chrom[chrom], start)
        if place < last:
            raise ValueError(f"{chrom}:{start} comes after a later row; expected rows in order")
        last = place
        yield *place, end, rest


def _blocks(rows: Iterator[_Numbered]) -> Iterator[list[_Numbered]]:
    for _, same in groupby(rows, key=lambda row: row[0]):
        while block := list(islice(same, _ROWS_PER_BLOCK)):
            yield block


class _Coverage:
    """Counts how many rows are over each base."""

    def __init__(self) -> None:
        self._edges: dict[int, list[tuple[list[int], list[int]]]] = {}

    def add(self, i_chrom: int, starts: list[int], ends: list[int]) -> None:
        self._edges.setdefault(i_chrom, []).append((starts, ends))

    def summary(self) -> tuple[int, float, float, float, float]:
        """Return how many bases are covered, and the depth there: minimum, maximum, sum, sum of squares."""
        widths, depths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for pieces in self._edges.values():
            starts = np.concatenate([np.array(piece[0], np.int64) for piece in pieces])
            ends = np.concatenate([np.array(piece[1], np.int64) for piece in pieces])
            edges = np.concatenate([starts, ends])
            order = np.argsort(edges, kind="stable")
            depth = np.cumsum(np.repeat([1, -1], [len(starts), len(ends)])[order])[:-1]
            width = np.diff(edges[order])
            widths.append(width[(width > 0) & (depth > 0)])
            depths.append(depth[(width > 0) & (depth > 0)])
        width, depth = np.concatenate(widths), np.concatenate(depths)
        if not len(depth):
            return 0, 0.0, 0.0, 0.0, 0.0
        total, squares = float(width @ depth), float(width @ depth**2)
        return int(width.sum()), float(depth.min()), float(depth.max()), total, squares
