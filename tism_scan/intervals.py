"""Intervals, regions, BED files, and which bases of a genome are wanted.

Coordinates are 0-based and half-open, in bp. Only `parse_region` and `Interval.__str__` know the 1-based,
inclusive form that genome browsers show.
"""

import difflib
import gzip
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import RegionError

# From a chrom to its spans: sorted, apart from each other, none of them empty.
Spans: TypeAlias = Mapping[str, tuple[tuple[int, int], ...]]

_FAULTS_SHOWN = 5
_BED_HEADERS = ("track", "browser")
_GZIP_MAGIC = b"\x1f\x8b"
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
    """Return the interval that a region in the browsers' form stands for.

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
        If the chrom is unknown, the positions cannot be read, or they do not lie on the chrom in order.
    """
    text = text.strip()
    if text in chroms:
        chrom, positions = text, "1-"
    else:
        chrom, _, positions = text.rpartition(":")
    match = _POSITIONS.fullmatch(positions)
    if chrom not in chroms:
        raise RegionError(_unknown_chrom(chrom if chrom and match else text, chroms))
    if match is None:
        raise RegionError(
            f"{text!r} cannot be read as a region; expected a form such as {chrom}:1,000-2,000; "
            "write the positions as whole numbers"
        )
    first, dash, last = (group or "" for group in match.groups())
    length = chroms[chrom]
    start = int(first.replace(",", "")) - 1
    end = int(last.replace(",", "")) if last else length if dash else start + 1
    _check_region(text, start, end, length)
    return Interval(chrom, start, end)


def read_bed(path: str | Path, chroms: Mapping[str, int], *, skip_unknown: bool = False) -> list[Interval]:
    """Return the intervals of a BED file, plain or gzipped, in its order.

    Parameters
    ----------
    path : str or Path
    chroms : mapping from str to int
        Length of every chrom, in bp.
    skip_unknown : bool
        For lists of bases to leave out: lines on chroms that the genome lacks are passed over, and ends
        beyond a chrom's end are clipped. By default both are faults.

    Raises
    ------
    RegionError
        If the file cannot be read, or any line is at fault; the first few are shown. With `skip_unknown`
        also if no line fits only because one side writes the prefix 'chr' and the other does not.
    """
    intervals: list[Interval] = []
    faults: list[str] = []
    unknown: set[str] = set()
    for number, line in _bed_lines(Path(path)):
        try:
            interval = _bed_interval(line)
            if interval.chrom in chroms:
                intervals.append(_on_chrom(interval, chroms[interval.chrom], clip=skip_unknown))
            elif skip_unknown:
                unknown.add(interval.chrom)
            else:
                raise ValueError(_unknown_chrom(interval.chrom, chroms))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise RegionError(f"{path} cannot be used as BED: {_summary(faults)}")
    twins = [name for name in sorted(unknown) if _prefix_twin(name, chroms)]
    if twins and not intervals:
        raise RegionError(f"no line of {path} lies on the genome: {_unknown_chrom(twins[0], chroms)}")
    return intervals


def read_named_spans(path: str | Path, within: Interval) -> list[tuple[int, int, str]]:
    """Return start, end and name of the lines of a BED file, plain or gzipped, that overlap an interval.

    Parameters
    ----------
    path : str or Path
        The name is the fourth column, empty where there is none.
    within : Interval
        Lines on other chroms, and empty ones, are passed over.

    Raises
    ------
    RegionError
        If the file cannot be read, or any line is at fault; the first few are shown.
    """
    spans: list[tuple[int, int, str]] = []
    faults: list[str] = []
    for number, line in _bed_lines(Path(path)):
        try:
            found = _bed_interval(line)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        if found.chrom == within.chrom and max(found.start, within.start) < min(found.end, within.end):
            spans.append((found.start, found.end, "".join(_fields(line)[3:4])))
    if faults:
        raise RegionError(f"{path} cannot be used as BED: {_summary(faults)}")
    return spans


