"""Unfinished files: those of killed processes of this host are removed, and no others."""

import os

import pytest
from leftovers import left_by_killed_writer

from tism_scan.storage import partials
from tism_scan.storage.atomic import replaced_file
from tism_scan.storage.partials import folder_beside, partial_beside, remove_partials


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = left_by_killed_writer(tmp_path / "out.vcf.gz")
    alone = left.with_name(left.name.replace(".partial", "")[:-8] + "0123abcd.partial")
    alone.write_text("a file of the same process")
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_running_process_writes_stays(tmp_path):
    partial = partial_beside(tmp_path / "out.tsv")
    partial.write_text("half")
    remove_partials(tmp_path)
    assert partial.exists()


def test_what_another_host_writes_stays(tmp_path, monkeypatch):
    left = left_by_killed_writer(tmp_path / "out.tsv")
    monkeypatch.setattr(partials, "this_host", lambda: "elsewhere#1#pid:[1]")
    remove_partials(tmp_path)
    assert left.exists()


@pytest.mark.parametrize("name", [".other.partial", ".1.partial", ".0123abcd.999999999.partial", "a.partial"])
def test_files_of_others_stay(tmp_path, name):
    (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("is_failed", [False, True])
def test_folder_is_removed_in_the_end(tmp_path, is_failed):
    try:
        with folder_beside(tmp_path / "out.bed") as folder:
            (folder / "part").write_text("half")
            assert folder.parent == tmp_path
            if is_failed:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [folder_beside, replaced_file])
def test_writers_remove_what_a_killed_one_left(tmp_path, write):
    left = left_by_killed_writer(tmp_path / "out.tsv")
    with write(tmp_path / "out.tsv"):
        assert not left.exists()


def test_name_says_who_writes(tmp_path):
    _, host, pid, _, suffix = partial_beside(tmp_path / "a").name.split(".")
    assert (len(host), int(pid), suffix) == (8, os.getpid(), "partial")
