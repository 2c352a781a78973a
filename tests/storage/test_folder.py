import contextlib
import errno
import itertools
import os
import subprocess

import pytest
from object_server import BUCKET
from racers import put_new_often, race

from tism_scan.errors import LeaseError, StorageFullError, StoreError
from tism_scan.storage.folder import LocalFolder, open_folder
from tism_scan.store.lease import LEASE
from tism_scan.store.ledger import RUN_KEY

KEY = "chr1/c/0/5"


@pytest.fixture(params=["path", "s3", "gs"])
def any_folder(request, tmp_path, prefix):
    """Return a folder of each kind in turn: all keep the same laws."""
    if request.param == "path":
        return open_folder(tmp_path / "root")
    request.getfixturevalue("server")
    return open_folder(f"{request.param}://{BUCKET}/{prefix}")


@pytest.fixture
def folder(tmp_path):
    return LocalFolder(tmp_path / "root")


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 64 KB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    yield LocalFolder(tmp_path)
    subprocess.run(["umount", tmp_path], check=True)


def files_below(folder):
    return [path for path in folder.root.rglob("*") if path.is_file()]


def failing_with(number):
    def fail(*_arguments):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("content", [b"", b"\0", b"scores" * 1000])
def test_object_is_read_back(any_folder, content):
    any_folder.put(KEY, content)
    assert any_folder.get(KEY) == content


def test_object_is_replaced(any_folder):
    any_folder.put(KEY, b"long, and old")
    any_folder.put(KEY, b"new")
    assert any_folder.get(KEY) == b"new"
    assert any_folder.sizes("") == {KEY: 3}


@pytest.mark.parametrize("key", ["absent", "chr1/absent", f"{KEY}/below an object"])
def test_absent_object_is_none(any_folder, key):
    any_folder.put(KEY, b"x")
    assert any_folder.get(key) is None


def test_object_is_removed_and_removing_it_again_is_harmless(any_folder):
    any_folder.put(KEY, b"x")
    any_folder.remove(KEY)
    any_folder.remove(KEY)
    any_folder.remove("never/there")
    assert any_folder.get(KEY) is None


def test_sizes_are_those_of_all_objects_below_the_prefix(any_folder):
    for key in ("a/1", "a/b/22", "a/b/c/333", "ab/4"):
        any_folder.put(key, b"x" * len(key))
    assert any_folder.sizes("a") == {"a/1": 3, "a/b/22": 6, "a/b/c/333": 9}


@pytest.mark.parametrize("place", ["absent", "", KEY])
def test_no_objects_have_no_sizes(any_folder, place):
    if place == KEY:
        any_folder.put(KEY, b"an object is no folder")
    assert any_folder.sizes(place) == {}


def test_key_that_is_taken_is_left_as_it_is(any_folder):
    assert any_folder.put_new(KEY, b"first")
    assert not any_folder.put_new(KEY, b"second")
    assert any_folder.get(KEY) == b"first"
    assert any_folder.sizes("") == {KEY: 5}


def test_folder_knows_whether_anything_is_there_and_what_is_not_its_own(any_folder):
    assert not any_folder.is_there()
    assert any_folder.stranger(".scan") is None
    any_folder.put(".scan/a", b"")
    assert any_folder.is_there()
    assert any_folder.stranger(".scan") is None
    any_folder.put("thesis/chapter 1.tex", b"")
    assert any_folder.stranger(".scan") == "thesis"


