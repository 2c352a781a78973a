"""Intervals, and regions as users write them.

Coordinates are 0-based and half-open, in bp. Only `parse_region` and `Interval.__str__` know the 1-based,
inclusive form that genome browsers show.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tism_scan.errors import RegionError

_FAULTS_SHOWN = 5
_SEPARATED = re.compile(r"(.+?)[\s_-]([0-9,]+)[\s_.-]+([0-9,]+)")  # chr1-1000-2000, or the columns of a BED
_POSITIONS = re.compile(r"([0-9][0-9,]{0,20})(-([0-9][0-9,]{0,20})?)?")


@dataclass(frozen=True, order=True)
class Interval:
    """The bases `start` up to, not including, `end` of a chrom; printed as browsers do."""

    chrom: str
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start + 1:,}-{self.end:,}"


def parse_region(text: str, chroms: Mapping[str, int]) -> Interval:
    """Return the interval that a region in the browsers' form names.

    Parameters
    ----------
    text : str
        ``chr1:1,000-2,000`` (1-based, both ends included), ``chr1:5000`` (one base), ``chr1:1000-`` (to the
        end) or ``chr1`` (all of it). A chrom's name may hold colons: a text that is a name is that chrom.
    chroms : mapping from str to int
        Length of every chrom, in bp.

    Raises
    ------
    RegionError
        If the chrom is unknown, the positions cannot be read, or they are not on the chrom in order.
    """
    text = text.strip()
    if text in chroms:
        chrom, positions = text, "1-"
    else:
        chrom, _, positions = text.rpartition(":")
    match = _POSITIONS.fullmatch(positions)
    separated = _SEPARATED.fullmatch(text)
    if chrom not in chroms and separated and separated[1] in chroms:
        raise RegionError(_unreadable(text, separated[1], "write a colon after the chrom's name"))
    if chrom not in chroms:
        raise RegionError(unknown_chrom(chrom if chrom and match else text, chroms))
    if match is None:
        raise RegionError(_unreadable(text, chrom, "write the positions as whole numbers"))
    first, dash, last = (group or "" for group in match.groups())
    length = chroms[chrom]
    start = int(first.replace(",", "")) - 1
    end = int(last.replace(",", "")) if last else length if dash else start + 1
    _check_region(text, start, end, length)
    return Interval(chrom, start, end)


def _unreadable(text: str, chrom: str, remedy: str) -> str:
    return f"{text!r} cannot be read as a region; expected a form such as {chrom}:1,000-2,000; {remedy}"


def unknown_chrom(name: str, chroms: Mapping[str, int]) -> str:
    """Return the sentence about a chrom that the genome lacks, with the nearest names that it has."""
    twin = prefix_twin(name, chroms)
    if twin:
        return (
            f"{name!r} is no chrom of the FASTA; expected a name such as {twin!r}; "
            "only the prefix 'chr' differs, write it as the FASTA does"
        )
    near = difflib.get_close_matches(name, chroms, n=5) or list(chroms)[:5]
    shown = ", ".join(repr(chrom) for chrom in near)
    return f"{name!r} is no chrom of the FASTA; expected a name such as {shown}; check the spelling"


def prefix_twin(name: str, chroms: Mapping[str, int]) -> str | None:
    """Return the chrom that differs from a name by the prefix 'chr' alone."""
    twin = name[3:] if name.startswith("chr") else f"chr{name}"
    return twin if twin in chroms else None


def summary_of(faults: Sequence[str]) -> str:
    """Return the first few faults as one line, with their count if there are several."""
    if len(faults) == 1:
        return faults[0]
    more = len(faults) - _FAULTS_SHOWN
    shown = [*faults[:_FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return f"{len(faults)} faults: " + " | ".join(shown)


def _check_region(text: str, start: int, end: int, length: int) -> None:
    """Raise the RegionError of a region that was read but is not on its chrom."""
    if start < 0:
        raise RegionError(f"{text!r} starts at 0; expected positions from 1; the first base is number 1")
    if start >= length:
        raise RegionError(
            f"{text!r} starts past the end of its chrom; expected positions up to {length:,}; "
            "check the genome's version"
        )
    if end <= start:
        raise RegionError(f"{text!r} ends before it starts; expected start <= end; swap the two numbers")
    if end > length:
        raise RegionError(
            f"{text!r} ends past the end of its chrom; expected positions up to {length:,}; "
            "leave the end open (chr1:1000-) to go as far as the chrom does"
        )
