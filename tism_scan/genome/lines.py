"""Text files, plain or gzipped, line by line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from tism_scan.errors import RegionError

_GZIP_MAGIC = b"\x1f\x8b"


def text_lines(path: Path, expected: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of a file, plain or gzipped.

    Parameters
    ----------
    path : Path
    expected : str
        What the file was to be, such as ``a BED file, plain or gzipped``.

    Raises
    ------
    RegionError
        If it cannot be read, its compressed data is damaged, or it is not text.
    """
    try:
        with open(path, "rb") as raw:
            is_packed = raw.read(2) == _GZIP_MAGIC
        opened = gzip.open if is_packed else open
        with opened(path, "rt", encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\r\n")
        return
    except UnicodeDecodeError:
        reason = "it is not text"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"its compressed data is damaged ({error})"
    except OSError as error:
        reason = error.strerror or str(error)
    raise RegionError(f"cannot read {str(path)!r}: {reason}; expected {expected}")


def columns(line: str) -> list[str]:
    """Return the columns of a line: apart by tabs, or by blanks where it has none."""
    return line.split("\t") if "\t" in line else line.split()
