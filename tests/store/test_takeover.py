"""Two drivers and one store: in no order of their steps is a block done whose object is another plan's."""

import itertools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import small_plan
from stepping import stepping

from tism_scan.errors import LeaseError
from tism_scan.storage import atomic
from tism_scan.storage import folder as folder_module
from tism_scan.store import score_store as store_module
from tism_scan.store.arrays import encode_shard
from tism_scan.store.lease import Lease, Tenure
from tism_scan.store.score_store import ScoreStore

# Weights differ, all else is the same: so are the keys of both plans, and the sizes of their objects.
OLD, NEW = (replace(small_plan(), weights_digest=name * 64) for name in "ab")
MOST_BLOCKS = 2


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch):
    """Leave out what a model of stops needs not: power cuts."""
    monkeypatch.setattr(atomic, "sync_path", lambda path: None)
    monkeypatch.setattr(folder_module, "sync_path", lambda path: None)
    monkeypatch.setattr(folder_module, "sync_file", lambda file: None)
    monkeypatch.setattr(store_module, "METADATA_THREADS", 1)


def shard(plan, block):
    """Return the object that a plan's driver stores."""
    return encode_shard(plan, block, scores(plan, block))


def scores(plan, block):
    """Return noise, which cannot be compressed to another size."""
    random = np.random.default_rng(plan is OLD)
    bits = random.integers(0, 1 << 30, (len(plan.scoring.tracks), len(block)), dtype=np.uint32)
    return bits.view(np.float32)


def drive(path, plan, **how):
    """Scan a few blocks, whoever holds the store."""
    store = ScoreStore.create(path, plan, break_lock=True, **how)
    with Lease(store.folder).acquire(break_lock=True) as lease:
        owned = store.held_by(lease.tenure)
        for block in itertools.islice(owned.pending(), MOST_BLOCKS):
            owned.publish_block(block, scores(plan, block))


def wrong_blocks(path):
    """Return the blocks that count as done, and whose object is not the plan's."""
    if not (path / ".scan/run.json").exists():
        return []
    store = ScoreStore.open(path)
    plan = OLD if store.plan.digest() == OLD.digest() else NEW
    done = store.done_blocks()
    blocks = [block for block in plan.all_blocks() if (block.chrom, block.i_block) in done]
    (keys,) = zip(*[store.addresses(block) for block in blocks], strict=True) if blocks else [()]
    objects = [(path / store.shard_key(key)).read_bytes() for key in keys]
    return [block for block, content in zip(blocks, objects, strict=True) if content != shard(plan, block)]


def search(monkeypatch, orders):
    """Let an old driver and one that overwrites its store take their steps in some orders.

    An order holds numbers of steps, of the two in turn. What is left to do in the end is done by the new one
    and then by the old one, which so wakes up when all is over.
    """
    n_lost = 0
    for order in orders:
        with TemporaryDirectory() as folder, stepping(monkeypatch) as start:
            path = Path(folder) / "s.zarr"
            old = start(lambda path=path: drive(path, OLD))
            old.step(order[0])
            new = start(lambda path=path: drive(path, NEW, overwrite=True))
            for i, n_steps in enumerate(order[1:]):
                (new, old)[i % 2].step(n_steps)
                assert wrong_blocks(path) == [], order
            new.finish()
            assert wrong_blocks(path) == [], order
            old.finish()
            assert wrong_blocks(path) == [], order
            n_lost += isinstance(old.error, LeaseError)
    return n_lost


def n_steps_of(monkeypatch):
    """Return how many steps each driver takes if nobody interferes."""
    with TemporaryDirectory() as folder, stepping(monkeypatch) as start:
        path = Path(folder) / "s.zarr"
        n_old = start(lambda: drive(path, OLD)).finish()
        return n_old, start(lambda: drive(path, NEW, overwrite=True)).finish()


def test_plans_differ_in_their_objects_and_not_in_their_sizes():
    block = next(OLD.all_blocks())
    assert shard(OLD, block) != shard(NEW, block)
    assert len(shard(OLD, block)) == len(shard(NEW, block))


def test_old_driver_that_is_stopped_anywhere_and_wakes_up_in_the_end_does_no_harm(monkeypatch):
    n_old, _ = n_steps_of(monkeypatch)
    assert n_old > 30
    assert search(monkeypatch, [(i,) for i in range(n_old)]) > n_old / 3


def test_old_driver_that_wakes_up_while_the_new_one_works_does_no_harm(monkeypatch, is_full_dose):
    n_old, n_new = n_steps_of(monkeypatch)
    every = (3, 5) if is_full_dose else (7, 11)
    firsts = enumerate(range(0, n_old, every[0]))
    orders = [(i, j, n_old) for k, i in firsts for j in range(2 * k % every[1], n_new, every[1])]
    search(monkeypatch, orders)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(order=st.lists(st.integers(0, 25), min_size=2, max_size=9))
def test_drivers_that_take_turns_in_any_order_do_no_harm(order):
    with pytest.MonkeyPatch.context() as monkeypatch:
        search(monkeypatch, [order])


def test_search_finds_what_happens_without_the_fence(monkeypatch):
    n_old, _ = n_steps_of(monkeypatch)
    monkeypatch.setattr(Tenure, "check", lambda tenure, folder: None)
    with pytest.raises(AssertionError):
        search(monkeypatch, [(i,) for i in range(n_old)])
