"""Bases as small integers, and the order of a model's four input channels.

Codes are uint8: A 0, C 1, G 2, T 3, and 4 for everything else (N, IUPAC ambiguity codes, padding). Lower
case counts as upper. A model's own channel order is a string such as ``"AGCT"``: channel i is 1 where the
base is ``alphabet[i]``, and all four channels are 0 where the code is 4.
"""

import numpy as np
from numpy.typing import NDArray

BASES = "ACGT"
N_CODE = 4

Codes = NDArray[np.uint8]

_CODE_OF_BYTE = np.full(256, N_CODE, dtype=np.uint8)
for _code, _base in enumerate(BASES):
    _CODE_OF_BYTE[[ord(_base), ord(_base.lower())]] = _code
_CODE_TABLE = _CODE_OF_BYTE.tobytes()
_BYTE_OF_CODE = np.frombuffer(b"ACGTN", dtype=np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, N_CODE], dtype=np.uint8)


def encode(sequence: str | bytes, left_out: bytes = b"") -> Codes:
    """Return the codes of a sequence.

    Parameters
    ----------
    sequence : str or bytes
        Any letters; what is not A, C, G or T in either case becomes 4.
    left_out : bytes
        What is no letter of the sequence, such as line breaks.

    Returns
    -------
    uint8 (L,)
    """
    raw = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else sequence
    return np.frombuffer(bytearray(raw.translate(_CODE_TABLE, left_out)), dtype=np.uint8)


def decode(codes: Codes) -> str:
    """Return the upper-case sequence of codes, N for 4."""
    return bytes(_BYTE_OF_CODE[codes]).decode("ascii")


def is_acgt(codes: Codes) -> NDArray[np.bool_]:
    """Return where the codes are those of A, C, G or T."""
    is_known: NDArray[np.bool_] = codes != N_CODE
    return is_known


def reverse_complement(codes: Codes) -> Codes:
    """Return the codes of the other strand, read in its own direction, along the last axis."""
    return _COMPLEMENT[codes][..., ::-1]


def channel_of_base(alphabet: str) -> NDArray[np.int64]:
    """Return, for A, C, G and T in turn, its channel in a model's order.

    Parameters
    ----------
    alphabet : str
        The model's channel order, a permutation of ``ACGT``.

    Returns
    -------
    int64 (4,)
        ``gradient[..., channel_of_base(alphabet), :]`` puts a gradient's channels in A, C, G, T order.

    Raises
    ------
    ValueError
        If `alphabet` is no permutation of ``ACGT``.
    """
    if sorted(alphabet) != list(BASES):
        raise ValueError(f"a channel order is a permutation of ACGT, not {alphabet!r}")
    return np.array([alphabet.index(base) for base in BASES])


def complement_channels(alphabet: str) -> NDArray[np.int64]:
    """Return, for each channel of a model's order, the channel of the complementary base.

    Parameters
    ----------
    alphabet : str
        The model's channel order, a permutation of ``ACGT``.

    Returns
    -------
    int64 (4,)
        ``X[..., complement_channels(alphabet), ::-1]`` is the one-hot reverse complement of `X`.

    Raises
    ------
    ValueError
        If `alphabet` is no permutation of ``ACGT``.
    """
    return channel_of_base(alphabet)[_COMPLEMENT[encode(alphabet)]]


def one_hot(codes: Codes, alphabet: str = BASES) -> NDArray[np.float32]:
    """Return codes as a model reads them.

    Parameters
    ----------
    codes : uint8 (..., L)
    alphabet : str
        The model's channel order.

    Returns
    -------
    float32 (..., 4, L)
        1 in the channel of the base, 0 elsewhere, all zeros where the code is 4.
    """
    return np.moveaxis(one_hot_table(alphabet)[codes], -1, -2)


def one_hot_table(alphabet: str = BASES) -> NDArray[np.float32]:
    """Return float32 (5, 4): row ``code`` holds the four channels of that code."""
    table = np.zeros((N_CODE + 1, 4), dtype=np.float32)
    table[np.arange(4), channel_of_base(alphabet)] = 1
    return table
