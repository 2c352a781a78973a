import json
from dataclasses import replace

import numpy as np
import pytest
from small_plans import random_scores, small_plan

from tism_scan.errors import StoreError
from tism_scan.genome.spans import Spans
from tism_scan.store.ledger import MOST_SPANS_IN_RECORD, RUN_KEY, spans_file, spans_of_file
from tism_scan.store.score_store import ScoreStore

CHROMS = {"chr1": 400_000, "bare": 1_000, "chr2": 1_000}
WANTED = {
    "chr1": Spans((30 * i, 30 * i + 7) for i in range(MOST_SPANS_IN_RECORD)),
    "chr2": Spans([(3, 500), (501, 1_000)]),
}


@pytest.fixture
def plan():
    return small_plan(1, chroms=CHROMS, wanted=WANTED, block_bp=65_536)


@pytest.fixture
def store(tmp_path, plan):
    return ScoreStore.create(tmp_path / "s.zarr", plan)


def spans_key(store):
    return json.loads((store.path / RUN_KEY).read_bytes())["plan"]["wanted"]


def test_very_many_spans_are_beside_the_record_and_read_back_the_same(store, plan):
    assert (store.path / RUN_KEY).stat().st_size < 3_000
    again = ScoreStore.open(store.path).plan
    assert again == plan
    assert again.digest() == plan.digest()
    assert again.wanted == WANTED


def test_few_spans_stay_in_the_record(tmp_path):
    plan = small_plan(1, chroms=CHROMS, wanted={"chr1": WANTED["chr1"][:-2], "chr2": WANTED["chr2"]})
    store = ScoreStore.create(tmp_path / "few.zarr", plan)
    described = json.loads((store.path / RUN_KEY).read_bytes())["plan"]
    assert described["format"] == 7
    assert sum(len(spans) for _, spans in described["wanted"]) == MOST_SPANS_IN_RECORD
    assert not (store.path / ".scan" / "spans").exists()


def test_earlier_releases_refuse_the_record_by_its_format(plan, tmp_path):
    store = ScoreStore.create(tmp_path / "earlier.zarr", replace(plan, codec="zstd"))
    assert json.loads((store.path / RUN_KEY).read_bytes())["plan"]["format"] == 4


def test_scan_goes_on_where_it_was(store, plan):
    scores = random_scores(plan)
    first, *others = plan.all_blocks()
    store.publish_block(first, scores[first.chrom][:, first.start : first.end])
    again = ScoreStore.create(store.path, plan)
    assert list(again.pending()) == others


@pytest.mark.parametrize("damage", ["missing", "cut", "another"])
def test_spans_that_are_not_those_of_the_record_are_told(store, damage):
    path = store.path / spans_key(store)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(spans_file({"chr1": Spans([(0, 9)])}, tuple(CHROMS)))
    fault = "is missing" if damage == "missing" else "is damaged"
    with pytest.raises(StoreError, match=rf"\.npy {fault}; expected the spans that \.scan/run\.json names"):
        ScoreStore.open(store.path)


def test_record_leads_to_no_file_outside(store):
    text = (store.path / RUN_KEY).read_text().replace(spans_key(store), "../secret.npy")
    (store.path / RUN_KEY).write_text(text)
    with pytest.raises(StoreError, match=r"secret\.npy is missing"):
        ScoreStore.open(store.path)


def test_new_store_leaves_no_spans_of_the_old_one(store):
    other = small_plan(1, chroms=CHROMS)
    again = ScoreStore.create(store.path, other, overwrite=True)
    assert again.plan == other
    assert not (store.path / ".scan" / "spans").exists()


def test_file_of_spans_keeps_chroms_apart():
    wanted = {"b": Spans([(1, 2), (4, 9)]), "d": Spans([(0, 3)]), "a": Spans([(7, 8)])}
    ordered = {name: wanted[name] for name in ("a", "b", "d")}
    content = spans_file(ordered, ("a", "b", "c", "d"))
    assert dict(spans_of_file(content, ("a", "b", "c", "d"))) == wanted
    assert np.array_equal(spans_of_file(content, ("a", "b", "c", "d"))[1][1].starts, [1, 4])
