"""Bgzip files and their indexes, and BCF as lines of VCF: the one door to pysam."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tism_scan.errors import ExportError, InputError
from tism_scan.optional import required

# The empty block that ends a bgzip file (SAM specification, section 4.1.2); one that was cut short lacks it.
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_WRITE = "wb5"  # level 6, the usual one, takes 1.7 times as long for 1 % fewer bytes of a table of scores
_INSTALL = "'tism-scan[variants]'"
_LONGEST_IN_TBI = 1 << 29  # an index of the common kind ends here; CSI goes on


@dataclass(frozen=True)
class Columns:
    """Where a table has its places.

    Attributes
    ----------
    chrom, start, end : int
        Columns, counted from 0.
    is_zero_based : bool
    n_header : int
        Lines at the top that are no rows; needed only if one of them does not begin with ``#``.
    """

    chrom: int = 0
    start: int = 1
    end: int = 1
    is_zero_based: bool = False
    n_header: int = 0


BED = Columns(end=2, is_zero_based=True)
VCF = "vcf"


def check_pysam(purpose: str) -> None:
    """Raise unless pysam is installed.

    Raises
    ------
    ExportError
    """
    required("pysam", purpose, _INSTALL, ExportError)


def compress(pieces: Iterable[bytes], path: Path) -> None:
    """Write the pieces of a text as a bgzip file.

    Raises
    ------
    OSError
        If there is no room.
    """
    with _pysam().BGZFile(str(path), _WRITE) as file:
        for piece in pieces:
            file.write(piece)


def compress_file(source: Path, path: Path) -> None:
    """Write a file's bytes as a bgzip file, in the memory of a piece.

    Raises
    ------
    OSError
        If there is no room.
    """
    _pysam().tabix_compress(str(source), str(path), force=True)


def join(parts: Iterable[Path], path: Path) -> None:
    """Write bgzip files as one, durably; each is removed once it is part of it.

    Raises
    ------
    OSError
        If there is no room.
    """
    with open(path, "wb") as joined:
        for part in parts:
            joined.write(part.read_bytes().removesuffix(END))
            part.unlink()
        joined.write(END)
        joined.flush()
        os.fsync(joined.fileno())


def publish_indexed(packed: Path, out: Path, layout: Columns | str, *, longest_bp: int) -> None:
    """Index a finished bgzip file, and give both their names; what had them is replaced.

    Parameters
    ----------
    packed : Path
        Beside which the index is made; in the file system of `out`.
    out : Path
    layout : Columns or "vcf"
    longest_bp : int
        Length of the longest chrom: past 512 Mb, the index is a CSI. So it is if a record reaches that far.

    Raises
    ------
    OSError
        If there is no room.
    """
    needs_csi = longest_bp > _LONGEST_IN_TBI
    if isinstance(layout, str):
        where: dict[str, Any] = {"preset": layout}
    else:
        where = {
            "seq_col": layout.chrom,
            "start_col": layout.start,
            "end_col": layout.end,
            "zerobased": layout.is_zero_based,
            "line_skip": layout.n_header,
        }
    needs_csi = needs_csi or not _has_got_tbi(packed, where)
    if needs_csi:
        _pysam().tabix_index(str(packed), force=True, csi=True, **where)
    for stale in (".tbi", ".csi"):  # an old index beside a new file would mislead
        Path(f"{out}{stale}").unlink(missing_ok=True)
    suffix = ".csi" if needs_csi else ".tbi"
    os.replace(packed, out)
    os.replace(f"{packed}{suffix}", f"{out}{suffix}")


def _has_got_tbi(packed: Path, where: dict[str, Any]) -> bool:
    """Return whether a file got a TBI index: a record whose END or REF is past 512 Mb cannot be in one."""
    level = _pysam().set_verbosity(0)
    try:
        _pysam().tabix_index(str(packed), force=True, **where)
    except OSError:
        return False
    finally:
        _pysam().set_verbosity(level)
    return True


def bcf_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a BCF file as those of a VCF, its header first.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    pysam = _pysam()
    with _quiet(pysam):
        try:
            with pysam.VariantFile(str(path)) as file:
                yield from str(file.header).encode().splitlines(keepends=True)
                for record in file:
                    yield str(record).encode()
        except (OSError, ValueError):  # whose words are of the file's closing, not of what is wrong
            raise InputError(
                f"{str(path)!r} is cut short or damaged; expected a whole BCF; copy it again"
            ) from None


@contextlib.contextmanager
def _quiet(pysam: Any) -> Iterator[None]:
    """Keep htslib from writing to the terminal itself."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


def _pysam() -> Any:
    return required("pysam", "compressed tables with an index", _INSTALL, ExportError)
