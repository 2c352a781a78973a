import os
import platform
import re
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from forking import processes
from scan_models import plan_of

from tism_scan.engine.devices import name_of_device
from tism_scan.engine.queue import Queued
from tism_scan.errors import TismScanError
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import weights_digest
from tism_scan.models.source import ModelSource
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.execution import Execution
from tism_scan.scan.worker import BlockWorker, WorkerSetup, keep_freed_memory
from tism_scan.storage.watched import stamp_of
from tism_scan.store.score_store import ScoreStore


@pytest.fixture
def setup(tmp_path, narrow_beluga_weights):
    """Return what a worker needs, in files of its own."""
    weights, fasta = tmp_path / "weights.pth", tmp_path / "genome.fa"
    weights.write_bytes(narrow_beluga_weights.read_bytes())
    fasta.write_text(">chr1\n" + "GATTACA" * 40 + "\n")
    with Genome(fasta) as genome:
        scoring = Scoring((Track("a", (2,), (1.0,)),), 2000, 256)
        chroms = dict(genome.chroms)
        plan = ScanPlan(scoring, genome.digest(), weights_digest(weights), chroms, {"chr1": ((0, 280),)})
    store = ScoreStore.create(tmp_path / "scores.zarr", plan)
    return WorkerSetup(store.path, fasta, ModelSource(weights=weights), plan.digest(), None)


def test_worker_names_its_node_and_publishes_the_blocks_it_is_given(setup):
    worker = BlockWorker(setup)
    assert worker.start_on_node() == os.uname().nodename
    store = ScoreStore.open(setup.store)
    store.mark_failed(next(store.pending()), "earlier", 3)
    (block,) = store.pending(retry_failed=True)
    report = worker.process(block)
    assert (report.block, report.n_scored) == (block, 280)
    assert list(store.pending()) == []
    assert store.ledger.failures() == []
    assert np.isfinite(store.read_track("chr1", 0, 280, 0)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda setup: setup.model.weights.write_bytes(b"x"),
            r"weights.pth is another file here; copy the driver's",
        ),
        (lambda setup: setup.model.weights.unlink(), r"cannot read the weights .*: No such file"),
        (lambda setup: setup.genome.unlink(), r"cannot read '.*genome.fa': No such file"),
        (lambda setup: setup.genome.write_text(">chr1\nGATTACA\n"), r"genome.fa.* does not fit"),
        (
            lambda setup: (setup.store / ".scan" / "run.json").unlink(),
            r"scores.zarr is not a store of scores",
        ),
    ],
    ids=["other weights", "no weights", "no genome", "other genome", "no store"],
)
def test_worker_that_lacks_a_file_says_so_and_names_its_node(setup, change, message):
    change(setup)
    with pytest.raises(TismScanError, match=f"^on node {re.escape(os.uname().nodename)}: .*{message}"):
        BlockWorker(setup).start_on_node()


def test_genome_of_the_same_lengths_but_other_bases_is_refused(setup):
    """Such as hg38 with the pseudoautosomal regions of chrY masked, which differs in nothing else."""
    setup = replace(setup, genome_stamp=stamp_of(setup.genome))
    with open(setup.genome, "r+") as file:
        file.seek(len(">chr1\n"))
        file.write("NNNNNNN")
    node = re.escape(os.uname().nodename)
    with pytest.raises(
        TismScanError, match=rf"^on node {node}: \S+genome.fa is another genome here, SHA-256"
    ):
        BlockWorker(setup).start_on_node()


def test_genome_is_read_only_where_its_size_or_time_is_not_the_drivers(setup, monkeypatch):
    n_read = []
    digest = Genome.digest
    monkeypatch.setattr(Genome, "digest", lambda genome: n_read.append(genome) or digest(genome))
    setup = replace(setup, genome_stamp=stamp_of(setup.genome))
    BlockWorker(setup).start_on_node()
    assert not n_read
    os.utime(setup.genome, ns=(0, 1))
    BlockWorker(setup).start_on_node()
    assert len(n_read) == 1
    assert stamp_of(setup.genome.with_name("not here")) is None


def test_worker_reads_a_copy_of_the_genome_if_one_is_asked_for(setup, tmp_path):
    worker = BlockWorker(replace(setup, stage_folder=tmp_path / "node"))
    worker.start_on_node()
    assert worker.genome.path.is_relative_to(tmp_path / "node")
    assert worker.genome.path.read_bytes() == setup.genome.read_bytes()
    assert worker.process(next(worker.store.pending())).n_scored == 280


