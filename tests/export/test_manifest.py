import json

import pytest
from small_plans import publish, random_scores, small_plan

from tism_scan.errors import ExportError
from tism_scan.export import export_bigwigs
from tism_scan.export.browsers import check_browser_export, describe_export
from tism_scan.export.manifest import NAME, Manifest
from tism_scan.store.score_store import ScoreStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    plan = small_plan(2)
    store = ScoreStore.create(tmp_path_factory.mktemp("store") / "s.zarr", plan)
    publish(store, random_scores(plan))
    return store


def test_files_are_written_and_written_again(tmp_path):
    assert Manifest(tmp_path).write({"a.txt": b"1", "b.txt": b"2"}) == [
        tmp_path / "a.txt",
        tmp_path / "b.txt",
    ]
    Manifest(tmp_path).write({"a.txt": b"3"})
    assert (tmp_path / "a.txt").read_bytes() == b"3"
    assert (tmp_path / "b.txt").read_bytes() == b"2"


def test_file_of_a_user_is_never_overwritten(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"a.txt' was not written by export.*move it"):
        Manifest(tmp_path).write({"b.txt": b"2", "a.txt": b"1"})
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert not (tmp_path / "b.txt").exists()


def test_file_that_a_user_changed_is_never_overwritten(tmp_path):
    Manifest(tmp_path).write({"a.txt": b"1", "b.txt": b"2"})
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"a.txt' was changed after export wrote it.*move it"):
        Manifest(tmp_path).write({"a.txt": b"3"})
    (tmp_path / "a.txt").unlink()
    Manifest(tmp_path).write({"a.txt": b"3"})


def test_every_file_in_the_way_is_named_at_once(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError, match=r"a' was not written by export; .*b' was not"):
        Manifest(tmp_path).check(["a", "b", "c"])


@pytest.mark.parametrize("is_folder", [True, False])
def test_folder_or_dead_link_in_the_way_is_refused(tmp_path, is_folder):
    if is_folder:
        (tmp_path / "a").mkdir()
    else:
        (tmp_path / "a").symlink_to(tmp_path / "absent")
    with pytest.raises(ExportError, match="a' was not written by export"):
        Manifest(tmp_path).check(["a"])


def test_export_that_was_killed_while_it_wrote_may_go_on(tmp_path, monkeypatch):
    Manifest(tmp_path).write({"a": b"1", "b": b"1"})

    def die(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tism_scan.export.manifest.replaced_file", die)
        with pytest.raises(KeyboardInterrupt):
            Manifest(tmp_path).write({"a": b"2", "b": b"2"})
    (tmp_path / "a").write_bytes(b"2")  # what it would have written before it died
    Manifest(tmp_path).write({"a": b"3", "b": b"3"})
    assert (tmp_path / "b").read_bytes() == b"3"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 9, "files": {}}', '{"files": 3}'])
def test_damaged_manifest_knows_no_file(tmp_path, content):
    Manifest(tmp_path).write({"a": b"1"})
    (tmp_path / NAME).write_text(content)
    with pytest.raises(ExportError, match="was not written by export"):
        Manifest(tmp_path).check(["a"])


def test_own_readme_in_the_folder_stops_an_export_before_its_work(store, tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"README.txt' was not written by export"):
        check_browser_export(tmp_path)
    summaries = export_bigwigs(store, tmp_path)
    with pytest.raises(ExportError, match=r"README.txt' was not written by export"):
        describe_export(store, tmp_path, summaries)
    assert (tmp_path / "README.txt").read_text() == "mine"
    assert not (tmp_path / "hub.txt").exists()


def test_own_copy_of_igv_js_in_the_folder_is_left_as_it_is(store, tmp_path):
    (tmp_path / "igv.min.js").write_text("var igv = {createBrowser() {}};")
    describe_export(store, tmp_path, export_bigwigs(store, tmp_path))
    (tmp_path / "copy.js").write_text("var igv = {createBrowser() {}}; // another")
    with pytest.raises(ExportError, match=r"igv.min.js' was not written by export"):
        check_browser_export(tmp_path, igv_js_file=tmp_path / "copy.js")


def test_folder_of_an_earlier_release_is_known_by_its_page(store, tmp_path):
    describe_export(store, tmp_path, export_bigwigs(store, tmp_path))
    (tmp_path / NAME).unlink()
    (tmp_path / "README.txt").write_text("as another release wrote it")
    check_browser_export(tmp_path)
    describe_export(store, tmp_path, export_bigwigs(store, tmp_path))
    assert "WHAT THE NUMBERS ARE" in (tmp_path / "README.txt").read_text()
    assert "README.txt" in json.loads((tmp_path / NAME).read_text())["files"]
