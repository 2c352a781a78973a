"""Where everything that a user reads is printed."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from tism_scan.progress import OnProgress, Progress

PLAIN_LINE_EVERY_S = 10.0
MOST_FILES_SHOWN = 4

# What is printed holds names that are others', such as "[/x]" or "chr:100:1": none of it is Rich's markup.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}

out = Console(**_PLAIN)
err = Console(stderr=True, **_PLAIN)


class _Heedless:
    """A stream that loses what cannot be written: its disk is full, or its reader is gone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._leave()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._leave()

    def _leave(self) -> None:
        """Write to nowhere from now on, what is still held back, too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlive_words() -> None:
    """Let this process go on although what it prints can no longer be written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Heedless):
            setattr(sys, name, _Heedless(stream))


def fill_closed_descriptors() -> None:
    """Open nothing in place of a standard stream that is closed: else the next file would take its words."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process lives


def say(text: str = "") -> None:
    """Print a line to the standard output."""
    out.print(text)


def say_error(text: str) -> None:
    """Print one line to the standard error."""
    err.print(f"Error: {' '.join(text.split())}")


def say_warning(text: str) -> None:
    """Print a one-line warning to stderr; the command continues."""
    err.print(f"Warning: {' '.join(text.split())}")


def say_table(title: str, headers: list[str], rows: list[list[str]]) -> None:
    """Print a table, its first column to the left and the others to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


class _ConsoleHandler(logging.Handler):
    """Prints a record on a line of its own, however long, above a progress bar that is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            err.print(self.format(record))
        except Exception:  # a scan, and its lease's heartbeat, outlive the terminal that they report to
            self.handleError(record)


def log_to_console(*, verbose: bool) -> None:
    """Send this package's log to the standard error; warnings only, unless verbose."""
    handler = _ConsoleHandler()
    if verbose:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("tism_scan")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


@contextmanager
def progress_bar(label: str) -> Iterator[OnProgress]:
    """Yield what shows how far a long call is: a bar on a terminal, else a plain line every ten seconds."""
    began = time.monotonic()
    if not err.is_terminal:
        line = _plain_lines(label)
        yield lambda progress: line(progress.fraction, _words(progress, began))
        return
    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=10)]
    columns += [TextColumn("{task.percentage:.1f} %"), TimeRemainingColumn(compact=True)]
    columns += [TextColumn("left, {task.fields[words]}", markup=False)]
    with Bars(*columns, console=err) as bar:
        task = bar.add_task(label, total=1.0, words="")
        yield lambda progress: bar.update(task, completed=progress.fraction, words=_words(progress, began))


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
    if not err.is_terminal:
        line = _plain_lines(label)

        def tell(progress: Progress) -> None:
            parts[progress.part] = progress.fraction
            n_done = sum(part >= 1 for part in parts.values())
            now = [f"{name} {100 * part:.0f} %" for name, part in parts.items() if part < 1]
            shown = ", ".join(now[:MOST_FILES_SHOWN]) + (", ..." if len(now) > MOST_FILES_SHOWN else "")
            words = f"{n_done} of {n_files} files done" + (f", {shown}" if now else "")
            line(sum(parts.values()) / n_files, words)

        yield tell
        return
    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=10)]
    columns += [TextColumn("{task.percentage:.1f} %"), TimeRemainingColumn(compact=True), TextColumn("left")]
    with Bars(*columns, console=err) as bars:
        whole = bars.add_task(label, total=n_files)
        running: dict[str, TaskID] = {}

        def update(progress: Progress) -> None:
            name, part = progress.part, progress.fraction
            parts[name] = part
            if name not in running and part < 1:
                running[name] = bars.add_task(name, total=1.0)
            if part < 1:
                bars.update(running[name], completed=part)
            elif name in running:
                bars.remove_task(running.pop(name))
            bars.update(whole, completed=sum(parts.values()))

        yield update


def _words(progress: Progress, began: float) -> str:
    """Return what is done, of how much, how fast, and what else is worth showing."""
    words = [progress.part] if progress.part else []
    if progress.unit == "bases":
        rate = progress.n_done / max(time.monotonic() - began, 1e-9)
        words += [f"{base_count(progress.n_done)} of {base_count(progress.n_total)}", f"{base_count(rate)}/s"]
    elif progress.unit != "bytes":  # what is counted in bytes has better words in its note
        words.append(f"{progress.n_done:,} of {progress.n_total:,} {progress.unit}")
    return ", ".join([*words, *([progress.note] if progress.note else [])])


def _plain_lines(label: str) -> Callable[[float, str], None]:
    began = last = time.monotonic()

    def update(done: float, words: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY_S:
            last = now
            left = (now - began) * (1 - done) / done if done else None
            remaining = f", {duration(left)} left" if left is not None else ""
            err.print(f"{label}: {100 * done:.1f} %, {words}{remaining}")

    return update


def count_of(n: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: ``1 window``, ``1,200 windows``."""
    return f"1 {noun}" if n == 1 else f"{n:,} {several or noun + 's'}"


def base_count(n_bp: float) -> str:
    """Return a number of bases in few characters: ``950 bp``, ``12.3 kb``, ``3.10 Gb``."""
    for size, unit in ((1e9, "Gb"), (1e6, "Mb"), (1e3, "kb")):
        if n_bp >= size:
            return f"{n_bp / size:.{max(0, 2 - len(str(int(n_bp / size))) + 1)}f} {unit}"
    return f"{n_bp:.0f} bp"


def duration(seconds: float) -> str:
    """Return a time as people say it: ``3 h 20 min``, ``4 min 10 s``, ``12.3 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
