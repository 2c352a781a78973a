"""Files of an export written one after another, or several at once, each in a process."""

import contextlib
import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from types import FrameType

from tism_scan.bigwig import BigWigSummary, writers_that_fit
from tism_scan.errors import ExportError, StoreError
from tism_scan.export.parallel import SPAWN, jobs_for, spawned_pool, usable_cores
from tism_scan.export.track_export import TrackExport
from tism_scan.storage.partials import remove_partials
from tism_scan.store.score_store import ScoreStore

Outcome = BigWigSummary | ExportError | StoreError
Report = Callable[[int, int], None]
"""Take the number of a file, and how many of its bases are done."""

_POLL_S = 0.1
_BASES_WORTH_A_PROCESS = 20_000_000  # they take about as long as the start of a process


def fitting_jobs(store: ScoreStore, files: Sequence[TrackExport], jobs: int | None) -> int:
    """Return how many files to write at once, at least one.

    Parameters
    ----------
    store : ScoreStore
    files : sequence of TrackExport
    jobs : int or None
        What the user wants: None for a process on every core, as far as the work is worth their start.
    """
    if not files:
        return 1
    lengths = [store.plan.chroms[chrom] for chrom in files[0].chroms]
    jobs = jobs_for(jobs, len(files) * sum(lengths), _BASES_WORTH_A_PROCESS)
    return min(jobs, len(files), writers_that_fit(files[0].writer, lengths))


def write_files(
    store: ScoreStore, files: Mapping[int, TrackExport], jobs: int, report: Report
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each file as it is finished: what it holds, or why it could not be made.

    Parameters
    ----------
    store : ScoreStore
    files : Mapping from int to TrackExport
        By number.
    jobs : int
        Files at once. With more than one, each is written in a process.
    report : Report

    Raises
    ------
    StorageFullError
        If the disk is full; files that are not finished are given up.
    ExportError
        If a process died.
    """
    n_threads = max(1, usable_cores() // jobs)
    if jobs <= 1:
        yield from _one_by_one(store, files, n_threads, report)
    else:
        yield from _at_once(store, files, jobs, n_threads, report)


def _one_by_one(
    store: ScoreStore, files: Mapping[int, TrackExport], n_threads: int, report: Report
) -> Generator[tuple[int, Outcome], None, None]:
    for i_file, file in files.items():
        yield i_file, _outcome(partial(file.write, store, n_threads, _counter(i_file, report)))


def _at_once(
    store: ScoreStore, files: Mapping[int, TrackExport], jobs: int, n_threads: int, report: Report
) -> Generator[tuple[int, Outcome], None, None]:
    progress: SimpleQueue[tuple[int, int]] = SPAWN.SimpleQueue()
    stop = SPAWN.Event()
    with spawned_pool(jobs, _begin, str(store.path), n_threads, progress, stop) as pool:
        waiting: dict[Future[BigWigSummary], int] = {}
        try:
            for i_file, file in files.items():
                waiting[pool.submit(_write, i_file, file)] = i_file
            while waiting:
                finished, _ = wait(waiting, _POLL_S, FIRST_COMPLETED)
                while not progress.empty():
                    with _uninterrupted():
                        told = progress.get()
                    report(*told)
                for future in finished:
                    yield waiting.pop(future), _outcome(future.result)
        except BaseException:
            stop.set()
            with _emptied(progress):
                pool.shutdown(cancel_futures=True)
            for folder in {file.path.parent for file in files.values()}:
                remove_partials(folder)
            raise


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Meet Ctrl-C after what is done within: what is left of a message in part would be misread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *caught: came.append(caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


@contextlib.contextmanager
def _emptied(progress: "SimpleQueue[tuple[int, int]]") -> Iterator[None]:
    """Read what processes report, and forget it: a full pipe would hold them up."""
    is_over = threading.Event()

    def empty() -> None:
        while not is_over.wait(_POLL_S):
            while not progress.empty():
                progress.get()

    thread = threading.Thread(target=empty, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_POLL_S * 10)


def _outcome(write: Callable[[], BigWigSummary]) -> Outcome:
    """Return what a file holds, or an error that concerns this file only."""
    try:
        return write()
    except (ExportError, StoreError) as error:
        return error
    except BrokenProcessPool:
        raise ExportError(
            "a process that wrote a bigWig was killed, perhaps for want of memory; finished files are kept: "
            "run the same command again with fewer --jobs"
        ) from None


def _counter(i_file: int, report: Report) -> Callable[[int], None]:
    """Return what adds up the bases of a file and reports their number."""
    n_bases = 0

    def count(n_more: int) -> None:
        nonlocal n_bases
        n_bases += n_more
        report(i_file, n_bases)

    return count


class _Stopped(BaseException):
    """The export was stopped; raised within the writing of a file, so that it removes what is unfinished."""


class _Worker:
    """What a process of the pool keeps from one file to the next."""

    def __init__(
        self, store: ScoreStore, n_threads: int, progress: "SimpleQueue[tuple[int, int]]", stop: Event
    ) -> None:
        self._store, self._n_threads = store, n_threads
        self._progress, self._stop = progress, stop
        self._is_orphan = False
        self._is_idle = threading.Lock()

    def write(self, i_file: int, file: TrackExport) -> BigWigSummary:
        """Write a file."""
        with self._is_idle:
            return file.write(self._store, self._n_threads, _counter(i_file, self._report))

    def _report(self, i_file: int, n_bases: int) -> None:
        if self._is_orphan or self._stop.is_set():
            raise _Stopped
        self._progress.put((i_file, n_bases))

    def follow_driver(self) -> None:
        """Wait for the driver's end, however it comes, and end this process, too."""
        driver = mp.parent_process()
        if driver is not None:
            driver.join()
            self._is_orphan = True
            with self._is_idle:
                os._exit(1)


_worker: _Worker | None = None  # a pool hands its processes nothing else that lasts


def _begin(store: str, n_threads: int, progress: "SimpleQueue[tuple[int, int]]", stop: Event) -> None:
    global _worker
    _worker = _Worker(ScoreStore.open(store), n_threads, progress, stop)
    threading.Thread(target=_worker.follow_driver, daemon=True).start()


def _write(i_file: int, file: TrackExport) -> BigWigSummary:
    if _worker is None:
        raise RuntimeError("this process is not of the pool")
    return _worker.write(i_file, file)
