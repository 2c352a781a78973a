"""BED files, plain or gzipped: read whole; every faulty line is named by its number."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tism_scan.errors import RegionError
from tism_scan.genome.intervals import Interval, prefix_twin, summary_of, unknown_chrom
from tism_scan.genome.lines import columns, text_lines

Kept = TypeVar("Kept")

_HEADERS = ("track", "browser")
_MORE_OF_BED12 = 9
_COLOR = re.compile(r"\d{1,3},\d{1,3},\d{1,3}")


def read_bed(path: str | Path, chroms: Mapping[str, int], *, skip_unknown: bool = False) -> list[Interval]:
    """Return the intervals of a BED file, plain or gzipped, in its order.

    Parameters
    ----------
    path : str or Path
    chroms : mapping from str to int
        Length of every chrom, in bp.
    skip_unknown : bool
        For lists of bases to leave out: lines on chroms that the genome lacks are ignored, and ends
        beyond a chrom's end are clipped. By default both are faults.

    Raises
    ------
    RegionError
        If the file cannot be read, or any line is at fault; the first few are shown. With `skip_unknown`
        also if no line fits only because one side writes the prefix 'chr' and the other does not.
    """
    unknown: set[str] = set()

    def on_chrom(line: str) -> Interval | None:
        interval = interval_of(line)
        if interval.chrom in chroms:
            return _fitted(interval, chroms[interval.chrom], clip=skip_unknown)
        if not skip_unknown:
            raise ValueError(unknown_chrom(interval.chrom, chroms))
        unknown.add(interval.chrom)
        return None

    intervals = read_lines(path, on_chrom)
    twins = [name for name in sorted(unknown) if prefix_twin(name, chroms)]
    if twins and not intervals:
        raise RegionError(f"no line of {path} lies on the genome: {unknown_chrom(twins[0], chroms)}")
    return intervals


def read_named_spans(path: str | Path, within: Interval) -> list[tuple[int, int, str]]:
    """Return start, end and name of the lines of a BED file, plain or gzipped, that overlap an interval.

    Parameters
    ----------
    path : str or Path
        The name is the fourth column, empty where there is none.
    within : Interval
        Lines on other chroms, and empty ones, are ignored.

    Raises
    ------
    RegionError
        If the file cannot be read, or any line is at fault; the first few are shown.
    """

    def overlapping(line: str) -> tuple[int, int, str] | None:
        found = interval_of(line)
        if found.chrom != within.chrom or max(found.start, within.start) >= min(found.end, within.end):
            return None
        return found.start, found.end, "".join(columns(line)[3:4])

    return read_lines(path, overlapping)


def read_features(
    path: str | Path, chroms: Mapping[str, int], other_names: Mapping[str, str]
) -> tuple[list[tuple[str, ...]], int]:
    """Return the columns of each line of a BED file, plain or gzipped, and how many lines are elsewhere.

    Parameters
    ----------
    path : str or Path
    chroms : mapping from str to int
        Length of every chrom, in bp. Lines on others are left out.
    other_names : mapping from str to str
        The chrom of each name that the file may use instead.

    Returns
    -------
    rows : list of tuple of str
        Chrom, start, end, name, score (0 to 1000) and strand, in the order of the chroms, then of the starts.
        What a line does not have is ``.``, or 0. Six more, up to the blocks (exons), if all lines have them.
    n_elsewhere : int

    Raises
    ------
    RegionError
        If the file cannot be read, any line is at fault, or none is on the chroms.
    """
    strangers: list[str] = []

    def on_chrom(line: str) -> tuple[str, ...] | None:
        found, (_, _, _, *more) = interval_of(line), columns(line)
        chrom = found.chrom if found.chrom in chroms else other_names.get(found.chrom)
        if chrom is None:
            strangers.append(found.chrom)
            return None
        _fitted(Interval(chrom, found.start, found.end), chroms[chrom], clip=False)
        name, score, strand = (*more, "", "", "")[:3]
        points = int(score) if score.isdigit() else 0
        strand = strand if strand in ("+", "-") else "."
        six = chrom, str(found.start), str(found.end), name or ".", str(min(points, 1000)), strand
        return (*six, *_blocks(found, more[3:])) if len(more) == _MORE_OF_BED12 else six

    rows = read_lines(path, on_chrom)
    if not rows:
        why = unknown_chrom(strangers[0], chroms) if strangers else "it holds no line; expected BED"
        raise RegionError(f"no feature of {path} is on a chrom of the tracks: {why}")
    if len({len(row) for row in rows}) > 1:
        rows = [row[:6] for row in rows]
    rank = {chrom: i for i, chrom in enumerate(chroms)}
    rows.sort(key=lambda row: (rank[row[0]], int(row[1]), int(row[2]), row[3]))
    return rows, len(strangers)


def _blocks(interval: Interval, fields: Sequence[str]) -> tuple[str, ...]:
    """Return the last six columns of BED12: where it is thick, its colour, and its blocks.

    There are none if the columns are others: some programs write twelve of their own.
    """
    thick_start, thick_end, color, count, *lists = fields
    try:
        thick = int(thick_start), int(thick_end)
        sizes, starts = ([int(each) for each in text.rstrip(",").split(",")] for text in lists)
    except ValueError:
        return ()
    if not len(sizes) == len(starts) == int(count if count.isdecimal() else 0):
        return ()
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    if starts[0] != 0 or ends[-1] != len(interval) or starts != sorted(starts) or min(sizes) < 0:
        return ()
    if not interval.start <= thick[0] <= thick[1] <= interval.end:
        thick = interval.start, interval.start
    plain = (",".join(map(str, each)) + "," for each in (sizes, starts))
    return (*map(str, thick), color if _COLOR.fullmatch(color) else "0", count, *plain)


def read_lines(path: str | Path, read: Callable[[str], Kept | None]) -> list[Kept]:
    """Return what is read from the lines of a BED file, without None; a line is at fault if that raises.

    Raises
    ------
    RegionError
        If the file cannot be read, or any line is at fault; the first few are shown.
    """
    kept: list[Kept] = []
    faults: list[str] = []
    for number, line in _lines_with_intervals(Path(path)):
        try:
            found = read(line)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
        else:
            if found is not None:
                kept.append(found)
    if faults:
        raise RegionError(f"{path} cannot be used as BED: {summary_of(faults)}")
    return kept


def _lines_with_intervals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines of a BED file that hold an interval."""
    for number, line in text_lines(path, "a BED file, plain or gzipped"):
        if line.strip() and not line.startswith("#") and line.split(maxsplit=1)[0] not in _HEADERS:
            yield number, line


def interval_of(line: str) -> Interval:
    """Return the interval of one line; ValueError says what is wrong with it."""
    fields = columns(line)
    if len(fields) < 3:
        raise ValueError(f"{line!r} has {len(fields)} of at least 3 columns (chrom, start, end)")
    try:
        start, end = int(fields[1]), int(fields[2])
    except ValueError:
        raise ValueError(
            f"start {fields[1]!r} and end {fields[2]!r} are not both whole numbers; put # before a header"
        ) from None
    if start < 0:
        raise ValueError(f"start {start} is below 0")
    if end < start:
        raise ValueError(f"end {end} is before start {start}")
    return Interval(fields[0], start, end)


def _fitted(interval: Interval, length: int, *, clip: bool) -> Interval:
    """Return the part of an interval on its chrom; ValueError if there is another part, unless it is cut."""
    if interval.end <= length:
        return interval
    if not clip:
        raise ValueError(f"end {interval.end} is past the end of {interval.chrom!r}, {length} bp")
    return Interval(interval.chrom, min(interval.start, length), length)