def test_folder_behind_a_link_is_emptied_and_serves_again(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folder = LocalFolder(tmp_path / "link")
    for key in (RUN_KEY, KEY, "zarr.json"):
        folder.put(key, b"x")
    folder.clear(last=(RUN_KEY,), kept=LEASE)
    assert list((tmp_path / "real").iterdir()) == []
    folder.put(KEY, b"y")
    assert (tmp_path / "real" / KEY).read_bytes() == b"y"


def test_link_inside_a_folder_is_not_followed(folder, tmp_path):
    folder.put("zarr.json", b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_bytes(b"mine")
    for name in ("chr1", ".scan"):
        (folder.root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="chr1 is a link; expected a folder of the store's own"):
        folder.put(KEY, b"y")
    with pytest.raises(StoreError, match=r"\.scan is a link"):
        folder.clear(last=(RUN_KEY,), kept=LEASE)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["run.json"]


def test_chrom_that_is_named_like_a_leftover_is_not_swept(folder):
    folder.put("x.partial/c/0/0", b"scores")
    (folder.root / "x.partial" / ".1.abc.partial").write_bytes(b"leftover")
    assert folder.sweep() == ["x.partial/.1.abc.partial"]
    assert folder.get("x.partial/c/0/0") == b"scores"


def test_clear_removes_everything_in_the_folder_and_nothing_else(any_folder):
    neighbour = open_folder(f"{any_folder.place}-neighbour")
    neighbour.put("mine", b"")
    for key in ("a/b", RUN_KEY, "c", ".scan/done/x", ".scan/input/0", f"{LEASE}/1.json"):
        any_folder.put(key, b"")
    any_folder.clear(
        last=(
            RUN_KEY,
            ".scan/input",
        ),
        kept=LEASE,
    )
    assert any_folder.sizes("") == {f"{LEASE}/1.json": 0}
    any_folder.remove(f"{LEASE}/1.json")
    any_folder.clear(last=(RUN_KEY,), kept=LEASE)
    assert not any_folder.is_there()
    assert neighbour.get("mine") == b""


def test_deletion_that_was_cut_short_anywhere_leaves_the_record_until_all_else_is_gone(any_folder):
    class CutShortError(Exception):
        pass

    def cut_after(n_steps):
        steps = itertools.count()

        def fence():
            if next(steps) == n_steps:
                raise CutShortError

        return any_folder.fenced(fence)

    for n_steps in range(20):
        for key in (RUN_KEY, "a/b", "c", ".scan/done/x", ".scan/failed/y"):
            any_folder.put(key, b"")
        with contextlib.suppress(CutShortError):
            cut_after(n_steps).clear(last=(RUN_KEY,), kept=LEASE)
        left = any_folder.sizes("")
        assert not left or RUN_KEY in left
    assert not left


def test_unfinished_objects_are_not_listed(folder, monkeypatch):
    monkeypatch.setattr(os, "replace", failing_with(errno.EIO))
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # as if the process was killed
    with pytest.raises(OSError, match="Input/output"):
        folder.put(KEY, b"x")
    assert len(files_below(folder)) == 1
    assert folder.sizes("") == {}


def test_object_that_vanishes_during_a_listing_does_not_cut_it_short(folder, monkeypatch):
    class Entry:
        def __init__(self, entry):
            self.name, self.is_dir = entry.name, entry.is_dir
            self.stat = failing_with(errno.ENOENT) if entry.name == "2" else entry.stat

    class Entries:
        def __init__(self, path):
            self.found = sorted(os.listdir(path))
            self.entries = {entry.name: entry for entry in scandir(path)}

        def __enter__(self):
            return (Entry(self.entries[name]) for name in self.found)

        def __exit__(self, *_):
            pass

    for name in "123":
        folder.put(f"lease/{name}", b"x")
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Entries)
    assert folder.sizes("lease") == {"lease/1": 1, "lease/3": 1}


@pytest.mark.parametrize(("verb", "call"), [("put", "replace"), ("put_new", "link")])
def test_object_is_synced_before_it_gets_its_name_and_its_folder_after(folder, monkeypatch, verb, call):
    events = []
    fsync, name_it = os.fsync, getattr(os, call)

    def logged_fsync(descriptor):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(f"sync {'object' if name.endswith('.partial') else name}")
        fsync(descriptor)

    def logged_name(*paths):
        events.append("name")
        name_it(*paths)

    folder.put("a/first", b"")
    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, call, logged_name)
    getattr(folder, verb)("a/b/c/key", b"x")
    new_folders = ["sync b", "sync a"]
    assert events == [*new_folders, "sync object", "name", "sync c"]


