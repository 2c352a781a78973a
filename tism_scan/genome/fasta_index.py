"""The index of a FASTA file: made where it is missing, and used only if every entry of it fits the file."""

import os
import re
import struct
import warnings
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pyfaidx

from tism_scan.bgzip import END
from tism_scan.errors import GenomeError
from tism_scan.storage.partials import folder_beside

_BGZF_SUFFIXES = (".gz", ".bgz")
_LONGEST_HEADER = 1 << 20
_PROTEIN_ONLY = b"EFILPQJOZ"  # X stands for masked bases in some genomes
_MOST_OF_PROTEIN = 0.05
# What pyfaidx and Biopython let through when a file or an index is damaged.
DAMAGE = (
    pyfaidx.FastaIndexingError,
    OSError,
    EOFError,
    ValueError,
    IndexError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class _Block(pyfaidx.BgzfBlock):  # type: ignore[misc]  # pyfaidx ships no types
    """A BGZF block that pyfaidx's bisection finds for the first base in it, too.

    Otherwise it seeks to the end of the block before, which fails where that block holds 65,536 bytes.
    """

    __slots__ = ()

    def __lt__(self, position: object) -> bool:
        return bool(self.ustart <= position)


def check_kind(path: Path) -> bool:
    """Return whether a file is BGZF; raise GenomeError unless it begins, and ends, as FASTA should."""
    remedy = "expected a FASTA file, plain or compressed with bgzip"
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
            file.seek(max(file.seek(0, os.SEEK_END) - len(END), 0))
            tail = file.read()
    except OSError as error:
        raise GenomeError(f"cannot read {str(path)!r}: {error.strerror}; {remedy}") from None
    if not head:
        raise GenomeError(f"{str(path)!r} is empty; {remedy}")
    is_gzip = head.startswith(b"\x1f\x8b")
    if is_gzip:
        _check_bgzf(path, head, tail)
        try:
            head = zlib.decompressobj(31).decompress(head)
        except zlib.error as error:
            raise GenomeError(f"{str(path)!r} is damaged: {error}; {remedy}; download it again") from None
    elif path.name.lower().endswith(_BGZF_SUFFIXES):
        raise GenomeError(f"{str(path)!r} is not compressed in spite of its name; {remedy}; rename it")
    if head.lstrip()[:1] not in (b">", b";"):
        raise GenomeError(
            f"{str(path)!r} is not FASTA, it starts with {head[:12]!r}; {remedy}, with '>' in front"
        )
    _check_letters(path, head)
    return is_gzip


def _check_letters(path: Path, head: bytes) -> None:
    """Raise GenomeError if what a file begins with is protein: many letters that name no base."""
    lines = [line for line in head.splitlines() if not line.startswith((b">", b";"))]
    sequence = b"".join(lines).upper()
    n_found = len(sequence) - len(sequence.translate(None, _PROTEIN_ONLY))
    if n_found > _MOST_OF_PROTEIN * len(sequence):
        found = sorted(chr(letter) for letter in {*sequence} & {*_PROTEIN_ONLY})
        raise GenomeError(
            f"{str(path)!r} looks like protein: {n_found:,} of its first {len(sequence):,} letters name no "
            f"base, such as {', '.join(found[:5])}; expected DNA; give the genome or the transcripts"
        )


def _check_bgzf(path: Path, head: bytes, tail: bytes) -> None:
    """Raise GenomeError unless a gzip file is whole BGZF, and named so that pyfaidx sees it."""
    if not (len(head) > 13 and head[3] & 4 and head[12:14] == b"BC"):
        raise GenomeError(
            f"{str(path)!r} is compressed with gzip, which cannot be read from the middle; expected BGZF; "
            f"run: gunzip {path.name} && bgzip {path.stem}"
        )
    if tail != END:
        raise GenomeError(
            f"{str(path)!r} is cut short, its BGZF end mark is missing; expected a whole file; download it "
            "again"
        )
    if not path.name.lower().endswith(_BGZF_SUFFIXES):
        raise GenomeError(f"{str(path)!r} is BGZF under a plain name; expected a name in .gz; rename it")


def build_index(path: Path, indexes: list[Path]) -> None:
    """Make the missing index in a folder of its own beside the file, then move it into place.

    Processes that start together each make the whole index, and each move replaces equal bytes.
    """
    try:
        with folder_beside(path) as folder:
            made = [folder / index.name for index in indexes]
            open_checked(path, made, is_new=True).close()
            for source, target in reversed(list(zip(made, indexes, strict=True))):
                os.replace(source, target)
    except OSError as error:
        raise GenomeError(
            f"{str(path)!r} has no index, and none can be written to {str(path.parent)!r}: "
            f"{error.strerror or error}; expected an index, or a folder that can be written; run "
            f"'samtools faidx {path.name}' with the rights to write there, or copy the FASTA elsewhere"
        ) from None


def open_checked(path: Path, indexes: list[Path], *, is_new: bool) -> Any:
    """Return pyfaidx's reader of a file, made sure that the index fits it; a new index is built first."""
    try:
        with warnings.catch_warnings():
            # pyfaidx warns of an index older than its file; here every entry of it is checked instead.
            warnings.simplefilter("ignore")
            faidx = pyfaidx.Faidx(
                str(path),
                *map(str, indexes[:1]),
                as_raw=True,
                rebuild=is_new,
                build_index=is_new,
                gzi_indexname=str(indexes[-1]),
            )
    except ImportError:
        raise GenomeError(
            f"{str(path)!r} is BGZF, which pyfaidx reads only with Biopython; run 'pip install biopython', "
            "or decompress the file"
        ) from None
    except DAMAGE as error:
        if is_new and isinstance(error, OSError):
            raise
        raise _refusal(path, error, is_new=is_new) from None
    if hasattr(faidx, "gzi_index"):
        faidx.gzi_index = [_Block(*block) for block in faidx.gzi_index]
    try:
        _check_index(path, faidx, is_new=is_new)
    except BaseException:
        faidx.close()
        raise
    return faidx


def _refusal(path: Path, error: Exception, *, is_new: bool) -> GenomeError:
    """Return the error that explains what pyfaidx could not read."""
    text = str(error)
    duplicate = re.match(r'Duplicate key "(.*)"', text)
    if duplicate:
        return GenomeError(
            f"{str(path)!r} has several records named {duplicate[1]!r}; expected unique names; rename one"
        )
    if not is_new:
        return GenomeError(
            f"the index of {str(path)!r} cannot be read: {text or type(error).__name__}; expected what "
            f"'samtools faidx' writes; delete {path.name}.fai (and .gzi) and it is built again"
        )
    line = re.search(r"at line (\d+)", text)
    if line and text.startswith("Bad sequence name"):
        return GenomeError(
            f"line {int(line[1]) + 1} of {str(path)!r} is a header without a name; expected '>name'; add one"
        )
    if line and text.startswith("Line length"):
        return _unequal_lines(path, f"at line {line[1]}")
    return GenomeError(
        f"{str(path)!r} is not FASTA, or damaged: {text or type(error).__name__}; download it again"
    )


def _unequal_lines(path: Path, where: str) -> GenomeError:
    return GenomeError(
        f"the lines of {str(path)!r} are not of equal length {where}; expected that all lines of a record "
        "but the last are equally long, none blank, none with a space at its end; rewrite it, for example "
        "with 'seqkit seq -w 60'"
    )


def _check_index(path: Path, faidx: Any, *, is_new: bool) -> None:
    """Raise GenomeError unless every entry of the index fits what the file holds at its place."""
    previous_end, where, rest = 0, "before its first record", b">"
    try:
        for chrom, record in faidx.index.items():
            where = f"at record {chrom!r}"
            if not _fits(faidx, chrom, record, previous_end):
                break
            previous_end, where = record.bend, f"after record {chrom!r}"
            if chrom == next(reversed(faidx.index)):
                rest = bytes_at(faidx, _last_byte(record), _LONGEST_HEADER)[1:].strip()
    except DAMAGE:
        rest = b">"
    if rest and is_new:
        raise _unequal_lines(path, where)
    if rest:
        raise GenomeError(
            f"the index of {str(path)!r} does not fit the file {where}; expected the index of this file; "
            f"delete {path.name}.fai (and .gzi) and it is built again"
        )
    if not any(record.rlen for record in faidx.index.values()):
        raise GenomeError(f"{str(path)!r} holds no base; expected FASTA with sequence below its header lines")


def _fits(faidx: Any, chrom: str, record: Any, previous_end: int) -> bool:
    """Return whether a record's header, first line break and last base are where the index says."""
    gap, break_bytes = record.offset - previous_end, record.lenb - record.lenc
    if not (0 < gap <= _LONGEST_HEADER and record.rlen >= 0 and 0 <= break_bytes <= 2):
        return False
    *before, header = bytes_at(faidx, previous_end, gap).strip(b"\r\n").split(b"\n")
    if any(line.strip() and not line.startswith(b";") for line in before):
        return False
    if not header.startswith(b">") or header[1:].split()[:1] != [chrom.encode()]:
        return False
    if record.rlen == 0:
        return True
    if record.lenc <= 0:
        return False
    if record.rlen > record.lenc:
        line_end = bytes_at(faidx, record.offset + record.lenc - 1, break_bytes + 1)
        if line_end[:1].isspace() or line_end[1:] not in (b"\n", b"\r\n"):
            return False
    tail = bytes_at(faidx, _last_byte(record), 2)
    # pyfaidx counts a space at a line's end as a base, and all that follow would be shifted.
    return not tail[:1].isspace() and tail[:1] not in (b"", b">") and tail[1:] in (b"", b"\r", b"\n")


def _last_byte(record: Any) -> int:
    """Return where in the file a record's last base is, or its header's last byte if it has no base."""
    return byte_of(record, record.rlen - 1) if record.rlen else int(record.offset) - 1


def byte_of(record: Any, position: int) -> int:
    """Return where in the file a record's base is."""
    n_breaks = position // record.lenc
    return int(record.offset + position + n_breaks * (record.lenb - record.lenc))


def bytes_at(faidx: Any, position: int, n_bytes: int) -> bytes:
    """Return bytes of the uncompressed file; fewer at its end."""
    if hasattr(faidx, "gzi_index"):
        block = faidx.gzi_index[bisect_left(faidx.gzi_index, position) - 1]
        position = pyfaidx.make_virtual_offset(block.cstart, position - block.ustart)
    faidx.file.seek(position)
    return bytes(faidx.file.read(n_bytes))
