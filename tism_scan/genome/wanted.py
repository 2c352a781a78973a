"""Which bases of a genome are wanted: regions, BED files and chroms chosen by name, less what is excluded."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tism_scan.errors import RegionError
from tism_scan.genome.bed import read_bed
from tism_scan.genome.intervals import Interval, parse_region, summary_of, unknown_chrom
from tism_scan.genome.spans import Spans, merge, subtract


def wanted_spans(
    chroms: Mapping[str, int],
    *,
    regions: Sequence[str] = (),
    beds: Sequence[str | Path] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    exclude_beds: Sequence[str | Path] = (),
) -> dict[str, Spans]:
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
        Their lines on chroms that the genome lacks are ignored.

    Returns
    -------
    dict from str to tuple of (int, int)
        Merged spans, chroms in FASTA order, without chroms that have no wanted base.

    Raises
    ------
    RegionError
        If a region or file cannot be used, a file of `beds` holds no base, a glob of `include` fits no chrom,
        or no base is left.
    """
    chosen = _chosen_chroms(chroms, include, exclude)
    if regions or beds:
        wanted = _parse_regions(regions, chroms)
        wanted += [interval for path in beds for interval in _bed_with_bases(path, chroms)]
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


def _bed_with_bases(path: str | Path, chroms: Mapping[str, int]) -> list[Interval]:
    """Return the intervals of a BED file of wanted bases, or raise RegionError if it holds no base."""
    intervals = read_bed(path, chroms)
    if not any(interval.end > interval.start for interval in intervals):
        raise RegionError(
            f"{str(path)!r} holds no base; expected BED lines of chrom, start and end; correct it, or leave "
            "it out to score every base"
        )
    return intervals


def _chosen_chroms(chroms: Mapping[str, int], include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Return the chroms that fit `include` and do not fit `exclude`."""
    chosen = set() if include else set(chroms)
    faults = []
    for pattern in patterns_in(include):
        fitting = _fitting(pattern, chroms)
        if not fitting:
            faults.append(unknown_chrom(pattern, chroms))
        chosen |= fitting
    if faults:
        raise RegionError(summary_of(faults))
    for pattern in patterns_in(exclude):
        chosen -= _fitting(pattern, chroms)
    return chosen


def patterns_in(items: Sequence[str]) -> list[str]:
    """Return the names and globs in texts that hold several, separated by commas."""
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
        raise RegionError(summary_of(faults))
    return intervals
