"""The fixed parts of a bigWig file, as bytes: header, zoom headers, total summary and tree of chroms.

All numbers are little-endian. A file is laid out as header, zoom headers, total summary, tree of chroms,
number of sections, sections, index of the sections, and then for each zoom level the number of its records,
the records and their index; the magic number is at both ends.

References
----------
Kent et al., "BigWig and BigBed: enabling browsing of large distributed datasets", Bioinformatics 26, 2204
(2010), doi 10.1093/bioinformatics/btq351; the tables of its supplement are the file format.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tism_scan.bigwig.summary import Tally

MAGIC = 0x888FFC26
VERSION = 4
CHROM_TREE_MAGIC = 0x78CA8C91
CHROMS_PER_NODE = 256

MAX_CHROM_BP = 2**32 - 1
ITEMS_PER_SECTION = 4096
RECORDS_PER_BLOCK = 1024
SECTION_HEADER = struct.Struct("<5I2BH")
# What a reader must set aside: the largest section has a position and a score for each item.
LARGEST_UNCOMPRESSED = max(SECTION_HEADER.size + 8 * ITEMS_PER_SECTION, 32 * RECORDS_PER_BLOCK)

HEADER = struct.Struct("<I2H3Q2H2QIQ")
_ZOOM_HEADER = struct.Struct("<2I2Q")
TOTAL_SUMMARY = struct.Struct("<Q4d")
_TREE_HEADER = struct.Struct("<4I2Q")
NODE_HEADER = struct.Struct("<2BH")

FIRST_REDUCTION = 32
REDUCTION_STEP = 4


@dataclass(frozen=True)
class ZoomPlace:
    """Where a zoom level is: bases per record, and the offsets of its records and of their index."""

    reduction: int
    records_at: int
    index_at: int


def reductions(longest_bp: int) -> tuple[int, ...]:
    """Return the bases per record of each zoom level: 32, and 32 x 4^n as long as a chrom is longer."""
    levels = [FIRST_REDUCTION]
    while levels[-1] * REDUCTION_STEP < longest_bp:
        levels.append(levels[-1] * REDUCTION_STEP)
    return tuple(levels)


def summary_at(n_levels: int) -> int:
    """Return the offset of the total summary."""
    return HEADER.size + n_levels * _ZOOM_HEADER.size


def chrom_tree_at(n_levels: int) -> int:
    """Return the offset of the tree of chroms."""
    return summary_at(n_levels) + TOTAL_SUMMARY.size


def head(tally: Tally, sections_at: int, index_at: int, levels: Sequence[ZoomPlace]) -> bytes:
    """Return all that is before the tree of chroms.

    Parameters
    ----------
    tally : Tally
    sections_at : int
        Offset of the number of sections, which the sections follow.
    index_at : int
        Offset of their index.
    levels : sequence of ZoomPlace
        The finest first.
    """
    header = HEADER.pack(
        MAGIC,
        VERSION,
        len(levels),
        chrom_tree_at(len(levels)),
        sections_at,
        index_at,
        0,  # fields of a BED file, which a bigWig has none of
        0,
        0,
        summary_at(len(levels)),
        LARGEST_UNCOMPRESSED,
        0,
    )
    zooms = [_ZOOM_HEADER.pack(level.reduction, 0, level.records_at, level.index_at) for level in levels]
    summary = TOTAL_SUMMARY.pack(
        tally.n_bases, tally.minimum, tally.maximum, tally.total, tally.total_of_squares
    )
    return b"".join([header, *zooms, summary])


def chrom_tree(chroms: Mapping[str, int], at: int) -> bytes:
    """Return the B+ tree that gives a chrom's number and length by its name, sorted by the names' bytes.

    Parameters
    ----------
    chroms : Mapping from str to int
        Length of each chrom; its place here is its number.
    at : int
        The offset in the file at which the tree will be.
    """
    named = sorted((chrom.encode(), i, length) for i, (chrom, length) in enumerate(chroms.items()))
    key_size = max(len(name) for name, _, _ in named)
    per_node = min(CHROMS_PER_NODE, len(named))
    item_size = key_size + 8

    # Above the leaves, an item is the first name of a node below, and leads to it.
    levels = [[name for name, _, _ in named]]
    while len(levels[-1]) > per_node:
        levels.append(levels[-1][::per_node])
    parts = [_TREE_HEADER.pack(CHROM_TREE_MAGIC, per_node, key_size, 8, len(named), 0)]
    below_at = at + _TREE_HEADER.size
    for depth, names in enumerate(reversed(levels), start=1):
        below_at += node_bytes(len(names), per_node, item_size)
        values = (
            [struct.pack("<2I", i, length) for _, i, length in named]
            if depth == len(levels)
            else [
                struct.pack("<Q", below_at + i * node_bytes(per_node, per_node, item_size))
                for i in range(len(names))
            ]
        )
        items = [name.ljust(key_size, b"\0") + value for name, value in zip(names, values, strict=True)]
        for first in range(0, len(items), per_node):
            node = items[first : first + per_node]
            parts += [NODE_HEADER.pack(depth == len(levels), 0, len(node)), *node]
    return b"".join(parts)


def node_bytes(n_items: int, per_node: int, item_size: int) -> int:
    """Return the size of the nodes that hold so many items: all are full but the last."""
    return -(-n_items // per_node) * NODE_HEADER.size + n_items * item_size
