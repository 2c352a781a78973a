"""Refinements that the disk or another driver stops; that of a scan's store stays as it is."""

import shutil
import subprocess
from dataclasses import replace

import pytest
from mounting import mounted
from refining import started
from stored import whole_objects

from tism_scan.errors import StorageFullError
from tism_scan.refine import refine
from tism_scan.scan.verify import verify_store
from tism_scan.store.refined import existing_refinement
from tism_scan.store.score_store import ScoreStore

DISKS = {False: 1, True: 5}
RACES = 5


def objects_of(store):
    """Return the objects of a scan, and those of its refinement."""
    objects = whole_objects(store.path)
    inner = {key: content for key, content in objects.items() if key.startswith("ism/")}
    own = {key: content for key, content in objects.items() if key not in inner}
    in_store = {key.removeprefix("ism/"): content for key, content in inner.items()}
    return own, {key: content for key, content in in_store.items() if not key.startswith(".scan/")}


def test_full_disk_stops_a_refinement_with_one_line_and_it_resumes(scan, refinement, tmp_path, is_full_dose):
    n_files = sum(1 for _ in scan.store.path.rglob("*"))
    for i_disk in range(DISKS[is_full_dose]):
        with mounted(
            "tmpfs", tmp_path / "disk", "-t", "tmpfs", "-o", f"nr_inodes={n_files + 40 + 9 * i_disk}"
        ):
            shutil.copytree(scan.store.path, tmp_path / "disk/scores.zarr")
            copy = ScoreStore.open(tmp_path / "disk/scores.zarr")
            planned = replace(refinement.planned, scan=copy)
            with pytest.raises(StorageFullError, match=r"^no room left to write .*no more files"):
                refine(planned)
            n_done = len(existing_refinement(copy).done_blocks())
            assert 0 < n_done < sum(1 for _ in planned.plan.all_blocks())
            subprocess.run(["mount", "-o", "remount,nr_inodes=9000", tmp_path / "disk"], check=True)
            resumed = refine(planned)
            assert resumed.n_blocks == resumed.n_blocks_total > 0
            assert verify_store(existing_refinement(copy).path, full=True).is_sound
            assert objects_of(copy) == (scan.objects, refinement.objects)


@pytest.mark.slow
def test_one_of_two_drivers_refines_a_store(scan, refinement, tmp_path, is_full_dose):
    if not is_full_dose:
        pytest.skip("tried with --dose full")
    for i_race in range(RACES):
        copy = shutil.copytree(scan.store.path, tmp_path / f"{i_race}.zarr")
        racers = [started(copy, scan.genome, scan.weights, refinement.quantile) for _ in range(2)]
        for racer in racers:
            racer.join(200)
        assert sorted(racer.exitcode for racer in racers) == [0, 1]
        assert objects_of(ScoreStore.open(copy)) == (scan.objects, refinement.objects)