def merge(intervals: Iterable[Interval]) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the union of intervals; those that overlap or touch become one, empty ones vanish."""
    merged: dict[str, list[tuple[int, int]]] = {}
    for interval in sorted(intervals, key=lambda it: (it.start, it.end)):
        if interval.start >= interval.end:
            continue
        spans = merged.setdefault(interval.chrom, [])
        if spans and interval.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], interval.end))
        else:
            spans.append((interval.start, interval.end))
    return {chrom: tuple(spans) for chrom, spans in merged.items()}


def subtract(spans: Spans, holes: Spans) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return what is in `spans` and not in `holes`; chroms without any base left are left out."""
    left = {chrom: _subtract_on_chrom(spans[chrom], holes.get(chrom, ())) for chrom in spans}
    return {chrom: kept for chrom, kept in left.items() if kept}


def wanted_spans(
    chroms: Mapping[str, int],
    *,
    regions: Sequence[str] = (),
    beds: Sequence[str | Path] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    exclude_beds: Sequence[str | Path] = (),
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the bases to score: (regions or BEDs, else everything), on chosen chroms, without the excluded.

    Parameters
    ----------
    chroms : mapping from str to int
        Length of every chrom, in bp, in FASTA order.
    regions : sequence of str
        See `parse_region`. Regions and BED files are united.
    beds : sequence of str or Path
    include, exclude : sequence of str
        Names or globs of chroms, several of them in one item apart by commas: ``"*_alt,chrUn_*"``. A chrom
        is chosen if it fits `include` (or that is empty) and does not fit `exclude`.
    exclude_beds : sequence of str or Path
        Their lines on chroms that the genome lacks are passed over.

    Returns
    -------
    dict from str to tuple of (int, int)
        Merged spans, chroms in FASTA order, without chroms that have no wanted base.

    Raises
    ------
    RegionError
        If a region or file cannot be used, a glob of `include` fits no chrom, or no base is left.
    """
    chosen = _chosen_chroms(chroms, include, exclude)
    if regions or beds:
        wanted = _parse_regions(regions, chroms)
        wanted += [interval for path in beds for interval in read_bed(path, chroms)]
    else:
        wanted = [Interval(chrom, 0, length) for chrom, length in chroms.items()]
    holes = [interval for path in exclude_beds for interval in read_bed(path, chroms, skip_unknown=True)]
    left = subtract(merge(wanted), merge(holes))
    spans = {chrom: left[chrom] for chrom in chroms if chrom in chosen and chrom in left}
    if not spans:
        raise RegionError(
            f"no base is left to score on {len(chroms)} chroms, of which {len(chosen)} were chosen by name; "
            "expected at least one; widen the regions, or exclude less"
        )
    return spans


def span_mask(spans: tuple[tuple[int, int], ...], start: int, end: int) -> NDArray[np.bool_]:
    """Return which of the bases [start, end) lie in a chrom's spans, bool (end - start,)."""
    mask = np.zeros(end - start, dtype=np.bool_)
    for i in range(_first_ending_after(spans, start), len(spans)):
        if spans[i][0] >= end:
            break
        mask[max(spans[i][0] - start, 0) : spans[i][1] - start] = True
    return mask


def overlaps(spans: tuple[tuple[int, int], ...], start: int, end: int) -> bool:
    """Return whether any of the bases [start, end) lies in a chrom's spans."""
    i = _first_ending_after(spans, start)
    return start < end and i < len(spans) and spans[i][0] < end


def _first_ending_after(spans: tuple[tuple[int, int], ...], position: int) -> int:
    return bisect_right(spans, position, key=lambda span: span[1])


def _check_region(text: str, start: int, end: int, length: int) -> None:
    """Raise the RegionError of a region that was read but does not lie on its chrom."""
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


def _unknown_chrom(name: str, chroms: Mapping[str, int]) -> str:
    """Return the sentence about a chrom that the genome lacks, with the nearest names that it has."""
    twin = _prefix_twin(name, chroms)
    if twin:
        return (
            f"{name!r} is no chrom of the FASTA; expected a name such as {twin!r}; "
            "only the prefix 'chr' differs, write it as the FASTA does"
        )
    near = difflib.get_close_matches(name, chroms, n=5) or list(chroms)[:5]
    shown = ", ".join(repr(chrom) for chrom in near)
    return f"{name!r} is no chrom of the FASTA; expected a name such as {shown}; check the spelling"


def _prefix_twin(name: str, chroms: Mapping[str, int]) -> str | None:
    """Return the chrom that differs from a name by the prefix 'chr' alone."""
    twin = name[3:] if name.startswith("chr") else f"chr{name}"
    return twin if twin in chroms else None


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, plain or gzipped."""
    try:
        raw = path.read_bytes()
        if raw.startswith(_GZIP_MAGIC):
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        reason = "it is not text"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"its compressed data is damaged ({error})"
    except OSError as error:
        reason = error.strerror or str(error)
    raise RegionError(f"cannot read {str(path)!r}: {reason}; expected a BED file, plain or gzipped")


def _bed_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines of a BED file that hold an interval."""
    for number, line in enumerate(_lines(path), start=1):
        if line.strip() and not line.startswith("#") and line.split(maxsplit=1)[0] not in _BED_HEADERS:
            yield number, line


def _fields(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


def _bed_interval(line: str) -> Interval:
    """Return the interval of one line; ValueError says what is wrong with it."""
    fields = _fields(line)
    if len(fields) < 3:
        raise ValueError(f"{line!r} has {len(fields)} of at least 3 columns (chrom, start, end)")
    try:
        start, end = int(fields[1]), int(fields[2])
    except ValueError:
        raise ValueError(f"start {fields[1]!r} and end {fields[2]!r} are not both whole numbers") from None
    if start < 0:
        raise ValueError(f"start {start} is below 0")
    if end < start:
        raise ValueError(f"end {end} is before start {start}")
    return Interval(fields[0], start, end)


def _on_chrom(interval: Interval, length: int, *, clip: bool) -> Interval:
    if interval.end <= length:
        return interval
    if not clip:
        raise ValueError(f"end {interval.end} is past the end of {interval.chrom!r}, {length} bp")
    return Interval(interval.chrom, min(interval.start, length), length)


def _subtract_on_chrom(
    spans: Sequence[tuple[int, int]], holes: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    left = []
    i_first = 0  # holes before this one end before every span to come
    for start, end in spans:
        while i_first < len(holes) and holes[i_first][1] <= start:
            i_first += 1
        for i in range(i_first, len(holes)):
            hole_start, hole_end = holes[i]
            if hole_start >= end:
                break
            if hole_start > start:
                left.append((start, hole_start))
            start = hole_end
        if start < end:
            left.append((start, end))
    return tuple(left)


def _chosen_chroms(chroms: Mapping[str, int], include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Return the chroms that fit `include` and do not fit `exclude`."""
    chosen = set() if include else set(chroms)
    faults = []
    for pattern in _patterns(include):
        fitting = _fitting(pattern, chroms)
        if not fitting:
            faults.append(_unknown_chrom(pattern, chroms))
        chosen |= fitting
    if faults:
        raise RegionError(_summary(faults))
    for pattern in _patterns(exclude):
        chosen -= _fitting(pattern, chroms)
    return chosen


def _patterns(items: Sequence[str]) -> list[str]:
    return [pattern for item in items for pattern in (part.strip() for part in item.split(",")) if pattern]


def _fitting(pattern: str, chroms: Mapping[str, int]) -> set[str]:
    """Return the chroms that fit a glob; a name itself (HLA-A*01:01) is no glob."""
    return {pattern} if pattern in chroms else {chrom for chrom in chroms if fnmatchcase(chrom, pattern)}


def _parse_regions(regions: Sequence[str], chroms: Mapping[str, int]) -> list[Interval]:
    """Return the intervals of regions; all that are at fault are named."""
    intervals, faults = [], []
    for region in regions:
        try:
            intervals.append(parse_region(region, chroms))
        except RegionError as error:
            faults.append(str(error))
    if faults:
        raise RegionError(_summary(faults))
    return intervals


def _summary(faults: Sequence[str]) -> str:
    """Return the first few faults as one line, with their count if there are several."""
    if len(faults) == 1:
        return faults[0]
    more = len(faults) - _FAULTS_SHOWN
    shown = [*faults[:_FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return f"{len(faults)} faults: " + " | ".join(shown)
