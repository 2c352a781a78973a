"""The genome: a FASTA file, plain or BGZF, read anywhere through its index.

The index (``.fai``, and ``.gzi`` for BGZF) is made beside the file if it is missing. An index that is there
is used only if every entry of it fits the file, so a stale one cannot shift the sequence in silence.
"""

import os
import threading
from pathlib import Path
from types import TracebackType

import numpy as np

from tism_scan.errors import GenomeError
from tism_scan.genome.alphabet import N_CODE, Codes, encode
from tism_scan.genome.fasta_index import DAMAGE, build_index, byte_of, bytes_at, check_kind, open_checked
from tism_scan.storage.places import is_url
from tism_scan.storage.watched import WatchedFile


class Genome:
    """A FASTA file that is open for reading; a context manager.

    Threads may share it. A forked process must open its own.

    Parameters
    ----------
    path : str or Path
        FASTA, plain or compressed with ``bgzip``.

    Attributes
    ----------
    path : Path
        Absolute.
    chroms : dict from str to int
        Length of every record in bp, in the file's order; the name is the header's first word. Records
        without a base are kept, with length 0.
    stamp : tuple of int
        Size and time of last change of the file, as `stamp_of`, from before anything was read.

    Raises
    ------
    GenomeError
        If the file is missing, damaged, not FASTA or compressed in another way, if its index does not fit
        it or cannot be written, or if a name is missing or repeated.
    """

    def __init__(self, path: str | Path) -> None:
        if is_url(path):
            raise GenomeError(
                f"{str(path)!r} is a URL; expected a FASTA file under a path that every machine can read; "
                "copy it there first"
            )
        self.path = Path(os.path.abspath(path))
        self._lock = threading.Lock()
        suffixes = (".fai", ".gzi") if check_kind(self.path) else (".fai",)
        indexes = [Path(f"{self.path}{suffix}") for suffix in suffixes]
        if not all(index.exists() for index in indexes):
            build_index(self.path, indexes)
        self._watched = WatchedFile(self.path)
        self.stamp = self._watched.stamp
        self._faidx = open_checked(self.path, indexes, is_new=False)
        self._is_open = True
        self.chroms = {chrom: int(record.rlen) for chrom, record in self._faidx.index.items()}

    def __enter__(self) -> "Genome":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        with self._lock:
            self._is_open = False
            self._faidx.close()
            self._watched.close()

    def fetch(self, chrom: str, start: int, end: int) -> Codes:
        """Return the bases [start, end) of a chrom as codes.

        Returns
        -------
        uint8 (end - start,)
            4 where a base is not A, C, G or T, and before the chrom's start and past its end.

        Raises
        ------
        GenomeError
            If there is no such chrom, or the file is damaged.
        InputChangedError
            If the file was written since it was opened.
        """
        if chrom not in self.chroms:
            raise GenomeError(f"{str(self.path)!r} has no chrom {chrom!r}; expected one of its header names")
        if end < start:
            raise ValueError(f"[{start}, {end}) of {chrom} ends before it starts")
        if not self._is_open:
            raise ValueError(f"{str(self.path)!r} is closed; fetch before close()")
        codes = np.full(end - start, N_CODE, dtype=np.uint8)
        first, last = max(start, 0), min(end, self.chroms[chrom])
        if first >= last:
            return codes
        try:
            with self._lock:
                letters = self._letters(chrom, first, last)
        except DAMAGE as error:
            self._watched.check_unchanged()
            raise self._unreadable(chrom, first, last, str(error)) from None
        self._watched.check_unchanged()
        found = encode(letters, left_out=b"\r\n")
        if len(found) != last - first:
            raise self._unreadable(chrom, first, last, f"{len(found):,} bases were read")
        codes[first - start : last - start] = found
        return codes

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, in hexadecimal.

        Raises
        ------
        GenomeError
            If it cannot be read.
        InputChangedError
            If it was written since it was opened.
        """
        try:
            with self._lock:
                return self._watched.digest()
        except OSError as error:
            raise GenomeError(
                f"cannot read {str(self.path)!r}: {error.strerror}; expected a FASTA file"
            ) from None

    def _letters(self, chrom: str, start: int, end: int) -> bytes:
        """Return the letters of bases, with the line breaks between them.

        They are read, and not mapped into memory: a process is killed where a file is cut short under a map.
        """
        record = self._faidx.index[chrom]
        first = byte_of(record, start)
        letters = bytes_at(self._faidx, first, byte_of(record, end - 1) + 1 - first)
        if not letters.isascii():
            raise ValueError("it holds bytes that are no letters")
        if b" " in letters or b"\t" in letters:  # which the index counts as bases
            raise ValueError("its lines hold spaces or tabs")
        return letters

    def _unreadable(self, chrom: str, start: int, end: int, reason: str) -> GenomeError:
        return GenomeError(
            f"cannot read {chrom}:{start + 1:,}-{end:,} of {str(self.path)!r}: {reason}; expected "
            f"{end - start:,} bases; the file is damaged or was changed, restore it and delete its index"
        )


def check_digest(path: Path, expected: str) -> None:
    """Raise unless a FASTA has a digest, that of the genome of a store.

    Raises
    ------
    GenomeError
        If it is another genome, or cannot be read.
    """
    with Genome(path) as genome:
        digest = genome.digest()
    if digest != expected:
        raise GenomeError(
            f"{path} is another genome, SHA-256 {digest[:12]}, expected {expected[:12]}; give the one that "
            "the store was made with"
        )
