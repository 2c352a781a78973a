"""What is shown while a user waits: the step that is taken, then how much is done, and what is left."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from tism_scan.cli.console import base_count, duration, err, log_aside, say_aside
from tism_scan.progress import OnProgress, Progress, steps

LINE_EVERY_S = 10.0
STEP_EVERY_S = 30.0  # a line that says that a step goes on
MOST_FILES_SHOWN = 4


class _Wait:
    """What a long call has told so far, in words.

    Attributes
    ----------
    progress : Progress or None
        The latest.
    step : str
        What is done before anything can be counted; empty once something is.
    """

    def __init__(self, step: str = "") -> None:
        self.progress: Progress | None = None
        self.step = step
        self._step_began = self._work_began = time.monotonic()
        self._work_ended: float | None = None

    def take_step(self, step: str) -> None:
        """Take note of what is done now."""
        if step != self.step:
            self.step, self._step_began = step, time.monotonic()
        if self.progress is None or self.progress.n_done == self.progress.n_before:
            self._work_began = time.monotonic()

    def advance(self, progress: Progress) -> None:
        """Take note of how far the work is."""
        if self.progress is not None and progress.n_done != self.progress.n_done:
            self.step = ""
        self.progress = progress
        if progress.fraction >= 1 and self._work_ended is None:
            self._work_ended = time.monotonic()

    def words(self) -> str:
        """Return the step, or what is done, of how much, how fast, and what is left."""
        now, progress = time.monotonic(), self.progress
        share = "" if progress is None else f"{100 * progress.fraction:.1f} %, "
        if self.step or progress is None:
            known = share if progress is not None and progress.n_done else ""
            seconds = now - self._step_began
            return f"{known}{self.step}" + (f", {duration(seconds)}" if seconds >= 1 else "")
        seconds = max((self._work_ended or now) - self._work_began, 1e-9)
        rate, n_left = (progress.n_done - progress.n_before) / seconds, progress.n_total - progress.n_done
        left = [f"{duration(n_left / rate)} left"] if rate and n_left else []
        return share + ", ".join([*_counts(progress, rate), *left])


class _Words(ProgressColumn):
    """The words of a wait, in one line that may be cut at its end."""

    def __init__(self, wait: _Wait) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._wait = wait

    def render(self, task: Task) -> RenderableType:
        return Text(self._wait.words())


@contextmanager
def waiting(step: str) -> Iterator[None]:
    """Show on a terminal which step is taken, from now on, and nothing in the end."""
    wait = _Wait(step)
    with (
        _following(wait.take_step),
        _lines(wait.words, STEP_EVERY_S),
        _bars(_Words(wait), transient=True) as bars,
    ):
        if bars is not None:
            bars.add_task("", total=None)
        yield


@contextmanager
def progress_bar(label: str) -> Iterator[OnProgress]:
    """Yield what shows how far a long call is: a bar on a terminal, else a plain line every ten seconds."""
    wait = _Wait()
    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), _Words(wait)
    with (
        _following(wait.take_step),
        _lines(lambda: f"{label}: {wait.words()}", LINE_EVERY_S),
        _bars(*columns) as bars,
    ):
        task = None if bars is None else bars.add_task(label, total=None)

        def show(progress: Progress) -> None:
            wait.advance(progress)
            if bars is not None and task is not None:
                bars.update(task, total=1.0 if progress.n_done else None, completed=progress.fraction)

        yield show


@contextmanager
def file_bars(label: str, n_files: int) -> Iterator[OnProgress]:
    """Yield what shows how far each file of many is, and all of them: bars on a terminal, else plain lines.

    Parameters
    ----------
    label : str
    n_files : int
        Files that will be complete in the end. Each `Progress` is of the file that its `part` names.
    """
    parts: dict[str, float] = {}
    began = time.monotonic()

    def words() -> str:
        shares = dict(parts)
        n_done = sum(share >= 1 for share in shares.values())
        now = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share < 1]
        shown = ", ".join(now[:MOST_FILES_SHOWN]) + (", ..." if len(now) > MOST_FILES_SHOWN else "")
        share = f"{100 * sum(shares.values()) / n_files:.1f} %"
        return ", ".join([share, f"{n_done} of {n_files} files done", *([shown] if shown else []), *left()])

    def left() -> list[str]:
        done = sum(dict(parts).values()) / n_files
        return [f"{duration((time.monotonic() - began) * (1 - done) / done)} left"] if 0 < done < 1 else []

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.1f} %"),
    )
    with _lines(lambda: f"{label}: {words()}", LINE_EVERY_S), _bars(*columns) as bars:
        whole = None if bars is None else bars.add_task(label, total=n_files)
        running: dict[str, TaskID] = {}

        def update(progress: Progress) -> None:
            name, part = progress.part, progress.fraction
            parts[name] = part
            if bars is None or whole is None:
                return
            if name not in running and part < 1:
                running[name] = bars.add_task(name, total=1.0)
            if part < 1:
                bars.update(running[name], completed=part)
            elif name in running:
                bars.remove_task(running.pop(name))
            bars.update(whole, completed=sum(parts.values()), description=", ".join([label, *left()]))

        yield update


def _counts(progress: Progress, rate: float) -> list[str]:
    """Return what is done, of how much, how fast in units a second, and what else is worth showing."""
    words = [progress.part] if progress.part else []
    if progress.unit == "bases":
        words.append(f"{base_count(progress.n_done)} of {base_count(progress.n_total)}")
        words.append(f"{base_count(rate)}/s")
    elif progress.unit != "bytes":  # what is counted in bytes has better words in its note
        words.append(f"{progress.n_done:,} of {progress.n_total:,} {progress.unit}")
    return [*words, *([progress.note] if progress.note else [])]


def _bars(*columns: Any, transient: bool = False) -> AbstractContextManager[Bars | None]:
    """Return bars over the whole width of a terminal, or None where there is no terminal."""
    if not err.is_terminal:
        return nullcontext()
    return Bars(*columns, console=err, expand=True, transient=transient)


class _StepHandler(logging.Handler):
    """Passes each step on."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


@contextmanager
def _following(show: Callable[[str], None]) -> Iterator[None]:
    """Have a function called with each step that is taken inside the context."""
    handler = _StepHandler(show)
    steps.addHandler(handler)
    try:
        yield
    finally:
        steps.removeHandler(handler)


@contextmanager
def _lines(line: Callable[[], str], every_s: float) -> Iterator[None]:
    """Say how far a call is every few seconds: in plain lines, and in the log; not over a terminal's bars."""
    say = log_aside if err.is_terminal else say_aside
    is_over = threading.Event()

    def tell() -> None:
        while not is_over.wait(every_s):
            try:
                say(line())
            except OSError:  # nobody reads it any more
                return

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join(1.0)
