import contextlib
import functools
import itertools
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import ray
import ray_workers
from drivers import HELPERS
from scan_models import plan_of
from serial_scans import scan_with
from stored import assert_equal_to_the_bit, scores_in

from tism_scan.errors import LeaseError, ScanError, StorageFullError
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.ray_scan import RayOptions, driver, scan_on_ray
from tism_scan.ray_scan import feed as feeding
from tism_scan.scan import claim
from tism_scan.scan.execution import Execution
from tism_scan.store.lease import Lease, current_owner
from tism_scan.store.score_store import ScoreStore

N_BLOCKS = 10


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two CPUs, which the scans of this module join."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HELPERS))  # where actors find ray_workers
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def quick(tmp_path, cluster):
    """Return a function that scans 60 bases in ten blocks with some worker."""
    (tmp_path / "quick.fa").write_text(">c\n" + "GATTACA" * 6 + "NNACGTACGTACGTACNN\n")
    genome = Genome(tmp_path / "quick.fa")
    codes, digest = genome.fetch("c", 0, 60), genome.digest()
    genome.close()
    scoring = Scoring((Track("a", (0,), (1.0,)),), 24, 6)
    plan = replace(plan_of(scoring, {"c": codes}, block_bp=6), genome_digest=digest)
    store = ScoreStore.create(tmp_path / "quick.zarr", plan)

    def scan(worker_class=ray_workers.QuickWorker, *, n_actors=1, **settings):
        return scan_on_ray(
            store,
            tmp_path / "quick.fa",
            tmp_path / "no weights",
            options=RayOptions(n_actors=n_actors),
            worker_class=worker_class,
            **settings,
        )

    scan.store, scan.folder, scan.codes = store, tmp_path, codes
    yield scan
    assert ray.is_initialized()  # a scan joins the Ray that is running, and leaves it running


@pytest.fixture
def beluga_scan(cluster, beluga_store, beluga_genome, narrow_beluga_weights):
    return functools.partial(scan_on_ray, beluga_store, beluga_genome, narrow_beluga_weights)


def attempts(scan):
    """Return the block and the process of every attempt."""
    lines = (scan.folder / "attempts").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def threads(scan):
    """Return how many threads actors computed with: as many as an actor has CPUs, of which there are two."""
    return set(map(int, (scan.folder / "threads").read_text().split()))


def once(n_blocks, act):
    """Return a callback that acts at the first report of so many blocks, or more."""
    reports = []

    def on_progress(progress):
        if progress.n_blocks >= n_blocks and not reports:
            reports.append(progress.n_blocks)
            act()

    return on_progress


def test_ray_gives_the_scores_of_one_process_to_the_bit_even_if_an_actor_is_killed(
    beluga_scan, beluga_store, serial_scores, tmp_path, caplog
):
    def kill_one():
        os.kill(int((tmp_path / "pids").read_text().split()[0]), signal.SIGKILL)

    progress = beluga_scan(
        options=RayOptions(n_actors=2),
        on_progress=once(3, kill_one),
        worker_class=ray_workers.SlowBelugaWorker,
    )
    assert caplog.text.count("an actor was lost") == 1
    assert_equal_to_the_bit(beluga_store, serial_scores)
    n_bases = sum(beluga_store.plan.chroms.values())
    assert (progress.n_blocks, progress.n_blocks_total, progress.n_bp) == (14, 14, n_bases)
    assert progress.n_scored == n_bases - 5
    assert not progress.was_stopped
    assert not progress.failed


def test_number_of_actors_and_batch_size_do_not_change_the_scores(beluga_scan, beluga_store, serial_scores):
    beluga_scan(options=RayOptions(n_actors=1), execution=Execution(batch_size=3))
    for chrom, scores in scores_in(beluga_store).items():
        largest = np.nanmax(np.abs(serial_scores[chrom]))
        np.testing.assert_allclose(scores, serial_scores[chrom], rtol=0, atol=1e-6 * largest)


def test_progress_is_shown_after_each_block_and_a_signal_after_the_last_is_no_stop(quick):
    shown, at_the_end = [], once(N_BLOCKS, lambda: os.kill(os.getpid(), signal.SIGTERM))

    def show(progress):
        shown.append((progress.n_blocks, progress.n_done, progress.n_workers))
        at_the_end(progress)

    assert not quick(on_progress=show).was_stopped
    assert set(range(N_BLOCKS + 1)) == {n_blocks for n_blocks, _, _ in shown}
    assert shown[-1] == (N_BLOCKS, 60, 1)
    assert threads(quick) == {2}


def test_block_that_raises_is_tried_three_times_and_the_rest_goes_on(quick):
    progress = quick(ray_workers.RaisingWorker, n_actors=2)
    assert progress.failed == {"c:13-18": "ValueError: no such luck"}
    assert progress.n_blocks == N_BLOCKS - 1
    (failure,) = quick.store.ledger.failures()
    assert (failure.i_block, failure.n_attempts, failure.error) == (2, 3, "ValueError: no such luck")
    assert threads(quick) == {1}
    assert [i_block for i_block, _ in attempts(quick)].count(ray_workers.ODD_BLOCK) == 3
    assert [block.i_block for block in quick.store.pending(retry_failed=True)] == [ray_workers.ODD_BLOCK]


