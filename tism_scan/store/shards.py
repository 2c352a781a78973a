"""The bytes of a shard as Zarr itself writes them: compressed chunks with checksums, then their index.

Zarr's own way there passes through an array in memory, and several copies of it.
"""

from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.blosc import BITSHUFFLE, Blosc
from numpy.typing import NDArray

BLOSC: dict[str, Any] = {"cname": "zstd", "clevel": 3, "typesize": 4}  # with bitshuffle
_ABSENT = 2**64 - 1

Place = tuple[int, ...]


def encode_chunk(chunk: NDArray[np.float32]) -> bytes:
    """Return a chunk compressed, its CRC32C behind it; other threads run while it is compressed.

    Parameters
    ----------
    chunk : float32 (L,)
        As long as all chunks of the array.
    """
    compressed: bytes = Blosc(**BLOSC, shuffle=BITSHUFFLE).encode(chunk)
    return compressed + _checksum(compressed)


def join_chunks(chunks: Iterable[tuple[Place, bytes]], shape: Place) -> bytes:
    """Return a shard of encoded chunks, in their order, and the index of where each of them is.

    Parameters
    ----------
    chunks : iterable of place and bytes
        From `encode_chunk`; those of other places are absent.
    shape : tuple of int
        Of the grid of places in a shard.
    """
    index = np.full((*shape, 2), _ABSENT, dtype="<u8")
    parts, start = [], 0
    for place, part in chunks:
        index[place] = start, len(part)
        start += len(part)
        parts.append(part)
    encoded_index = index.tobytes()
    return b"".join([*parts, encoded_index, _checksum(encoded_index)])


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


def _checksum(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(4, "little")
