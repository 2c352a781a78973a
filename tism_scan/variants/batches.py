"""The records of a variant file, cut where a stored block ends, so that each block is read once."""

from collections.abc import Iterator
from dataclasses import dataclass

from tism_scan.errors import InputError
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.variants.files import VariantFile, line_of, too_few_columns
from tism_scan.variants.places import LAST_POSITION, MOST_DIGITS, Contigs, position_of

_MOST_BYTES = 4 << 20
_MOST_RECORDS = 50_000
_MOST_VALUES = 4 << 20
_FAR = 1 << 29  # positions beyond it need another kind of index


@dataclass(frozen=True)
class Batch:
    """Consecutive records within one block.

    Attributes
    ----------
    chrom : str or None
        As the store names it; None if the store has no such chrom.
    start, end : int
        Bases of the block.
    first_line : int
        Number of its first record among the file's lines, from 1.
    lines : list of bytes
    """

    chrom: str | None
    start: int
    end: int
    first_line: int
    lines: list[bytes]


def batches(file: VariantFile, plan: ScanPlan, contigs: Contigs, n_tracks: int) -> Iterator[Batch]:
    """Yield the records of a file in its order, in batches of one block each.

    Raises
    ------
    InputError
        If a line cannot be read, a position is past its chrom's end, or the file is not sorted.
    """
    layout, most_records = file.layout, min(_MOST_RECORDS, max(1, _MOST_VALUES // (4 * n_tracks)))
    n_split = max(layout.chrom, layout.pos) + 1
    place = _Place(file, plan, contigs)
    number, first, n_bytes = len(file.header), len(file.header) + 1, 0
    lines: list[bytes] = []
    for piece in file.pieces():
        for line in piece:
            number += 1
            fields = line.split(b"\t", n_split)
            if len(fields) < n_split:
                raise too_few_columns(line_of(file.path, number), len(fields), layout)
            contig, text = fields[layout.chrom].rstrip(), fields[layout.pos].rstrip()
            is_full = n_bytes > _MOST_BYTES or len(lines) >= most_records
            if is_full or not place.holds(contig, text):
                if lines:
                    yield Batch(place.chrom, place.start, place.end, first, lines)
                first, lines, n_bytes = number, [], 0
                place.move(contig, text, number)
            lines.append(line)
            n_bytes += len(line)
    if lines:
        yield Batch(place.chrom, place.start, place.end, first, lines)


class _Place:
    """The block that the records are in, and that they are sorted."""

    def __init__(self, file: VariantFile, plan: ScanPlan, contigs: Contigs) -> None:
        self._plan, self._path, self._contigs = plan, file.path, contigs
        self._contig = b""
        self._position = -1
        self._seen: set[bytes] = set()
        self.chrom: str | None = None
        self.start = self.end = 0

    def holds(self, contig: bytes, text: bytes) -> bool:
        """Return whether a record is in the same block as the one before, and not in front of it."""
        if not text.isdigit() or len(text) > MOST_DIGITS:
            return False
        position = int(text) - 1
        if contig == self._contig and self._position <= position and self.start <= position < self.end:
            self._position = position
            return True
        return False

    def move(self, contig: bytes, text: bytes, number: int) -> None:
        """Go to the block of a record."""
        where = line_of(self._path, number)
        position = position_of(text.decode(errors="replace"), where)
        if contig != self._contig:
            if contig in self._seen:
                raise InputError(_unsorted(where, contig))
            self._seen.add(contig)
            self._contig, self.chrom = contig, self._contigs.chrom(contig.decode(errors="replace"))
        elif position < self._position:
            raise InputError(_unsorted(where, contig))
        self._position = position
        if self.chrom is None:
            is_far = position >= _FAR
            self.start, self.end = (_FAR, LAST_POSITION) if is_far else (0, _FAR)
            self._contigs.longest_bp = max(self._contigs.longest_bp, position + 1)
            return
        plan, length = self._plan, self._plan.chroms[self.chrom]
        if position > length:  # VCF has a telomere one base past each end
            raise InputError(
                f"{where} is at {position + 1:,}, past the end of {self.chrom!r}, {length:,} bp; expected "
                "variants of the store's genome; lift them over"
            )
        block_bp = plan.scoring.lattice.block_bp(length, plan.block_bp) if length else 1
        i_block = max(0, min(position, length - 1)) // block_bp
        self.start, self.end = i_block * block_bp, min((i_block + 1) * block_bp, length)


def _unsorted(where: str, contig: bytes) -> str:
    return (
        f"{where} is out of order on {contig.decode(errors='replace')!r}; expected records sorted by contig "
        "and position; sort them with `bcftools sort`"
    )