def test_block_that_kills_its_actor_is_given_up_and_no_other_is_blamed(quick):
    progress = quick(ray_workers.DyingWorker, n_actors=2)
    assert list(progress.failed) == ["c:13-18"]
    assert progress.failed["c:13-18"].startswith("ActorDiedError: The actor died unexpectedly")
    assert progress.n_blocks == N_BLOCKS - 1
    n_tries = [i_block for i_block, _ in attempts(quick)].count(ray_workers.ODD_BLOCK)
    assert n_tries in (3, 4)  # one more if another block was in flight when it first killed


def test_full_disk_stops_the_scan_with_that_error(quick):
    with pytest.raises(StorageFullError, match=r"^no room left to write it$"):
        quick(ray_workers.FullDiskWorker)
    assert current_owner(quick.store.folder)[1].released
    assert quick.store.ledger.failures() == []
    assert 0 < len(list(quick.store.pending())) < N_BLOCKS
    with Genome(quick.folder / "quick.fa") as genome:
        scan_with(genome, ray_workers.CodesEngine(1), quick.store)
    assert list(quick.store.pending()) == []


def test_actor_that_fails_at_every_block_is_replaced(quick):
    progress = quick(ray_workers.SickOnceWorker)
    assert progress.n_blocks == N_BLOCKS
    assert not progress.failed


def test_slow_actor_does_not_hold_up_the_end_of_the_scan(quick):
    progress = quick(ray_workers.SnailWorker, n_actors=2)
    assert progress.n_blocks == N_BLOCKS
    assert list(quick.store.pending()) == []
    scores = quick.store.read_track("c", 0, 60, 0)
    np.testing.assert_array_equal(scores, np.where(quick.codes < 4, quick.codes, np.float32(np.nan)))


def test_scan_goes_on_without_a_node_that_lacks_the_files(quick, caplog):
    progress = quick(ray_workers.BadNodeWorker, n_actors=2)
    assert progress.n_blocks == N_BLOCKS
    assert f"an actor did not start: on node {os.uname().nodename}: nothing is mounted" in caplog.messages


def test_actors_that_crash_as_they_start_end_the_scan(quick):
    with pytest.raises(ScanError, match=r"actors do not start \(ActorDiedError: The actor died"):
        quick(ray_workers.CrashingStartWorker)
    assert len((quick.folder / "starts").read_text().split()) == 3


def test_actor_that_cannot_start_says_why_and_on_which_node(beluga_scan, beluga_genome):
    node = re.escape(os.uname().nodename)
    with pytest.raises(ScanError, match=f"^on node {node}: {beluga_genome} is another file here; copy the"):
        beluga_scan.func(*beluga_scan.args[:2], beluga_genome, options=RayOptions(n_actors=1))


def test_store_with_nothing_to_do_starts_no_ray(quick, monkeypatch):
    with Genome(quick.folder / "quick.fa") as genome:
        scan_with(genome, ray_workers.CodesEngine(1), quick.store)
    monkeypatch.setattr(driver, "connected", None)
    assert quick().n_blocks_total == 0


def test_scan_stops_when_another_process_takes_the_store_over(quick, monkeypatch):
    monkeypatch.setattr(claim, "Lease", functools.partial(Lease, heartbeat_s=0.05))
    with contextlib.ExitStack() as stack:

        def take_over():
            stack.enter_context(Lease(quick.store.folder).acquire(break_lock=True))

        with pytest.raises(LeaseError, match=r"another process took .*quick.zarr over, and this one stopped"):
            quick(ray_workers.UnhurriedWorker, on_progress=once(2, take_over))


def test_signal_lets_the_blocks_in_flight_finish_and_the_rest_stays_pending(quick):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    progress = quick(
        ray_workers.UnhurriedWorker, on_progress=once(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    )
    assert progress.was_stopped
    assert 2 <= progress.n_blocks <= 4
    assert len(list(quick.store.pending())) == N_BLOCKS - progress.n_blocks
    assert current_owner(quick.store.folder)[1].released
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_block_in_flight_for_too_long_is_dropped_after_a_signal(quick, monkeypatch):
    monkeypatch.setattr(feeding, "DRAIN_S", 1.0)
    progress = quick(
        ray_workers.SleepyWorker, on_progress=once(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    )
    assert progress.was_stopped
    assert not progress.failed
    assert ray_workers.ODD_BLOCK in {block.i_block for block in quick.store.pending()}


def test_second_sigint_ends_the_scan_at_once(quick, monkeypatch):
    monkeypatch.setattr(feeding, "DRAIN_S", 1e6)
    n_sent = itertools.count(1)

    def interrupt_twice(progress):
        if progress.n_blocks >= 2 and next(n_sent) <= 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        quick(ray_workers.SleepyWorker, on_progress=interrupt_twice)
    assert current_owner(quick.store.folder)[1].released
