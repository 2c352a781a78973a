"""Exact scores of variants as rows of text, wide or long."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tism_scan.effects.haplotypes import REASONS
from tism_scan.effects.reading import Item
from tism_scan.effects.results import UNKNOWN, Results
from tism_scan.plan.labels import names_apart
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.tracks import Track
from tism_scan.variants.naming import info_ids
from tism_scan.version import __version__

Shape = Literal["wide", "long"]

MISSING = "NA"
_FIRST = ("chrom", "pos", "id", "ref", "alt", "ref_match", "n_in_window")
_NUMBERS = ("ref", "alt", "diff", "log2fc")


def origin_of(plan: PartsPlan) -> dict[str, Any]:
    """Return what results were made with, for the head of a file."""
    return {
        "Version": __version__,
        "Plan": plan.digest(),
        "Model": plan.model,
        "Genome": plan.genome_digest,
        "Strands": plan.scoring.strands,
    }


def kinds_of(*, has_log2fc: bool) -> tuple[str, ...]:
    """Return which numbers there are of each track."""
    return _NUMBERS if has_log2fc else _NUMBERS[:-1]


def column_names(tracks: Sequence[Track], shape: Shape, *, has_log2fc: bool) -> list[str]:
    """Return the names of a table's columns."""
    kinds = kinds_of(has_log2fc=has_log2fc)
    if shape == "long":
        return [*_FIRST, "track", *(f"track_{kind}" for kind in kinds), "reason"]
    names = info_ids(tracks, "", ())
    return [*_FIRST, *(f"{name}_{kind}" for name in names for kind in kinds), "reason"]


def rows_of(
    items: Sequence[Item], results: Results, tracks: Sequence[Track], shape: Shape, *, has_log2fc: bool
) -> Iterator[str]:
    """Yield the rows of some alleles, each with its line end."""
    kinds = kinds_of(has_log2fc=has_log2fc)
    names = names_apart(tracks)
    numbers = np.stack([getattr(results, kind) for kind in kinds], axis=2)  # (n, T, kinds)
    for i, item in enumerate(items):
        first, reason = "\t".join(leading(item, results, i)), REASONS[results.reason[i]] or "."
        if shape == "wide":
            yield "\t".join([first, *texts(numbers[i].ravel()), reason]) + "\n"
        else:
            for name, row in zip(names, numbers[i], strict=True):
                yield "\t".join([first, name, *texts(row), reason]) + "\n"


def leading(item: Item, results: Results, i: int) -> list[str]:
    """Return an allele's own columns."""
    counts = (int(results.ref_match[i]), int(results.n_in_window[i]))
    shown = [MISSING if count == UNKNOWN else str(count) for count in counts]
    alleles = shown_alleles(item, results, i)
    return [item.contig, str(item.allele.position + 1), item.id, *alleles, *shown]


def shown_alleles(item: Item, results: Results, i: int) -> tuple[str, str]:
    """Return REF and ALT; where they were exchanged, they are shown so."""
    _, _, ref, alt = item.allele
    return (alt, ref) if results.is_swapped[i] else (ref, alt)


def texts(numbers: NDArray[np.float32]) -> list[str]:
    """Return numbers as text, those that are missing as `MISSING`."""
    return [f"{number:.6g}" if number == number else MISSING for number in numbers.tolist()]
