"""Stores that can be read, and not written: in an archive, of another user, in a bucket that one may read."""

import contextlib
import shutil
from types import SimpleNamespace

import pytest
from command_line import tism_scan
from object_server import BUCKET
from sealing import as_of_another_user, sealed
from small_plans import publish, random_scores, small_plan

from tism_scan.api import attribute_peaks, scan
from tism_scan.errors import LeaseError, ReadOnlyError
from tism_scan.models.source import ModelSource
from tism_scan.refine import plan_refinement, refine
from tism_scan.refine.selecting import select_highest
from tism_scan.scan import plan_scan
from tism_scan.scan.execution import Execution
from tism_scan.scan.verify import Sample, verify_store
from tism_scan.scan.verify_peaks import verify_peaks
from tism_scan.storage.folder import open_folder
from tism_scan.store.lease import Lease
from tism_scan.store.ledger import DONE, FAILED
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.slopes import keep_slopes
from tism_scan.variants import calibrate


@pytest.fixture(scope="module")
def archive(scan, tmp_path_factory):
    """Return a folder with a scan that was refined and ranked, and the peaks, of one small chrom."""
    folder = tmp_path_factory.mktemp("archive")
    what = SimpleNamespace(folder=folder, genome=scan.genome, weights=scan.weights, peaks=folder / "p.bed")
    what.peaks.write_text("".join(f"chr1\t{start}\t{start + 200}\n" for start in (3000, 5000, 7000)))
    options = {"tracks": "0,2", "chroms": "a/../b", "block_bp": 512, "values": "tism"}
    what.planned = plan_scan(scan.genome, scan.weights, **options)
    what.asked = ["--genome", scan.genome, "--weights", scan.weights, "--tracks", "0,2"]
    store = scan_of(what, folder / "s.zarr")
    refine(plan_refinement(store, scan.genome, scan.weights, quantile=0.9))
    calibrate(store)
    attribute(what, folder / "p.zarr")
    return what


def scan_of(archive, path):
    return scan(archive.planned, path)


def attribute(archive, path):
    return attribute_peaks(archive.weights, archive.genome, archive.peaks, path, tracks="0", width=100)


@pytest.fixture(params=["mounted so", "of another user"])
def read_only(request, monkeypatch):
    """Return what makes a folder read-only while it is entered: a mount or permissions, or an imitation."""
    if request.param == "mounted so":
        return sealed
    return lambda _path: as_of_another_user(monkeypatch)


@pytest.fixture
def copied(archive, tmp_path):
    """Return a function that copies a store of the archive."""

    def copy(name):
        return shutil.copytree(archive.folder / name, tmp_path / "copies" / name)

    return copy


