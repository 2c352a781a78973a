"""Refinements with known numbers, beside stores that tests have made."""

import numpy as np
from small_plans import publish

from tism_scan.plan.selection import Selection
from tism_scan.refine.planning import refinement_plan
from tism_scan.store.refined import refinement_place
from tism_scan.store.score_store import ScoreStore


def refined_beside(scan, wanted, tism, rule="quantile 0.9"):
    """Return a finished refinement of some bases of a scan, whose effects are those of whole chroms."""
    plan = refinement_plan(scan.plan, wanted, Selection(scan.plan.digest(), rule))
    store = ScoreStore.create(refinement_place(scan), plan)
    effects = {}
    for chrom, spans in wanted.items():
        effects[chrom] = np.full_like(tism[chrom], np.nan)
        for start, end in spans:
            effects[chrom][..., start:end] = tism[chrom][..., start:end]
    publish(store, effects)
    return store, effects
