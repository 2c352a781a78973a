"""Results of a list, part by part."""

import contextlib
import itertools
import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import small_plan

from tism_scan.errors import LeaseError, StoreError
from tism_scan.plan.parts import Part, PartsPlan
from tism_scan.plan.probes import Probes
from tism_scan.store.lease import Lease
from tism_scan.store.parts import PartStore
from tism_scan.store.score_store import ScoreStore

SCORING = small_plan().scoring
PLAN = PartsPlan("variants", 7, 3, SCORING, "g" * 64, "w" * 64, "toy", {"chr1": 100}, {"list": "d" * 64})


@pytest.fixture
def store(tmp_path):
    return PartStore.create(tmp_path / "out.parts", PLAN, [("list", b"seven variants")])


def publish(store, parts=None):
    for part in store.pending() if parts is None else parts:
        store.publish(part, f"results of {part}".encode())


@given(st.integers(0, 50), st.integers(1, 12))
def test_parts_hold_every_item_once_and_in_order(n_items, items_per_part):
    plan = replace(PLAN, n_items=n_items, items_per_part=items_per_part)
    parts = list(plan.parts())
    assert [i for part in parts for i in range(part.start, part.end)] == list(range(n_items))
    assert [part.i_part for part in parts] == list(range(plan.n_parts))
    assert all(1 <= part.size <= items_per_part for part in parts)


def test_plan_comes_back_from_its_json():
    again = PartsPlan.from_json(json.loads(json.dumps(PLAN.to_json())))
    assert (again, again.digest()) == (PLAN, PLAN.digest())


def test_parts_are_pending_until_they_are_published(store):
    assert [str(part) for part in store.pending()] == ["variants 1-3", "variants 4-6", "variants 7-7"]
    publish(store, [next(store.pending())])
    again = PartStore.create(store.path, PLAN)
    assert [part.i_part for part in again.pending()] == [1, 2]
    assert (again.in_order().size, len(again.in_order()), again.size) == (4, 2, 7)
    publish(again)
    contents = [content for _, content in PartStore.open(store.path).results()]
    assert contents == [b"results of variants 1-3", b"results of variants 4-6", b"results of variants 7-7"]


def test_the_record_has_the_digest_and_the_names_that_earlier_releases_look_for(store):
    publish(store)
    assert PLAN.digest() == "aef7f0b700179d19dee613680c7c7df6a12f6ebdbb8187ce6d5f78b82aa7f130"
    contents = [f"results of {part}".encode() for part in PLAN.parts()]
    expected = {
        f"0.{i}.0.{len(content)}.{zlib.crc32(content):08x}.{PLAN.digest()[:16]}"
        for i, content in enumerate(contents)
    }
    assert {path.name for path in (store.path / ".scan/done").rglob("*") if path.is_file()} == expected
    found = [(path.name, path.read_bytes()) for path in sorted((store.path / "parts").iterdir())]
    assert found == [(f"{i:07d}", content) for i, content in enumerate(contents)]


def test_workers_read_the_inputs_of_which_a_new_store_was_made(store):
    PartStore.create(store.path, PLAN, [("list", b"not read")])
    assert PartStore.open(store.path).read_input("list") == b"seven variants"
    with pytest.raises(StoreError, match=r"\.scan/input/other is missing in .*out.parts"):
        store.read_input("other")


def test_store_whose_making_was_cut_short_is_begun_again(tmp_path):
    def cut_short():
        yield "list", b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PartStore.create(tmp_path / "s", PLAN, cut_short())
    with pytest.raises(StoreError, match="holds no parts of results"):
        PartStore.open(tmp_path / "s")
    assert PartStore.create(tmp_path / "s", PLAN, [("list", b"whole")]).read_input("list") == b"whole"


@pytest.mark.parametrize("n_steps", range(9))
def test_store_whose_deletion_was_cut_short_anywhere_still_has_all_inputs_or_gets_them(tmp_path, n_steps):
    inputs = [(f"{i}", b"some") for i in range(3)]
    store = PartStore.create(tmp_path / "s", PLAN, inputs)
    publish(store)
    steps = itertools.count()

    def cut_short():
        if next(steps) == n_steps:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        PartStore(store.folder.fenced(cut_short), PLAN).delete()
    again = PartStore.create(tmp_path / "s", PLAN, inputs)
    assert [again.read_input(name) for name, _ in inputs] == [b"some"] * 3


def test_another_plan_is_refused_and_what_differs_is_named(store):
    other = replace(PLAN, options={"list": "e" * 64}, items_per_part=4)
    with pytest.raises(StoreError, match=r"items_per_part 3, not 4") as refused:
        PartStore.create(store.path, other)
    assert f"list {'d' * 64}, not {'e' * 64}" in str(refused.value)
    assert PartStore.create(store.path, other, overwrite=True).plan == other


def test_another_models_numbers_are_refused(tmp_path):
    tracks = SCORING.tracks
    one, another = (Probes(((value,) * len(tracks),) * 2, 0.1) for value in (1.0, 2.0))
    PartStore.create(tmp_path / "s", PLAN.with_probes(one))
    assert PartStore.open(tmp_path / "s").plan.probes == one
    with pytest.raises(StoreError, match="made with a model that computes something else"):
        PartStore.create(tmp_path / "s", PLAN.with_probes(another))


def test_store_of_scores_and_parts_do_not_take_each_other(tmp_path, store):
    scores = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    with pytest.raises(StoreError, match=r"s.zarr holds other results: the plan has format 7"):
        PartStore.create(scores.path, PLAN)
    with pytest.raises(StoreError, match="is a store of variants; expected one that `tism-scan run` made"):
        ScoreStore.create(store.path, small_plan())
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    with pytest.raises(StoreError, match="holds other files"):
        PartStore.create(tmp_path / "full", PLAN)


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"x" * path.stat().st_size), lambda path: path.unlink()]
)
def test_damaged_part_is_found_and_pending_again(store, damage):
    publish(store)
    damage(store.path / "parts/0000001")
    assert store.damaged() == [Part(1, 3, 6)]
    store.make_pending(Part(1, 3, 6), store.ledger.done())
    assert [part.i_part for part in store.pending()] == [1]
    with pytest.raises(StoreError, match=r"variants 4-6 are missing or damaged"):
        list(store.results())


def test_results_are_not_read_past_a_damaged_part(store):
    publish(store)
    (store.path / "parts/0000002").write_bytes(b"other")
    with pytest.raises(StoreError, match=r"variants 7-7 are missing .*; run the same command again"):
        list(store.results())
    assert [part.i_part for part in store.pending()] == [2]


def test_failed_part_has_no_results_and_is_tried_again_if_asked(store):
    first, *rest = store.pending()
    publish(store, rest)
    store.mark_failed(first, "no luck", 3)
    assert list(store.pending()) == []
    assert list(store.pending(retry_failed=True)) == [first]
    assert next(store.results()) == (first, None)
    assert [failure.error for failure in store.ledger.failures()] == ["no luck"]
    store.forget_failure(first)
    assert list(store.pending()) == [first]


def test_nobody_publishes_into_a_store_that_another_took(store):
    with Lease(store.folder).acquire() as lease:
        old = store.held_by(lease.tenure)
        with Lease(store.folder).acquire(break_lock=True), pytest.raises(LeaseError, match="took"):
            publish(old)
    assert len(list(store.pending())) == 3
