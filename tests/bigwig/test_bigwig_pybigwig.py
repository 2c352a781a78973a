"""The writer that is pyBigWig, in a process of its own."""

import os
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pybigtools
import pytest
from bigwig_readers import assert_last_zoom_records_have_their_sum, values_by_reader, write_arrays

from tism_scan.bigwig import pybigwig, write_bigwig, writers_that_fit
from tism_scan.errors import ExportError, StorageFullError

Memory = namedtuple("Memory", "available")
DiskUsage = namedtuple("DiskUsage", "total used free")
popen = subprocess.Popen


def scores_of(lengths, seed=7):
    rng = np.random.default_rng(seed)
    scores = {chrom: rng.normal(scale=1e-3, size=n).astype(np.float32) for chrom, n in lengths.items()}
    for values in scores.values():
        values[rng.random(len(values)) < 0.05] = np.nan
    return scores


def write(path, scores, **options):
    return write_arrays(path, scores, **{"writer": "pybigwig", "block_bp": 10_000, **options})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.bw"


def test_both_writers_make_files_of_the_same_scores(path):
    scores = scores_of({"chr2": 25_000, "chr1": 12_345, "tiny": 1})
    theirs = write(path, scores)
    for chrom, expected in scores.items():
        for reader, values in values_by_reader(path, chrom, len(expected)):
            np.testing.assert_array_equal(values, expected, err_msg=reader)
    assert write(path, scores, writer="stream") == theirs


@pytest.mark.parametrize("values", [[-1, -2, -3], [-3, -2, -1], [2.5], [0, -1]], ids=str)
def test_the_header_is_mended(path, values):
    write(path, {"chr1": np.array(values, np.float32)})
    with pybigtools.open(str(path)) as bigwig:
        header = bigwig.info()["summary"]
    assert (header["min"], header["max"], header["sum"]) == (min(values), max(values), sum(values))


@pytest.mark.parametrize("length", [5, 5003, 40_000])
def test_the_last_zoom_record_is_mended(path, length):
    scores = {"chr1": np.ones(300, np.float32), "chr2": np.ones(length, np.float32)}
    scores["chr2"][-3] = np.nan
    write(path, scores)
    assert_last_zoom_records_have_their_sum(path, "chr2", length)


def test_a_record_is_mended_only_where_its_place_is_near(path, monkeypatch):
    scores = {"chr1": np.ones(40_000, np.float32)}
    sizes = []
    for within in (-1, 1 << 20):
        monkeypatch.setattr(pybigwig, "_MEND_WITHIN_BYTES", within)
        write(path, scores)
        sizes.append(path.stat().st_size)
        for reader, values in values_by_reader(path, "chr1", 40_000):
            np.testing.assert_array_equal(values, scores["chr1"], err_msg=reader)
    assert sizes[0] < sizes[1]  # a mended record goes to the file's end


def test_too_little_memory_is_refused_before_a_score_is_read(path, monkeypatch):
    monkeypatch.setattr(pybigwig.psutil, "virtual_memory", lambda: Memory(8_000_000_000))
    monkeypatch.setattr("tism_scan.bigwig.task.shutil.disk_usage", lambda _path: DiskUsage(0, 0, 10**12))
    with pytest.raises(
        ExportError, match=r"needs about 12\.8 GB of memory .* 8 GB are available; leave out --writer"
    ):
        write_bigwig(path, {"chr1": 10**9}, lambda *_interval: pytest.fail("read"), writer="pybigwig")
    assert list(path.parent.iterdir()) == []


def test_only_as_many_write_at_once_as_memory_lets(monkeypatch):
    monkeypatch.setattr(pybigwig.psutil, "virtual_memory", lambda: Memory(30_000_000_000))
    assert writers_that_fit("pybigwig", [10**9]) == 2
    assert writers_that_fit("pybigwig", [10**10]) == 1
    assert writers_that_fit("stream", [10**10]) > 1000


def test_a_track_without_a_score_is_refused_with_the_way_out(path):
    with pytest.raises(ExportError, match="pyBigWig makes no valid file of it; leave out --writer"):
        write(path, {"chr1": np.full(100, np.nan, np.float32)})
    assert list(path.parent.iterdir()) == []


def test_a_process_that_dies_is_one_line(path, monkeypatch):
    # Where the path cannot be written, pyBigWig crashes its process; root can write everywhere but here.
    monkeypatch.setattr(
        pybigwig.subprocess,
        "Popen",
        lambda command, **options: popen([*command[:-1], "/proc/none/scores.bw"], **options),
    )
    with pytest.raises(ExportError, match=r"pyBigWig could not write .*scores\.bw \(exit code -?\d+"):
        write(path, scores_of({"chr1": 100}))
    assert list(path.parent.iterdir()) == []


def test_a_process_that_hangs_on_a_full_disk_is_ended(path, monkeypatch):
    started = []

    def hanging(_command, **options):
        # It takes what it is sent and never answers.
        process = popen(
            [sys.executable, "-c", "import sys, time; sys.stdin.read(1); time.sleep(60)"], **options
        )
        started.append(process)
        return process

    monkeypatch.setattr(pybigwig.subprocess, "Popen", hanging)
    monkeypatch.setattr(pybigwig, "_PATIENCE_S", 0.05)
    free = iter([10**9])
    monkeypatch.setattr(pybigwig.shutil, "disk_usage", lambda _path: DiskUsage(0, 0, next(free, 0)))
    with pytest.raises(StorageFullError, match="no room left to write"):
        write(path, scores_of({"chr1": 100}), expected_bytes=0)
    assert started[0].returncode is not None
    assert list(path.parent.iterdir()) == []


def test_an_interrupt_ends_the_process(path, monkeypatch):
    started = []
    monkeypatch.setattr(
        pybigwig.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0]
    )
    scores = scores_of({"chr1": 30_000})

    def read(chrom, start, end):
        if start:
            raise KeyboardInterrupt
        return scores[chrom][start:end]

    with pytest.raises(KeyboardInterrupt):
        write_bigwig(path, {"chr1": 30_000}, read, writer="pybigwig", block_bp=10_000)
    assert started[0].returncode is not None
    assert list(path.parent.iterdir()) == []


def test_the_process_ends_with_its_driver(path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tism_scan.bigwig.pybigwig_process", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with process:
        began = time.monotonic()
        process.stdin.close()
        assert process.wait(timeout=30) == 1
        assert time.monotonic() - began < 30
