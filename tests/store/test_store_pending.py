import errno
import os
import stat

import numpy as np
import pytest
from crashing_folder import CrashingFolder
from small_plans import publish, random_scores, small_plan
from stored import finished_store, marker_of, objects, shard_of

from tism_scan.errors import StorageFullError
from tism_scan.plan.tiling import Block
from tism_scan.scan.verify import verify_store
from tism_scan.store.ledger import Checksum, ShardAddress
from tism_scan.store.score_store import ScoreStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a finished store of two shards a block."""
    return finished_store(tmp_path / "scores.zarr", monkeypatch)


def first_block(store):
    return next(store.plan.all_blocks())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_every_block_of_a_new_store_is_pending(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    assert list(store.pending()) == list(store.plan.all_blocks())
    assert store.done_blocks() == set()


def test_published_blocks_are_done_for_every_reader(store):
    assert list(ScoreStore.open(store.path).pending()) == []


@pytest.mark.parametrize("i_group", [0, 1])
@pytest.mark.parametrize(
    "harm",
    [
        lambda shard, marker: marker.unlink(),
        lambda shard, marker: shard.unlink(),
        lambda shard, marker: truncate(shard),
        lambda shard, marker: shard.write_bytes(b""),
        lambda shard, marker: shard.write_bytes(shard.read_bytes() + b"\0"),
        lambda shard, marker: (shard.unlink(), marker.unlink()),
    ],
    ids=["no marker", "no object", "truncated", "empty", "too long", "neither"],
)
def test_block_without_a_marker_and_an_object_of_its_size_is_pending(store, harm, i_group):
    harm(shard_of(store, i_group, 1), marker_of(store, i_group, 1))
    assert list(store.pending()) == [Block("chr1", 1, 512, 1024)]


def test_publishing_twice_is_harmless(store):
    before = sorted(path for path in store.path.rglob("*"))
    publish(store, random_scores(store.plan))
    assert sorted(path for path in store.path.rglob("*")) == before
    assert list(store.pending()) == []


def test_block_that_two_workers_scored_a_little_differently_is_done(store):
    block, scores = first_block(store), random_scores(store.plan, seed=1)
    publish(store, scores, [block])
    assert list(store.pending()) == []
    assert verify_store(store.path, full=True).is_sound
    assert np.array_equal(store.read_track("chr1", 0, 512, 0), scores["chr1"][0, :512], equal_nan=True)


@pytest.mark.parametrize("address", [ShardAddress(99, 0, 0), ShardAddress(0, 99, 0), ShardAddress(0, 0, 99)])
def test_marker_of_nothing_that_the_plan_has_is_passed_over(store, address):
    store.ledger.mark_done(address, Checksum(5, 5))
    assert len(store.done_blocks()) == 5
    assert list(store.pending()) == []


def test_full_disk_leaves_the_block_pending_and_the_store_goes_on_once_there_is_room(store, monkeypatch):
    whole, block = objects(store.path), first_block(store)
    for i_group in range(2):
        marker_of(store, i_group).unlink()
    fsync = os.fsync

    def fill_up(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_up)
        with pytest.raises(StorageFullError, match=r"no room left to write .*chr1/c/0/0"):
            publish(store, random_scores(store.plan), [block])
    assert list(store.pending()) == [block]
    assert objects(store.path) == whole
    publish(store, random_scores(store.plan), [block])
    assert list(store.pending()) == []


def test_failed_block_is_passed_by_until_it_is_tried_again(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    first, *others = store.plan.all_blocks()
    store.mark_failed(first, "too hot", 3)
    assert list(store.pending()) == others
    assert list(store.pending(retry_failed=True)) == [first, *others]
    assert store.ledger.failures()[0].error == "too hot"
    store.forget_failure(first)
    assert list(store.pending()) == [first, *others]


def test_only_blocks_with_wanted_bases_are_pending(tmp_path):
    plan = small_plan(wanted={"chr1": ((600, 700),), "c": ((0, 1),)})
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    assert [(block.chrom, block.i_block) for block in store.pending()] == [("chr1", 1), ("c", 0)]


@pytest.mark.parametrize("n_puts", range(4))
def test_block_whose_publishing_was_killed_at_any_point_is_pending(store, monkeypatch, n_puts):
    whole, block = objects(store.path), first_block(store)
    for i_group in range(2):
        marker_of(store, i_group).unlink()
        shard_of(store, i_group).unlink()
    crashing = ScoreStore(store.path, store.plan)
    crashing.folder = crashing.ledger.folder = CrashingFolder(store.path)
    CrashingFolder.puts_left = n_puts
    with pytest.raises(KeyboardInterrupt, match="killed"):
        publish(crashing, random_scores(store.plan), [block])
    assert list(store.pending()) == [block]
    publish(store, random_scores(store.plan), [block])
    assert objects(store.path) == whole
    assert list(store.pending()) == []
