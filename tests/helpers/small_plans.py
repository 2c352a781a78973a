"""Plans of a few blocks, and scores to put into their stores."""

import numpy as np

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

CHROMS = {"chr1": 1300, "HLA-A*01:01:01:01": 300, "c": 512, "unwanted": 700, "empty": 0}
BLOCK_BP = 512
WEIRD_NAMES = [
    "../../x",
    "a/b",
    "..",
    ".",
    "",
    "=",
    ".scan",
    "zarr.json",
    "=7Aarr.json",
    "__x",
    "HLA-A*01:01:01:01",
    "c",
    "Chr1",
    "chr1",
    "染色体",
    "a b",
    "a=20b",
]


def tracks_of(n_tracks):
    return tuple(Track(f"track {i}", (i,), (1.0,)) for i in range(n_tracks))


def small_plan(n_tracks=3, *, chroms=CHROMS, wanted=None, block_bp=BLOCK_BP, keep_bits=None, **scoring):
    """Return a plan for windows of 200 bp at stride 64, of every base unless told otherwise."""
    settings = {"input_bp": 200, "stride": 64} | scoring
    whole = {name: ((0, length),) for name, length in chroms.items() if length and name != "unwanted"}
    return ScanPlan(
        Scoring(tracks_of(n_tracks), **settings),
        "genome",
        "weights",
        chroms,
        whole if wanted is None else wanted,
        block_bp,
        keep_bits=keep_bits,
    )


def random_scores(plan, seed=0):
    """Return scores of each wanted chrom, with some NaN."""
    bases = (4,) if plan.scoring.values == "tism" else ()
    rng = np.random.default_rng(seed)
    scores = {}
    for chrom in plan.wanted:
        shape = (len(plan.scoring.tracks), *bases, plan.chroms[chrom])
        scores[chrom] = rng.normal(scale=1e-3, size=shape).astype(np.float32)
        scores[chrom][..., rng.random(plan.chroms[chrom]) < 0.1] = np.nan
    return scores


def publish(store, scores, blocks=None):
    """Put scores into a store, all of its blocks or some."""
    for block in store.plan.all_blocks() if blocks is None else blocks:
        store.publish_block(block, scores[block.chrom][..., block.start : block.end])
