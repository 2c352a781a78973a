"""The bytes of a shard as Zarr itself writes them: compressed chunks with checksums, then their index.

Zarr's own way there passes through an array in memory, and several copies of it.
"""

import math
from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.blosc import BITSHUFFLE, MAX_OVERHEAD, Blosc
from numpy.typing import NDArray

from tism_scan.plan.scan_plan import Codec

# Settings of Blosc, which shuffles bits first. Of real sequence and full Beluga, LZ4 takes a quarter of
# Zstandard's time for 1 % more bytes: with its bits in order, noise is as short as it gets.
BLOSC: dict[Codec, dict[str, Any]] = {
    "lz4": {"cname": "lz4", "clevel": 9, "typesize": 4},
    "zstd": {"cname": "zstd", "clevel": 3, "typesize": 4},
}
_ABSENT = 2**64 - 1
_CRC_BYTES = 4

Place = tuple[int, ...]


def compressed(chunk: NDArray[np.float32], codec: Codec) -> bytes:
    """Return a chunk's bytes, compressed; other threads can run until it is."""
    content: bytes = Blosc(**BLOSC[codec], shuffle=BITSHUFFLE).encode(chunk)
    return content


def shard_of(chunks: Iterable[tuple[Place, bytes]], shape: Place, chunk_bytes: int) -> memoryview:
    """Return a shard: each chunk and its CRC32C, then the index of where they are, and its CRC32C.

    Parameters
    ----------
    chunks : iterable of place and bytes
        Compressed, each at its place, in the order in which they are to be stored; other places have none.
        One is asked for at a time, so that no more memory is touched than the shard takes.
    shape : tuple of int
        Of the grid of places in a shard.
    chunk_bytes : int
        Size of a chunk before it is compressed.
    """
    index = np.full((*shape, 2), _ABSENT, dtype="<u8")
    most_bytes = math.prod(shape) * (chunk_bytes + MAX_OVERHEAD + _CRC_BYTES) + index.nbytes + _CRC_BYTES
    # NumPy asks the system for large pages; to get ordinary ones took half as long as compressing.
    shard, end = np.empty(most_bytes, dtype=np.uint8).data, 0

    def append(content: bytes) -> None:
        nonlocal end
        for part in (content, int(google_crc32c.value(content)).to_bytes(_CRC_BYTES, "little")):
            shard[end : end + len(part)] = part
            end += len(part)

    for place, content in chunks:
        start = end
        append(content)
        index[place] = start, end - start
    append(index.tobytes())
    return shard[:end]


def places_in_order(shape: Place) -> list[Place]:
    """Return the places of a grid in the order in which Zarr writes them, the Morton order.

    A place's rank is the number made of the bits of its coordinates, the lowest of each in turn, as far as
    the length of the grid along an axis needs them.
    """
    n_bits = [(length - 1).bit_length() for length in shape]
    coordinates = np.indices(shape).reshape(len(shape), -1)
    rank, n_taken = np.zeros(coordinates.shape[1], dtype=np.int64), 0
    for i_bit in range(max(n_bits)):
        for axis, n in enumerate(n_bits):
            if i_bit < n:
                rank |= (coordinates[axis] >> i_bit & 1) << n_taken
                n_taken += 1
    return [tuple(place) for place in coordinates.T[np.argsort(rank)].tolist()]
