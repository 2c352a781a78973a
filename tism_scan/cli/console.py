"""Where everything that a user reads is printed."""

import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from tism_scan.errors import InputError
from tism_scan.progress import steps

# What is printed holds names that are others', such as "[/x]" or "chr:100:1": none of it is Rich's markup.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}

out = Console(**_PLAIN)
err = Console(stderr=True, **_PLAIN)

# Every line that is printed, for a file that somebody asked for.
_transcript = logging.getLogger("tism_scan.transcript")
_transcript.propagate = False
_transcript.addHandler(logging.NullHandler())


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
    log_aside(text)
    out.print(text)


def say_error(text: str) -> None:
    """Print one line to the standard error."""
    say_aside(f"Error: {' '.join(text.split())}")


def say_warning(text: str) -> None:
    """Print a one-line warning to stderr; the command continues."""
    say_aside(f"Warning: {' '.join(text.split())}")


def say_aside(text: str) -> None:
    """Print a line to the standard error as it is."""
    log_aside(text)
    err.print(text)


def log_aside(text: str) -> None:
    """Write a line to the log that somebody asked for, and print nothing."""
    _transcript.info(text)


def say_table(title: str, headers: list[str], rows: list[list[str]]) -> None:
    """Print a table, its first column to the left and the others to the right.

    Where it is too wide, what names a row is broken last: not if it leaves half of the width to the others.
    """
    table = Table(title=title, title_justify="left", header_style="bold")
    longest = max(cell_len(name) for name, *_ in [headers, *rows])
    for i, header in enumerate(headers):
        is_whole = i == 0 and longest <= out.width // 2
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold", no_wrap=is_whole)
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


class _FileHandler(logging.FileHandler):
    """Writes records to a file as long as that is possible: a scan outlives its log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        for logger in (_package_log, _transcript):
            logger.removeHandler(self)
        err.print(f"the log {self.baseFilename!r} cannot be written any more; the command goes on")


_package_log = logging.getLogger("tism_scan")


def log_to_console(*, verbose: bool) -> None:
    """Send this package's log to the standard error; warnings only, unless verbose."""
    handler = _ConsoleHandler(logging.INFO if verbose else logging.WARNING)
    if verbose:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _package_log.handlers = [handler]
    _package_log.propagate = False
    _package_log.setLevel(logging.INFO if verbose else logging.WARNING)
    steps.setLevel(logging.INFO)


def log_to_file(path: Path) -> None:
    """Add every line that is printed from now on, and the whole log, to the end of a file, with the time.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    try:
        handler = _FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write the log {str(path)!r}: {error.strerror}; expected a file in a folder that is "
            "there; choose another --log"
        ) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for logger in (_package_log, _transcript):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def base_count(n_bp: float) -> str:
    """Return a number of bases in few characters: ``950 bp``, ``12.3 kb``, ``3.10 Gb``."""
    for size, unit in ((1e9, "Gb"), (1e6, "Mb"), (1e3, "kb")):
        if n_bp >= size:
            return f"{n_bp / size:.{max(0, 2 - len(str(int(n_bp / size))) + 1)}f} {unit}"
    return f"{n_bp:.0f} bp"


def byte_count(n_bytes: float) -> str:
    """Return a size in few characters: ``12.3 GB``."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def duration(seconds: float) -> str:
    """Return a time as people say it: ``3 h 20 min``, ``4 min 10 s``, ``12.3 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
