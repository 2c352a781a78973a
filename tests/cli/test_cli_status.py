from command_line import tism_scan
from small_plans import random_scores, small_plan

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
