from dataclasses import replace

from command_line import tism_scan
from small_plans import random_scores, small_plan

from tism_scan.plan.tracks import Track
from tism_scan.store.score_store import ScoreStore

CHROMS = {f"chr{i}": 600 + i for i in range(60)}


def test_status_of_many_chroms_has_thirty_rows_and_a_sum_with_pending_ones_first(tmp_path):
    plan = small_plan(1, chroms=CHROMS)
    assert not plan.is_packed
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    scores = random_scores(plan)
    for block in plan.all_blocks():
        if block.chrom != "chr57":
            store.publish_block(block, scores[block.chrom][:, block.start : block.end])
    lines = tism_scan("status", tmp_path / "s.zarr", "--json").stdout
    assert '"chr57"' in lines
    table = tism_scan("status", tmp_path / "s.zarr").stdout
    rows = [line.split("│")[1].strip() for line in table.splitlines() if line.count("│") > 5]
    assert rows[:2] == ["chr57", "chr0"]
    assert rows[-2:] == ["31 more", "all"]
    assert len(rows) == 31
    assert f"{sum(CHROMS.values()) - 657:,}" in table.splitlines()[-2]


def test_tracks_of_one_name_are_shown_with_their_index(tmp_path):
    plan = small_plan(2, chroms={"chr1": 600})
    tracks = tuple(Track("CTCF", (i,), (1.0,)) for i in (3, 9))
    ScoreStore.create(tmp_path / "s.zarr", replace(plan, scoring=replace(plan.scoring, tracks=tracks)))
    assert "2: CTCF (3), CTCF (9)" in tism_scan("status", tmp_path / "s.zarr").stdout


def test_a_block_that_was_tried_once_has_one_attempt(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(1, chroms={"chr1": 600}))
    store.mark_failed(next(store.plan.all_blocks()), "it broke", 1)
    assert "after 1 attempt: it broke" in tism_scan("status", tmp_path / "s.zarr").stdout
