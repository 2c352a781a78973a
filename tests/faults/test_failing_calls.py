"""A file system that fails at any of its calls: what is marked done stays true, and a resume completes it."""

import contextlib
import errno
import os

import numpy as np
import pytest
from scan_models import INPUT_BP, TRACKS, plan_of, smooth_model
from sequences import random_sequence
from serial_scans import scan_with

from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import StorageFullError, TismScanError
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scoring import Scoring
from tism_scan.scan.execution import Execution
from tism_scan.scan.verify import verify_store
from tism_scan.storage import folder
from tism_scan.store.score_store import ScoreStore

CALLS = ("mkdir", "fsync", "replace", "link", "unlink", "open", "write")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class FailingCalls:
    """Has one call of some kind fail; -1 for none. Counts them all."""

    def __init__(self, monkeypatch):
        self.kind, self.i_failing, self.error, self.n_seen, self.is_lasting = "", -1, 0, 0, False
        for name in ("mkdir", "fsync", "replace", "link", "unlink"):
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))
        monkeypatch.setattr(folder, "open", self._open, raising=False)

    def arm(self, kind, i_failing, error, *, is_lasting=False):
        self.kind, self.i_failing, self.error, self.n_seen = kind, i_failing, error, 0
        self.is_lasting = is_lasting

    def _counting(self, name, function):
        def call(*arguments, **options):
            self._count(name)
            return function(*arguments, **options)

        return call

    def _count(self, name):
        if name == self.kind:
            self.n_seen += 1
            is_past = self.n_seen > self.i_failing + 1 and self.is_lasting
            if self.n_seen == self.i_failing + 1 or is_past:
                raise OSError(self.error, os.strerror(self.error), name)

    def _open(self, path, mode):
        self._count("open")
        return _Written(open(path, mode), self._count)


class _Written:
    """A file of which half is written before a write fails, as on a disk that fills up."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def __enter__(self):
        return self

    def __exit__(self, *_raised):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        try:
            self._count("write")
        except OSError:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">chr1\n{random_sequence(150, 1)}\n>chr2\n{random_sequence(40, 2)}\n")
    with Genome(path) as genome:
        yield genome


@pytest.fixture
def plan(genome):
    chroms = {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}
    return plan_of(Scoring(TRACKS, INPUT_BP, 6), chroms, block_bp=60)


def scan(path, plan, genome, engine):
    store = ScoreStore.create(path, plan)
    return scan_with(genome, engine, store)


def contents(store):
    return {block: store.read_block(block) for block in store.plan.all_blocks()}


@pytest.mark.parametrize("is_lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("kind", CALLS)
def test_call_that_fails_costs_no_finished_block(
    tmp_path, monkeypatch, genome, plan, kind, is_lasting, is_full_dose
):
    engine = WindowEngine(smooth_model(), plan.scoring)
    scan(tmp_path / "whole.zarr", plan, genome, engine)
    expected = contents(ScoreStore.open(tmp_path / "whole.zarr"))
    calls = FailingCalls(monkeypatch)
    for i_error, error in enumerate(ERRORS if is_full_dose else ERRORS[:2]):
        i_failing = 0 if is_full_dose else i_error
        while True:
            path = tmp_path / f"{i_error}-{i_failing}.zarr"
            calls.arm(kind, i_failing, error, is_lasting=is_lasting)
            with contextlib.suppress(TismScanError, OSError):  # of which the command line makes one line
                scan(path, plan, genome, engine)
            n_seen = calls.n_seen
            calls.arm("", -1, 0)
            check_what_is_done(path, expected)
            if n_seen <= i_failing:
                break
            result = scan_again(path, plan, genome, engine)
            assert result.n_blocks_left == 0
            assert not result.failed
            assert_whole(path, expected)
            i_failing += 1 if is_full_dose else 9
        assert i_failing > 1


def test_quota_that_is_used_up_stops_the_scan_with_one_line_and_it_resumes(
    tmp_path, monkeypatch, genome, plan
):
    engine = WindowEngine(smooth_model(), plan.scoring)
    scan(tmp_path / "whole.zarr", plan, genome, engine)
    expected = contents(ScoreStore.open(tmp_path / "whole.zarr"))
    store, path = ScoreStore.create(tmp_path / "s.zarr", plan), tmp_path / "s.zarr"
    calls = FailingCalls(monkeypatch)
    calls.arm("write", 4, errno.EDQUOT, is_lasting=True)
    with pytest.raises(StorageFullError) as stopped:
        scan_with(genome, engine, store)
    assert str(stopped.value).startswith("no room left to write ")
    assert "your quota is used up" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert stopped.value.exit_code == 1
    calls.arm("", -1, 0)
    assert 0 < len(store.done_blocks()) < len(expected)
    assert store.ledger.failures() == []
    check_what_is_done(path, expected)
    assert scan_again(path, plan, genome, engine).n_blocks > 0
    assert_whole(path, expected)


def check_what_is_done(path, expected):
    with contextlib.suppress(TismScanError):  # where not even the store was made
        store = ScoreStore.open(path)
        for block in store.plan.all_blocks():
            if (block.chrom, block.i_block) in store.done_blocks():
                assert np.array_equal(store.read_block(block), expected[block], equal_nan=True)


def scan_again(path, plan, genome, engine):
    """Scan in the same process, although its first try may not have been able to write that it is over."""
    execution = Execution(retry_failed=True)
    return scan_with(genome, engine, ScoreStore.create(path, plan), execution=execution)


def assert_whole(path, expected):
    store = ScoreStore.open(path)
    assert next(store.pending(), None) is None
    found = contents(store)
    assert all(np.array_equal(found[block], expected[block], equal_nan=True) for block in expected)
    assert verify_store(path, full=True).is_sound
    assert not list(path.rglob("*.partial"))
