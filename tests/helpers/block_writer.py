"""Publishes blocks of random scores until it is ended: ``block_writer.py STORE SEED [nosync]``.

It prints the number of each block that is marked done. With ``nosync`` nothing is synced, to show that the
test that uses it would notice.
"""

import os
import sys

import numpy as np

from tism_scan.store.score_store import ScoreStore


def main(path, seed, how="sync"):
    if how == "nosync":
        os.fsync = lambda descriptor: None
    store, rng = ScoreStore.open(path), np.random.default_rng(int(seed))
    for block in store.pending():
        scores = rng.normal(size=(len(store.plan.scoring.tracks), len(block)))
        store.publish_block(block, scores.astype(np.float32))
        print(block.i_block, flush=True)  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
