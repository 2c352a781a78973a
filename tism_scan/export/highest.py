"""The highest seqlets of an exported track, for a first look: found by the bigWig's own zoom levels."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tism_scan.bigwig.peaks import Peaks
from tism_scan.browser.annotations import Annotation
from tism_scan.browser.shown import Highest
from tism_scan.export.seqlets import SeqletRule, find_seqlets
from tism_scan.genome.intervals import Interval

_N_SHOWN = 20
_RULE = SeqletRule()
_MARGIN_BP = 1 << 10  # seqlets are shorter
_MOST_BINS = 2000  # in noise there may be no seqlet at all


class FeatureNames:
    """Names of features over a place.

    Parameters
    ----------
    annotations : iterable of Annotation
        Genes are left out: they are too long to explain a seqlet.
    """

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        rows: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for annotation in annotations:
            if not annotation.is_genes:
                for chrom, start, end, name, *_ in annotation.rows:
                    rows[chrom].append((int(start), int(end), name))
        self._names = {chrom: [name for _, _, name in found] for chrom, found in rows.items()}
        self._spans = {chrom: np.array([row[:2] for row in found]) for chrom, found in rows.items()}

    def over(self, place: Interval) -> tuple[str, ...]:
        """Return the names of all features that share a base with a place, each once."""
        if place.chrom not in self._spans:
            return ()
        starts, ends = self._spans[place.chrom].T
        names = self._names[place.chrom]
        found = (names[i] for i in np.flatnonzero((starts < place.end) & (ends > place.start)))
        return tuple(dict.fromkeys(name for name in found if name != "."))


def highest_seqlets(path: Path, limit: float, names: FeatureNames) -> Sequence[Highest]:
    """Return the seqlets with the greatest magnitudes, the greatest first.

    Parameters
    ----------
    path : Path
        Of a bigWig.
    limit : float
        Magnitude from which on a base is high; at 0 there is no seqlet.
    names : FeatureNames
    """
    found: dict[Interval, float] = {}
    if limit <= 0:
        return []
    with Peaks(path) as peaks:
        for bound, chrom, bin_start, bin_end in peaks.bins()[:_MOST_BINS]:
            best = sorted(map(abs, found.values()), reverse=True)[:_N_SHOWN]
            if bound < limit or (len(best) == _N_SHOWN and best[-1] >= bound):
                break
            start = max(0, bin_start - _MARGIN_BP)
            scores = peaks.scores(chrom, start, bin_end + _MARGIN_BP)
            for seqlets in find_seqlets([(start, scores)], limit, _RULE):
                for first, end, extreme in zip(seqlets.start, seqlets.end, seqlets.extreme, strict=True):
                    if bin_start <= first < bin_end:
                        found[Interval(chrom, int(first), int(end))] = float(extreme)
    order = sorted(found, key=lambda each: (-abs(found[each]), each))[:_N_SHOWN]
    return [Highest(place, found[place], names.over(place)) for place in order]
