"""Variant files as they come: VCF, BCF and tables, read as lines, each fault said in one line."""

import codecs
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Literal

from tism_scan.bgzip import END, bcf_lines
from tism_scan.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_BCF_MAGIC = b"BCF"
_PIECE_BYTES = 1 << 20
_PIECE_RECORDS = 10_000
_NEEDED = ("CHROM", "POS", "REF", "ALT")
_VCF_COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
_CONTIG = re.compile(rb"##contig=<(?:.*,)?ID=([^,>]+)(?:,.*)?>")
_LENGTH = re.compile(rb"[<,]length=(\d+)[,>]")


@dataclass(frozen=True)
class Layout:
    """Where a file's lines hold what is asked of them.

    Attributes
    ----------
    kind : {"VCF", "TSV"}
    chrom, pos, ref, alt : int
        Columns, counted from 0.
    n_columns : int
        The fewest that a line has.
    """

    kind: Literal["VCF", "TSV"]
    chrom: int = 0
    pos: int = 1
    ref: int = 3
    alt: int = 4
    n_columns: int = 8


@dataclass
class VariantFile:
    """A variant file that is being read.

    Attributes
    ----------
    path : Path
    layout : Layout
    header : list of bytes
        Its lines up to the names of the columns, which come last; each ends in a newline.
    n_bytes : int
        Its size.
    """

    path: Path
    layout: Layout
    header: list[bytes]
    n_bytes: int
    _pieces: Iterator[list[bytes]]
    _tell: Callable[[], int]
    _first: list[bytes] = field(default_factory=list)

    def pieces(self) -> Iterator[list[bytes]]:
        """Yield the lines of the records, about a megabyte at once."""
        if self._first:
            yield self._first
        while True:
            with _explained(self.path):
                piece = next(self._pieces, None)
            if piece is None:
                return
            yield piece

    @property
    def n_bytes_read(self) -> int:
        """How much of the file was read."""
        return self._tell()

    def contig_lengths(self) -> Mapping[str, int]:
        """Return the length of each contig whose header line has one."""
        lengths = {}
        for line in self.header:
            name, length = _CONTIG.match(line), _LENGTH.search(line)
            if name and length:
                lengths[name[1].decode(errors="replace")] = int(length[1])
        return lengths


@contextmanager
def opened(path: Path) -> Iterator[VariantFile]:
    """Yield a variant file, of whichever kind it is.

    Raises
    ------
    InputError
        If it cannot be read, is empty, cut short, has no header or Windows' line ends; while it is read,
        too.
    """
    with _explained(path):
        raw = open(path, "rb")  # noqa: SIM115  # the next statement closes it
    with raw:
        with _explained(path):
            file = _described(path, _pieces(path, raw), raw)
        yield file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(_damaged(path, str(error))) from None
    except OSError as error:
        raise InputError(
            f"cannot read {str(path)!r}: {error.strerror or error}; expected a VCF, a BCF or a table"
        ) from None


def line_of(path: str | Path, number: int) -> str:
    """Return how errors call a line of a file."""
    return f"line {number:,} of {str(path)!r}"


def windows_line_end(where: str) -> InputError:
    """Return the error of a line that ends as on Windows."""
    return InputError(f"{where} has a Windows line end (CRLF); expected plain ones; convert it with dos2unix")


def too_few_columns(where: str, n_columns: int, layout: Layout) -> InputError:
    """Return the error of a line that has too few columns."""
    return InputError(
        f"{where} has {n_columns} columns; expected at least {layout.n_columns}, apart by tabs; correct or "
        "remove the line"
    )


def _damaged(path: Path, reason: str) -> str:
    return f"{str(path)!r} is cut short or damaged ({reason}); expected a whole file; copy it again"


def _pieces(path: Path, raw: IO[bytes]) -> Iterator[list[bytes]]:
    """Return the lines of a file, a piece at a time."""
    start = raw.read(16)
    raw.seek(0)
    if not start:
        raise InputError(f"{str(path)!r} is empty; expected a VCF, a BCF or a table with a header")
    if start.startswith(_GZIP_MAGIC):
        if start[12:14] == b"BC":
            _check_end(path, raw)
        with gzip.open(raw) as unpacked:
            is_bcf = unpacked.read(3) == _BCF_MAGIC
        raw.seek(0)
        if is_bcf:
            return _bcf_pieces(path)
        return _text_pieces(io.BufferedReader(gzip.GzipFile(fileobj=raw), _PIECE_BYTES))
    if start.startswith(_BCF_MAGIC):
        return _bcf_pieces(path)
    return _text_pieces(raw)


def _check_end(path: Path, raw: IO[bytes]) -> None:
    """Raise unless a bgzip file has its end."""
    raw.seek(0, os.SEEK_END)
    size = raw.tell()
    raw.seek(max(0, size - len(END)))
    is_whole = raw.read() == END
    raw.seek(0)
    if not is_whole:
        raise InputError(_damaged(path, "the block that ends a bgzip file is missing"))


def _text_pieces(file: IO[bytes]) -> Iterator[list[bytes]]:
    while lines := file.readlines(_PIECE_BYTES):
        yield lines


def _bcf_pieces(path: Path) -> Iterator[list[bytes]]:
    lines = bcf_lines(path)
    while piece := list(islice(lines, _PIECE_RECORDS)):
        yield piece


def _described(path: Path, pieces: Iterator[list[bytes]], raw: IO[bytes]) -> VariantFile:
    """Read a file's header."""
    header: list[bytes] = []
    for piece in pieces:
        for i, line in enumerate(piece):
            _check_line_end(path, line)
            if not header:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.startswith(b"##") or (not header and not line.strip()):
                header.append(line)
                continue
            layout = _layout(path, [*header, line])
            size = os.path.getsize(path)
            rest = piece[i + 1 :]
            return VariantFile(
                path, layout, [*header, line.rstrip(b"\n") + b"\n"], size, pieces, raw.tell, rest
            )
    raise InputError(f"{str(path)!r} {_NO_HEADER}")


_NO_HEADER = (
    "has no header; expected a VCF with a line '#CHROM POS ID REF ALT ...' after those that begin with '##', "
    "or a table whose first line names columns CHROM, POS, REF and ALT; restore its header"
)


def _check_line_end(path: Path, line: bytes) -> None:
    if line.endswith(b"\r\n"):
        raise InputError(
            f"{str(path)!r} has Windows' line ends (CRLF); expected plain ones; convert it with dos2unix"
        )


def _layout(path: Path, header: list[bytes]) -> Layout:
    """Return where a file's columns are, from its header."""
    names_line = header[-1].rstrip(b"\n")
    if header[0].startswith(b"##fileformat=VCF"):
        if names_line != _VCF_COLUMNS and not names_line.startswith(_VCF_COLUMNS + b"\t"):
            raise InputError(f"{str(path)!r} {_NO_HEADER}")
        return Layout("VCF")
    names = [name.strip().upper() for name in names_line.decode(errors="replace").lstrip("#").split("\t")]
    if not set(_NEEDED) <= set(names):
        raise InputError(f"{str(path)!r} {_NO_HEADER}")
    chrom, pos, ref, alt = map(names.index, _NEEDED)
    return Layout("TSV", chrom, pos, ref, alt, len(names))
