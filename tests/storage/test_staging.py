import hashlib
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tism_scan.errors import AccessError
from tism_scan.genome.fasta import Genome
from tism_scan.storage import staging
from tism_scan.storage.private import locked
from tism_scan.storage.staging import staged


@pytest.fixture
def genome(tmp_path, tiny_genome):
    """A FASTA file with its index, on what stands for the shared file system."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(tiny_genome, shared / "genome.fa")
    with Genome(shared / "genome.fa") as opened:
        opened.fetch("chr1", 0, 10)
    return shared / "genome.fa"


@pytest.fixture
def digest(genome):
    return hashlib.sha256(genome.read_bytes()).hexdigest()


@pytest.fixture
def copies(monkeypatch):
    """Return the list of what was copied."""
    made, chunks = [], staging._chunks

    def counted(source):
        made.append(source)
        return chunks(source)

    monkeypatch.setattr(staging, "_chunks", counted)
    return made


def test_copy_is_read_like_the_genome_without_a_new_index(genome, digest, tmp_path):
    copy = staged(genome, tmp_path / "node", digest)
    assert copy.read_bytes() == genome.read_bytes()
    assert (copy.parent / "genome.fa.fai").read_bytes() == (genome.parent / "genome.fa.fai").read_bytes()
    with Genome(copy) as own, Genome(genome) as shared:
        assert own.chroms == shared.chroms
        assert (own.fetch("chr1", 0, 400) == shared.fetch("chr1", 0, 400)).all()


def test_copy_is_made_once_and_kept(genome, digest, tmp_path, copies):
    first = staged(genome, tmp_path / "node", digest)
    assert staged(genome, tmp_path / "node", digest) == first
    assert len(copies) == 1
    assert not list(first.parent.glob("*.partial*"))


def test_callers_that_start_together_share_one_copy(genome, digest, tmp_path, copies):
    barrier = threading.Barrier(4)

    def stage(_):
        barrier.wait()
        return staged(genome, tmp_path / "node", digest)

    with ThreadPoolExecutor(4) as threads:
        paths = set(threads.map(stage, range(4)))
    assert len(copies) == 1
    assert len(paths) == 1
    assert {path.name for path in (tmp_path / "node").rglob("*") if path.is_file()} == {
        "genome.fa",
        "genome.fa.fai",
        "lock",
    }


@pytest.mark.parametrize("damage", [b"", b">chr1\nA"], ids=["empty", "cut"])
def test_copy_of_another_size_is_made_again(genome, digest, tmp_path, damage):
    copy = staged(genome, tmp_path / "node", digest)
    copy.write_bytes(damage)
    assert staged(genome, tmp_path / "node", digest).read_bytes() == genome.read_bytes()


def test_copy_with_other_bases_is_made_again(genome, digest, tmp_path):
    copy = staged(genome, tmp_path / "node", digest)
    content = bytearray(copy.read_bytes())
    content[20] ^= 6
    copy.write_bytes(content)
    assert staged(genome, tmp_path / "node", digest).read_bytes() == genome.read_bytes()


def test_genome_that_is_not_the_planned_one_is_refused_and_leaves_no_copy(genome, tmp_path):
    with pytest.raises(AccessError, match=r"genome\.fa is another file here \(SHA-256 \w{12}, expected 0000"):
        staged(genome, tmp_path / "node", "0" * 64)
    assert [path.name for path in (tmp_path / "node").rglob("*") if path.is_file()] == ["lock"]


def test_lack_of_room_is_told_with_both_numbers(genome, digest, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(AccessError, match=r"does not fit .*: [\d,]+ bytes, and 10 are free; make room"):
        staged(genome, tmp_path / "node", digest)


def test_folder_that_cannot_be_made_is_named(genome, digest, tmp_path):
    (tmp_path / "node").write_text("a file")
    with pytest.raises(AccessError, match=r"cannot be copied to .*node \(File exists"):
        staged(genome, tmp_path / "node", digest)


@pytest.fixture
def home(tmp_path):
    """Where this user's copies stand on a disk where everybody may write."""
    (tmp_path / "node").mkdir(mode=0o777)
    return tmp_path / "node" / f"tism-scan-genomes-{os.geteuid()}"


def test_copies_stand_in_a_folder_of_the_user_alone(genome, digest, home):
    assert staged(genome, home.parent, digest).parent.parent == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_link_in_the_place_of_a_lock_leads_to_no_file(genome, digest, home, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("eighteen bytes of.")
    (home / digest).mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    (home / digest / "lock").symlink_to(precious)
    with pytest.raises(AccessError, match=r"lock is a symbolic link; expected a file to lock; remove it"):
        staged(genome, home.parent, digest)
    assert precious.read_text() == "eighteen bytes of."


def test_lock_keeps_what_it_finds(tmp_path):
    (tmp_path / "lock").write_text("content")
    with locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "content"


def _make_link(home):
    (home.parent / "elsewhere").mkdir()
    home.symlink_to(home.parent / "elsewhere")


def _make_open_to_all(home):
    home.mkdir()
    home.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "fault"), [(_make_link, "is no folder"), (_make_open_to_all, "lets other users write")]
)
def test_folder_that_others_can_reach_into_is_refused(genome, digest, home, make, fault):
    make(home)
    with pytest.raises(
        AccessError, match=rf"{home.name} {fault}; expected a folder that belongs to the user"
    ):
        staged(genome, home.parent, digest)
    assert not list(home.iterdir())


def test_folder_of_another_user_is_refused(genome, digest, home, monkeypatch):
    owner = home.parent.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(AccessError, match=rf"belongs to the user {owner}; expected .* the user {owner + 1}"):
        staged(genome, home.parent, digest)