def content_of(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("full", [False, True])
def test_sound_store_is_verified_and_nothing_in_it_changes(copied, read_only, full):
    path, peaks = copied("s.zarr"), copied("p.zarr")
    before = content_of(path.parent)
    with read_only(path.parent):
        for report in (
            *(verify_store(each, full=full) for each in (path, path / "ism")),
            verify_peaks(peaks, full=full),
            verify_store(path, full=full, break_lock=True),
        ):
            assert report.is_sound
            assert report.n_pending == 0
            assert report.read_only in ("Read-only file system", "Permission denied")
    assert content_of(path.parent) == before
    assert verify_store(path).read_only == ""


def test_blocks_of_it_are_computed_again(archive, copied, read_only):
    path = copied("s.zarr")
    sample = Sample(1, archive.genome, ModelSource("beluga", archive.weights))
    with read_only(path):
        report = verify_store(path, sample=sample)
    assert len(report.recomputed) == 1
    assert report.is_sound


def harm(path):
    """Damage a store of scores in each of the ways that are found, and return what is to be found."""
    store = ScoreStore.open(path)
    first, second = sorted(file for file in (path).glob("*/c/0/0/*"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"x" * second.stat().st_size)
    (path / "zarr.json").write_text("{")
    store.folder.put(f"{DONE}/0.0.0.12.0000beef.{16 * '0'}", b"")
    store.folder.put(f"{DONE}/9.0.0.12.0000beef.{store.ledger.signature}", b"")
    store.folder.put(f"{FAILED}/0.0.json", b"{")


def test_damage_is_found_as_in_a_store_that_can_be_written_and_stays(copied, read_only):
    path = copied("s.zarr")
    harm(path)
    before = content_of(path)
    with read_only(path):
        found, again = (verify_store(path, full=True) for _ in range(2))
    assert content_of(path) == before
    assert (found.damaged, found.mended) == (again.damaged, again.mended)
    written = verify_store(path, full=True)
    assert found.damaged == written.damaged
    assert len(found.damaged) == found.n_pending == written.n_pending == 2
    remedies = ("; it was written again", "; it was removed")
    assert len(found.mended) == len(written.mended) == 4
    for here, there in zip(found.mended, written.mended, strict=True):
        assert here.what == there.what
        assert there.fault in [here.fault + remedy for remedy in remedies]


def test_damage_of_peaks_is_found_and_stays(copied, read_only):
    path = copied("p.zarr")
    sorted(file for file in (path / "scores/c").rglob("*") if file.is_file())[0].write_bytes(b"x")
    (path / "scores/zarr.json").unlink()
    before = content_of(path)
    with read_only(path):
        report = verify_peaks(path)
    assert content_of(path) == before
    written = verify_peaks(path)
    assert report.damaged == written.damaged
    assert len(report.damaged) == report.n_pending == 1
    assert [each.what for each in report.mended] == [each.what for each in written.mended]


def test_finished_work_is_said_to_be_finished(archive, copied, read_only):
    path, peaks = copied("s.zarr"), copied("p.zarr")
    with read_only(path.parent):
        assert list(scan_of(archive, path).pending()) == []
        assert list(attribute(archive, peaks).pending()) == []
        planned = plan_refinement(ScoreStore.open(path), archive.genome, archive.weights, quantile=0.9)
        assert refine(planned).n_blocks_total == 0


def test_block_that_was_given_up_is_tried_again_only_where_that_can_be_written(archive, copied, read_only):
    path = copied("s.zarr")
    store = ScoreStore.open(path)
    block = next(store.plan.all_blocks())
    for address in store.addresses(block):
        store.ledger.unmark(address, store.ledger.done()[address][0])
    store.mark_failed(block, "it failed", 3)
    with read_only(path), pytest.raises(ReadOnlyError, match=r"still to be computed \(of bases: 512\)"):
        scan(archive.planned, path, execution=Execution(retry_failed=True))


def test_what_is_to_be_written_is_one_line_that_says_what_and_what_to_do(archive, copied, read_only):
    path, peaks = copied("s.zarr"), copied("p.zarr")
    shutil.rmtree(path / "ism")
    next((path).glob("*/c/0/0/0")).unlink()
    next(file for file in (peaks / "scores/c").rglob("*") if file.is_file()).unlink()
    whole = path.parent / "whole.zarr"
    shutil.copytree(archive.folder / "s.zarr", whole, ignore=shutil.ignore_patterns("ism"))
    store = ScoreStore.open(whole)
    refinement = plan_refinement(store, archive.genome, archive.weights, quantile=0.9)
    before = content_of(path.parent)
    with read_only(path.parent):
        for what, call in {
            "what is still to be computed (of bases: 512) into": lambda: scan_of(archive, path),
            "what is still to be computed (of peaks: 1) into": lambda: attribute(archive, peaks),
            "the ranks into": lambda: calibrate(store, jobs=1),
            "the slopes into": lambda: keep_slopes(store, {"a": 1.0}),
            "exact ISM into": lambda: refine(refinement),
        }.items():
            with pytest.raises(ReadOnlyError) as refused:
                call()
            assert str(refused.value).startswith(f"cannot write {what}")
            assert " a copy of it" in str(refused.value)
            assert "\n" not in str(refused.value)
            assert refused.value.exit_code == 2
    assert content_of(path.parent) == before


def test_that_ranks_and_exact_ism_cannot_be_written_is_known_before_the_scores_are_read(
    archive, copied, monkeypatch
):
    path = copied("s.zarr")
    shutil.rmtree(path / "ism")
    store = ScoreStore.open(path)
    monkeypatch.setattr(ScoreStore, "read_channels", None)
    monkeypatch.setattr(f"{select_highest.__module__}.select_highest", None)
    with sealed(path):
        with pytest.raises(ReadOnlyError, match=r"cannot write the ranks into .* calibrate a copy of it$"):
            calibrate(store, jobs=1)
        with pytest.raises(ReadOnlyError, match=r"cannot write exact ISM into .* refine a copy of it$"):
            plan_refinement(store, archive.genome, archive.weights, quantile=0.9)


def test_store_that_its_owner_writes_now_is_to_be_tried_later(archive, copied, read_only):
    path = copied("s.zarr")
    with Lease(open_folder(path)).acquire() as lease, contextlib.ExitStack() as stack:
        stack.callback(lease.release)  # before the folder can be written again
        with read_only(path):
            for call in (lambda: verify_store(path), lambda: scan_of(archive, path)):
                with pytest.raises(LeaseError, match="the store is being written by process"):
                    call()


def test_bucket_that_may_only_be_read_keeps_the_same_laws(server, prefix):
    store = ScoreStore.create(f"s3://{BUCKET}/{prefix}", small_plan(3))
    publish(store, random_scores(store.plan))
    store.consolidate()
    before = server.objects(prefix)
    with server.failing(is_read_only=True):
        report = verify_store(store.path, full=True)
        assert report.is_sound
        assert report.read_only == "403 AccessDenied"
        with pytest.raises(ReadOnlyError, match=r"cannot write the ranks into s3:.* \(403 AccessDenied\)"):
            calibrate(store, jobs=1)
        with pytest.raises(ReadOnlyError, match=r"may not be written with these credentials \(403"):
            ScoreStore.create(f"s3://{BUCKET}/{prefix} new", small_plan(3))
    assert server.objects(prefix) == before
    server.boto().delete_object(Bucket=BUCKET, Key=f"{prefix}/chr1/c/0/0")
    with server.failing(is_read_only=True):
        report = verify_store(store.path)
    assert [damage.what for damage in report.damaged] == ["chr1:1-512"]
    assert len(server.objects(prefix)) == len(before) - 1


def test_commands_end_with_the_codes_of_what_they_found(archive, copied, tmp_path):
    path, peaks = copied("s.zarr"), copied("p.zarr")
    chosen = ["--values", "tism", "--chroms", "a/../b", "--block-bp", "512"]
    commands = {
        (0, "no damage"): ["verify", path, "--full"],
        (0, "no damage\n"): ["verify", peaks],
        (0, "nothing is pending"): ["run", *archive.asked, *chosen, "--out", path],
        (0, "nothing is pending\n"): ["refine", path, *archive.asked[:4], "--quantile", "0.9"],
        (2, "cannot write the ranks"): ["calibrate", path],
        (2, "cannot write to"): ["run", *archive.asked, "--out", path, "--overwrite", "--yes"],
    }
    with sealed(path.parent):
        for (code, words), command in commands.items():
            done = tism_scan(*command, is_without_ray=True, cwd=tmp_path)
            assert done.returncode == code, done.stderr
            assert words in done.stdout + done.stderr
            assert done.stderr.count("\n") == (code == 2)
            assert f"--out {path.parent}" not in done.stdout  # what to type next writes elsewhere
    harm(path)
    with sealed(path.parent):
        done = tism_scan("verify", path, "--full")
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        "2 blocks are damaged\nnothing was made pending or repaired: the store can only be read"
        in done.stdout
    )
    assert "pending again" not in done.stdout
    assert verify_store(path, full=True).n_pending == 2
