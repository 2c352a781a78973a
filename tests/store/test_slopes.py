"""The slopes of exact ISM by TISM, kept beside a store."""

import json

import pytest
from small_plans import small_plan

from tism_scan.store.score_store import ScoreStore
from tism_scan.store.slopes import KEY, keep_slopes, kept_slopes

SLOPES = {"track 0": 1.5, "track 1": -0.25}


def test_slopes_come_back_and_later_ones_take_their_place(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    assert kept_slopes(store) == {}
    keep_slopes(store, {"track 0": 9.0})
    keep_slopes(store, SLOPES)
    assert kept_slopes(ScoreStore.open(store.path)) == SLOPES


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b"{}", b'{"plan": "another", "slopes": {"a": 1}}', b'{"plan": "OWN"}'],
)
def test_slopes_that_are_damaged_or_of_another_plan_count_for_nothing(tmp_path, content):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    store.folder.put(KEY, content.replace(b"OWN", store.plan.digest().encode()))
    assert kept_slopes(store) == {}
    store.folder.put(KEY, json.dumps({"plan": store.plan.digest(), "slopes": ["a"]}).encode())
    assert kept_slopes(store) == {}
