"""A finished store, and what it has on disk: its scores, its objects, one shard, one marker."""

import numpy as np
from small_plans import publish, random_scores, small_plan

from tism_scan.plan import scan_plan as plan_module
from tism_scan.store.ledger import DONE
from tism_scan.store.score_store import ScoreStore


def finished_store(path, patch):
    """Return a finished store of three tracks, of which two fit a shard: each block has two shards."""
    patch.setattr(plan_module, "SHARD_BYTES", 2 * 4 * 512)
    store = ScoreStore.create(path, small_plan(3), {"command": "tism-scan run"})
    publish(store, random_scores(store.plan))
    return store


def objects(path):
    """Return the content of every file of a store, by key, without the record of what is done."""
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {key: file.read_bytes() for key, file in files.items() if not key.startswith(".scan/")}


def whole_objects(path):
    """Return the same without what a kill cut short.

    No reader takes that for an object, and it is swept away once it is some minutes old.
    """
    return {key: content for key, content in objects(path).items() if not key.endswith(".partial")}


def scores_in(store):
    """Return the scores of a store of mean TISM, float32 (T, L), by chrom."""
    return {
        chrom: np.stack(
            [store.read_track(chrom, 0, length, i) for i in range(len(store.plan.scoring.tracks))]
        )
        for chrom, length in store.plan.chroms.items()
    }


def assert_equal_to_the_bit(store, expected):
    """Compare a store's scores with those of another, by chrom."""
    for chrom, scores in scores_in(store).items():
        np.testing.assert_array_equal(scores.view(np.uint32), expected[chrom].view(np.uint32))


def shard_of(store, i_group=0, i_block=0):
    """Return the file of a shard of a small plan's first chrom."""
    return store.path / f"chr1/c/{i_group}/{i_block}"


def marker_of(store, i_group=0, i_block=0):
    """Return the file that says that this shard is done."""
    (marker,) = (store.path / DONE).glob(f"0.{i_block}.{i_group}.*")
    return marker