def test_block_that_another_worker_finished_is_not_published(setup):
    worker = BlockWorker(setup)
    worker.start_on_node()
    (block,) = worker.store.pending()
    worker.abandon(block)
    worker.process(block)
    assert list(worker.store.pending()) == [block]


def test_worker_that_sees_another_store_says_so(setup, tmp_path):
    other_plan = plan_of(Scoring((Track("a", (2,), (1.0,)),), 24, 6), {"chr1": np.zeros(280, np.uint8)})
    other = ScoreStore.create(tmp_path / "other.zarr", other_plan)
    worker = BlockWorker(WorkerSetup(other.path, setup.genome, setup.model, setup.plan_digest, None))
    with pytest.raises(TismScanError, match=r"other.zarr is another store here; mount the driver's"):
        worker.start_on_node()


def test_worker_of_another_release_says_so(setup):
    worker = BlockWorker(replace(setup, version="0.0.1"))
    with pytest.raises(TismScanError, match=r"tism-scan \S+ is installed here, and 0\.0\.1 where"):
        worker.start_on_node()


def test_worker_records_its_kind_of_device(setup):
    BlockWorker(setup).start_on_node()
    (device,) = ScoreStore.open(setup.store).ledger.devices()
    assert device == name_of_device("cpu")


def test_processor_has_a_name_where_there_is_no_proc(monkeypatch):
    def fail(*_arguments, **_options):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", fail)
    assert name_of_device("cpu")


def test_worker_whose_gpu_cannot_be_used_says_so_and_names_its_node(setup, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "_lazy_init", broken_driver)
    setup = replace(setup, execution=Execution(device="cuda"))
    node = re.escape(os.uname().nodename)
    expected = rf"^on node {node}: device 'cuda' cannot be used \(.+\); mend the driver"
    with pytest.raises(TismScanError, match=expected):
        BlockWorker(setup).start_on_node()


def broken_driver():
    raise RuntimeError("CUDA driver initialization failed\nand more lines")


def test_worker_computes_on_the_cpu_if_told_although_it_sees_a_gpu(setup, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    worker = BlockWorker(replace(setup, execution=Execution(device="cpu")))
    worker.start()
    assert worker.engine.device == torch.device("cpu")


def test_weights_that_change_while_they_are_loaded_are_refused(setup, monkeypatch):
    load = ModelSource.load

    def load_and_change(source):
        loaded = load(source)
        os.utime(setup.model.weights, ns=(0, 1))
        return loaded

    monkeypatch.setattr(ModelSource, "load", load_and_change)
    with pytest.raises(TismScanError, match=r"weights\.pth was changed while it was loaded; restore it"):
        BlockWorker(setup).start_on_node()


def tell_new_pages(pipe):
    """Send how many new pages of memory blocks take, one after the other, before and after what is tested."""

    def of_blocks():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            [np.ones(n_mb << 20, np.uint8) for n_mb in (4, 5, 6, 7)]
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    of_blocks()
    n_before = of_blocks()
    keep_freed_memory()
    of_blocks()
    pipe.send((n_before, of_blocks()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory its own way")
def test_memory_of_a_block_serves_the_next_one():
    ours, theirs = processes.Pipe()
    process = processes.Process(target=tell_new_pages, args=(theirs,))
    process.start()
    n_before, n_after = ours.recv()
    process.join()
    assert n_after < n_before / 10


def test_next_block_is_queued_before_the_scores_of_the_one_before_are_taken(tmp_path, setup):
    """So that a GPU does not wait for the host: here the device ends a block once it has the next one."""
    is_queued = [threading.Event(), threading.Event()]

    class LateMark:
        def wait(self):
            assert is_queued[1].wait(20)

        def seconds_since(self, earlier):
            return 1.0

    class SlowDevice:
        def queue(self, codes, stretch, wanted):
            is_queued[is_queued[0].is_set()].set()
            scores = torch.zeros((1, len(wanted)))
            return Queued(scores, ((LateMark(), LateMark()),), lambda values: values)

    class SlowWorker(BlockWorker):
        def make_engine(self, plan):
            return SlowDevice()

    old = ScoreStore.open(setup.store)
    store = ScoreStore.create(tmp_path / "two.zarr", replace(old.plan, block_bp=256))
    worker = SlowWorker(replace(setup, store=store.path, plan_digest=store.plan.digest()))
    worker.start()
    first, second = store.pending()
    with ThreadPoolExecutor(1) as other:
        ahead = other.submit(worker.process, first)
        assert is_queued[0].wait(20)
        assert worker.process(second).seconds == 1.0
        assert ahead.result().n_scored == 256
    worker.close()
    assert list(store.pending()) == []
