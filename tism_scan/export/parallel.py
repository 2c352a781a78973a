"""Tasks in processes, which never get Ctrl-C and end with their driver: how many, and results in order."""

import multiprocessing as mp
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, ParamSpec, TypeVar

from tism_scan.errors import ScanError

SPAWN = mp.get_context("spawn")  # a fork of a process with threads, as Zarr's, may hang

Task = TypeVar("Task")
Result = TypeVar("Result")
Worker = Callable[[Task], Result]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_AHEAD = 2  # tasks of each process that wait or run, so that none is idle


class _Pool(ProcessPoolExecutor):
    """A pool whose processes never get Ctrl-C: it is for the process that started them, which stops them.

    They are started as tasks are submitted, with the signals held back that are held back then.
    """

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Submit a task; Ctrl-C that comes meanwhile is met right after."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawned_pool(jobs: int, begin: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of new processes, which Ctrl-C does not meet; each calls a function first."""
    return _Pool(jobs, mp_context=SPAWN, initializer=begin, initargs=arguments)


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_for(jobs: int | None, amount: int, worth_a_process: int) -> int:
    """Return how many processes to use for an amount of work: those that the user wants, if not None.

    Else one on every core, as far as each gets what is worth its start.
    """
    return min(usable_cores(), 1 + amount // worth_a_process) if jobs is None else jobs


class Workers(Generic[Task, Result]):
    """Processes that each make a worker and carry out tasks with it; or this process alone.

    Parameters
    ----------
    jobs : int
    make : callable
        Returns what carries out a task; called once in each process.
    arguments
        What it is called with.
    """

    def __init__(self, jobs: int, make: Callable[..., Worker[Task, Result]], *arguments: Any) -> None:
        self._jobs = jobs
        self._here = make(*arguments) if jobs <= 1 else None
        self._pool: ProcessPoolExecutor | None = None
        if jobs > 1:
            self._pool = spawned_pool(jobs, _begin, make, *arguments)

    def __enter__(self) -> "Workers[Task, Result]":
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield each task's result, in order.

        Raises
        ------
        ScanError
            If a process died.
        """
        if self._here is not None:
            yield from map(self._here, tasks)
            return
        if self._pool is None:
            raise RuntimeError("there are no processes")
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(_carry_out, task))
                if len(waiting) >= _AHEAD * self._jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise ScanError(
                "a process died, which mostly means that memory ran out; use fewer --jobs"
            ) from None


_worker: Callable[[Any], Any] | None = None  # a pool hands its processes nothing else that lasts


def _begin(make: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
    global _worker
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _worker = make(*arguments)


def _end_with_driver() -> None:
    """Wait for the driver's end, however it comes, and end this process, too."""
    driver = mp.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _carry_out(task: Any) -> Any:
    if _worker is None:
        raise RuntimeError("this process is not of the pool")
    return _worker(task)
