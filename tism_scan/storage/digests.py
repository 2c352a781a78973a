"""Digests of several files in one text, as the plan of an ensemble holds them, and as users read them."""

from collections.abc import Iterable

_BETWEEN = "+"
_N_LETTERS = 12


def joined(digests: Iterable[str]) -> str:
    """Return several digests as one text."""
    return _BETWEEN.join(digests)


def n_joined(digest: str) -> int:
    """Return how many digests a text is made of."""
    return digest.count(_BETWEEN) + 1


def short_digest(digest: str) -> str:
    """Return the first letters of a digest, or of each of several."""
    return _BETWEEN.join(each[:_N_LETTERS] for each in digest.split(_BETWEEN))
