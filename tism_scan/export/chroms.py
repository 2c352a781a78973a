"""The chroms of an export: those that were scanned and are asked for, and how much of them was wanted."""

from collections.abc import Iterable, Sequence

from tism_scan.errors import RegionError
from tism_scan.genome.wanted import patterns_in, wanted_spans
from tism_scan.plan.scan_plan import ScanPlan


def chosen_chroms(plan: ScanPlan, globs: Sequence[str] = ()) -> list[str]:
    """Return the scanned chroms that fit names or globs, in the genome's order; without any, all of them.

    Raises
    ------
    RegionError
        If one of them names a chrom that was not scanned, or fits none.
    """
    unscanned = [repr(name) for name in patterns_in(globs) if name in plan.chroms and name not in plan.wanted]
    if unscanned:
        shown = ", ".join(map(repr, list(plan.wanted)[:3]))
        raise RegionError(
            f"no base of {', '.join(unscanned)} was scanned; expected a chrom such as {shown}; leave out the "
            "others"
        )
    scanned = {chrom: plan.chroms[chrom] for chrom in plan.wanted}
    return list(wanted_spans(scanned, include=globs))


def n_wanted(plan: ScanPlan, chroms: Iterable[str]) -> int:
    """Return how many bases of some chroms were to be scored."""
    return sum(plan.wanted[chrom].n_bases for chrom in chroms if chrom in plan.wanted)
