"""How well scores tell the bases of planted motifs from all others."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tism_scan.demo.genome import DemoChrom
from tism_scan.demo.synthesis import ACCESSIBLE
from tism_scan.genome.intervals import Interval
from tism_scan.store.score_store import ScoreStore


def auroc(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> float:
    """Return the chance that a positive's value is above a negative's, ties counting half.

    References
    ----------
    Hanley and McNeil, Radiology 143, 29 (1982), doi 10.1148/radiology.143.1.7063747: the area under the ROC
    curve is the Mann-Whitney statistic over the number of pairs.
    """
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    up_to = np.searchsorted(ordered, positives, side="right")
    return float((below + up_to).mean() / (2 * len(ordered)))


def motif_auroc(store: ScoreStore, genome: Mapping[str, DemoChrom]) -> dict[str, tuple[int, float]]:
    """Return, for each track, the number of its factor's sites and the AUROC of |mean TISM| on their bases.

    The track "accessible" is held against the sites of all factors.
    """
    found = {}
    for i_track, track in enumerate(store.plan.scoring.tracks):
        values, labels, n_sites = [], [], 0
        for chrom, made in genome.items():
            is_motif = np.zeros(len(made.codes), dtype=bool)
            for site in made.sites:
                if track.name in (site.factor, ACCESSIBLE):
                    is_motif[site.start : site.end] = True
                    n_sites += 1
            scores = np.abs(store.read_track(chrom, 0, len(made.codes), i_track))
            values.append(scores[np.isfinite(scores)])
            labels.append(is_motif[np.isfinite(scores)])
        score, label = np.concatenate(values), np.concatenate(labels)
        found[track.name] = (n_sites, auroc(score[label], score[~label]))
    return found


def best_site(store: ScoreStore, genome: Mapping[str, DemoChrom], flank_bp: int = 30) -> Interval:
    """Return a planted motif, and some bases on either side, that the first track sees as a whole.

    Of the sites of the first track's factor, it is the one whose lowest quarter of scores is highest: all of
    its letters stand up.
    """
    factor = store.plan.scoring.tracks[0].name
    sites = [
        Interval(chrom, site.start, site.end)
        for chrom, made in genome.items()
        for site in made.sites
        if site.factor == factor
    ]
    best = max(
        sites, key=lambda site: np.quantile(store.read_track(site.chrom, site.start, site.end, 0), 0.25)
    )
    return Interval(best.chrom, max(0, best.start - flank_bp), best.end + flank_bp)
