"""Stores that earlier releases began: they resume, and hold what a new scan gives."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import WEIGHTS, tism_scan

import tism_scan as ts

RELEASES = sorted((Path(__file__).parent / "data").glob("release_*"))
NAMES = ("CTCF", "GATA1", "AP-1", "NRF1", "ETS", "REST", "accessible")


SETTINGS = {"tracks": "0,2", "groups": "mix=1,3", "track_names": NAMES, "strands": "both", "block_bp": 2048}


def resume(folder):
    """Type the command that a folder's store was begun with."""
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    arguments = ["run", "--genome", folder / "genome.fa", "--weights", WEIGHTS]
    arguments += ["--track-names", folder / "names.txt", "--tracks", "0,2", "--group", "mix=1,3"]
    arguments += ["--strands", "both", "--block-bp", "2048", "--actors", "1"]
    return tism_scan(*arguments, "--out", folder / "scores.zarr", is_without_ray=True)


@pytest.mark.parametrize("release", RELEASES, ids=lambda folder: folder.name)
def test_store_of_an_earlier_release_resumes(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "scan")
    done_before = ts.ScoreStore.open(folder / "scores.zarr").done_blocks()
    resumed = resume(folder)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed: {len(done_before)} blocks were already done" in resumed.stdout
    old = ts.ScoreStore.open(folder / "scores.zarr")
    new = ts.scan(ts.plan_scan(folder / "genome.fa", WEIGHTS, **SETTINGS), folder / "new.zarr")
    assert old.plan == replace(new.plan, codec="zstd")
    assert old.done_blocks() == new.done_blocks() > done_before
    for block in new.plan.all_blocks():
        theirs, ours = old.read_block(block), new.read_block(block)
        # The blocks that were done come from another machine, which may round differently.
        scale = np.nanmax(np.abs(ours))
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * scale, equal_nan=True)
