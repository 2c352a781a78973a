"""The parts of a bigWig that an index leads to, and the index: an R-tree over chrom and position.

A part is known by one leaf item of the tree. The items wait in a temporary file until all parts are written,
so that memory does not grow with their number.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.headers import NODE_HEADER, node_bytes
from tism_scan.bigwig.sections import Packed

INDEX_MAGIC = 0x2468ACE0
ITEMS_PER_NODE = 256

_HEADER = struct.Struct("<2IQ4IQ2I")
_BOUNDS = [("first_chrom", "<u4"), ("start", "<u4"), ("last_chrom", "<u4"), ("end", "<u4")]
_INNER = np.dtype([*_BOUNDS, ("offset", "<u8")])
_LEAF = np.dtype([*_BOUNDS, ("offset", "<u8"), ("size", "<u8")])
_NAMES_OF_BOUNDS = [name for name, _ in _BOUNDS]

_NODES_AT_A_TIME = 64

Items = NDArray[np.void]


class IndexedParts:
    """Parts written one after another, in the order of chroms and positions.

    Parameters
    ----------
    file : BinaryIO
        Where the parts go; it is appended to.
    leaves : BinaryIO
        Temporary, for the leaf items.
    """

    def __init__(self, file: BinaryIO, leaves: BinaryIO) -> None:
        self._file = file
        self._leaves = leaves
        self.n_parts = 0

    def append(self, parts: Sequence[Packed]) -> None:
        """Write parts, and note their places for the index."""
        if not parts:
            return
        leaves = np.zeros(len(parts), _LEAF)
        leaves["first_chrom"] = [part.first_chrom for part in parts]
        leaves["start"] = [part.start for part in parts]
        leaves["last_chrom"] = [part.last_chrom for part in parts]
        leaves["end"] = [part.end for part in parts]
        leaves["size"] = [len(part.content) for part in parts]
        leaves["offset"][1:] = np.cumsum(leaves["size"][:-1])
        leaves["offset"] += np.uint64(self._file.tell())
        self._file.write(b"".join(part.content for part in parts))
        self._leaves.write(leaves.tobytes())
        self.n_parts += len(parts)

    def write_index(self, file: BinaryIO, *, moved_by: int = 0, per_part: int) -> int:
        """Write the index, and return its offset.

        Parameters
        ----------
        file : BinaryIO
        moved_by : int
            How much further back the parts are in this file than where they were written.
        per_part : int
            Most items, or records, of a part.
        """
        index_at = file.tell()
        levels = [self._bounds_per_node()]
        while len(levels[-1]) > ITEMS_PER_NODE:
            levels.append(_bounds_of(levels[-1]))
        file.write(self._header(levels[-1], index_at, per_part))
        if self.n_parts <= ITEMS_PER_NODE:
            levels = []  # the only leaf is the root
        below_at = file.tell()
        for bounds in reversed(levels):
            is_last = bounds is levels[0]
            below_at += node_bytes(len(bounds), ITEMS_PER_NODE, _INNER.itemsize)
            full = NODE_HEADER.size + ITEMS_PER_NODE * (_LEAF if is_last else _INNER).itemsize
            bounds["offset"] = below_at + full * np.arange(len(bounds), dtype=np.uint64)
            _write_nodes(file, bounds, is_leaf=False)
        for leaves in self._leaves_in_order():
            leaves["offset"] += np.uint64(moved_by)
            _write_nodes(file, leaves, is_leaf=True)
        if not self.n_parts:
            file.write(NODE_HEADER.pack(True, 0, 0))
        return index_at

    def _leaves_in_order(self) -> Iterator[Items]:
        self._leaves.seek(0)
        while content := self._leaves.read(_NODES_AT_A_TIME * ITEMS_PER_NODE * _LEAF.itemsize):
            yield np.frombuffer(bytearray(content), _LEAF)

    def _bounds_per_node(self) -> Items:
        """Return the bounds of every leaf node."""
        nodes = [_bounds_of(leaves) for leaves in self._leaves_in_order()]
        return np.concatenate(nodes) if nodes else np.zeros(0, _INNER)

    def _header(self, bounds: Items, index_at: int, per_part: int) -> bytes:
        whole = tuple(_bounds_of(bounds)[0])[:4] if len(bounds) else (0, 0, 0, 0)
        return _HEADER.pack(INDEX_MAGIC, ITEMS_PER_NODE, self.n_parts, *whole, index_at, per_part, 0)


def _bounds_of(items: Items) -> Items:
    """Return the bounds of every node, full but the last, that items are put into."""
    firsts = np.arange(0, len(items), ITEMS_PER_NODE)
    lasts = np.minimum(firsts + ITEMS_PER_NODE, len(items)) - 1
    bounds = np.zeros(len(firsts), _INNER)
    # Parts are in the order of their starts; those of a bigBed overlap, so the last need not reach furthest.
    for name in ("first_chrom", "start"):
        bounds[name] = items[name][firsts]
    bounds["last_chrom"] = items["last_chrom"][lasts]
    places = items["last_chrom"].astype(np.uint64) << np.uint64(32) | items["end"].astype(np.uint64)
    furthest = np.maximum.reduceat(places, firsts) if len(items) else places
    bounds["end"] = furthest & np.uint64(0xFFFFFFFF)
    return bounds


def _write_nodes(file: BinaryIO, items: Items, *, is_leaf: bool) -> None:
    for first in range(0, len(items), ITEMS_PER_NODE):
        node = items[first : first + ITEMS_PER_NODE]
        file.write(NODE_HEADER.pack(is_leaf, 0, len(node)) + node.tobytes())