def test_file_system_that_cannot_sync_folders_is_good_enough(folder, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            failing_with(errno.EINVAL)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    folder.put(KEY, b"x")
    assert folder.get(KEY) == b"x"


def test_key_that_is_taken_leaves_nothing_unfinished_behind(folder):
    for content in (b"first", b"second"):
        folder.put_new(KEY, content)
    assert len(files_below(folder)) == 1


def test_one_of_eight_processes_gets_the_key(folder):
    won = race(put_new_often, 8, folder.root, 20)
    assert sorted(i_round for rounds in won.values() for i_round in rounds) == list(range(20))
    for i_racer, rounds in won.items():
        assert all(folder.get(str(i_round)) == b"%d" % i_racer for i_round in rounds)


def test_link_whose_answer_was_lost_counts(folder, monkeypatch):
    link = os.link

    def link_and_lose_the_answer(*paths):
        link(*paths)
        failing_with(errno.EEXIST)()

    monkeypatch.setattr(os, "link", link_and_lose_the_answer)
    assert folder.put_new(KEY, b"x")


@pytest.mark.parametrize("verb", ["put", "put_new"])
def test_full_disk_is_explained_and_leaves_nothing_behind(small_disk, verb):
    with pytest.raises(
        StorageFullError, match=r"no room left to write .*chr1/c/0/5 \(the disk is full, see `df`\); "
    ):
        getattr(small_disk, verb)(KEY, b"x" * 100_000)
    assert files_below(small_disk) == []


def test_full_disk_keeps_the_older_object(small_disk):
    small_disk.put(KEY, b"old" * 10_000)
    with pytest.raises(StorageFullError, match="no room left"):
        small_disk.put(KEY, b"new" * 20_000)
    assert small_disk.get(KEY) == b"old" * 10_000
    assert len(files_below(small_disk)) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f")],
)
@pytest.mark.parametrize(
    ("verb", "call"),
    [("put", "fsync"), ("put", "replace"), ("put_new", "fsync"), ("put_new", "link"), ("put", "mkdir")],
)
def test_disk_that_fills_up_at_any_step_is_explained_and_leaves_nothing_behind(
    folder, monkeypatch, verb, call, number, words
):
    monkeypatch.setattr(os, call, failing_with(number))
    with pytest.raises(StorageFullError, match=rf"^no room left to write \S+ \(.*{words}.*\); what is"):
        getattr(folder, verb)(KEY, b"x")
    assert files_below(folder) == []


@pytest.mark.parametrize(("verb", "call"), [("put", "fsync"), ("put", "replace"), ("put_new", "link")])
def test_other_faults_of_the_disk_are_passed_on_and_leave_nothing_behind(folder, monkeypatch, verb, call):
    monkeypatch.setattr(os, call, failing_with(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        getattr(folder, verb)(KEY, b"x")
    assert files_below(folder) == []


def test_root_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = LocalFolder(tmp_path.relative_to(tmp_path) / "here")
    monkeypatch.chdir("/")
    folder.put(KEY, b"x")
    assert (tmp_path / "here" / KEY).read_bytes() == b"x"


def test_fenced_folder_publishes_what_its_writer_owns(any_folder):
    n_asked = []
    fenced = any_folder.fenced(lambda: n_asked.append(1))
    for content in (b"first", b"second"):
        fenced.put(KEY, content)
        assert any_folder.get(KEY) == content
    assert not fenced.put_new(KEY, b"third")
    assert n_asked


@pytest.mark.parametrize("before", [None, b"ours before"])
def test_writer_that_was_stopped_behind_the_fence_replaces_nothing_of_the_next_owner(any_folder, before):
    any_folder.put(RUN_KEY, b"")
    if before is not None:
        any_folder.put(KEY, before)
    n_asked = itertools.count()

    def lose_the_folder():
        """Let another begin anew just behind the fence, so that it is met the next time only."""
        if next(n_asked) != (0 if before is None else 1):
            raise_if_lost()
            return
        any_folder.clear(last=(RUN_KEY,), kept=LEASE)
        any_folder.put(KEY, b"theirs")

    def raise_if_lost():
        if any_folder.get(KEY) == b"theirs":
            raise LeaseError("lost")

    fenced = any_folder.fenced(lose_the_folder)
    if before is not None and isinstance(any_folder, LocalFolder):
        fenced.put("another", b"")  # which asks once, as the first of two conditions on a bucket does
    with pytest.raises(LeaseError, match="lost"):
        fenced.put(KEY, b"ours")
    assert any_folder.get(KEY) == b"theirs"
