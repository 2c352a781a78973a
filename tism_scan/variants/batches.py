"""The records of a variant file, cut where a stored block ends, so that each block is read once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tism_scan.errors import InputError
from tism_scan.genome.intervals import prefix_twin
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.variants.files import VariantFile

LAST_POSITION = (1 << 31) - 1  # of a VCF, and of an index
MOST_SHOWN = 40  # characters of what is no position
_MOST_BYTES = 4 << 20
_MOST_RECORDS = 50_000
_MOST_VALUES = 4 << 20
_MOST_DIGITS = len(str(LAST_POSITION))  # Python reads no number of thousands of digits
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


class Contigs:
    """Which chrom of a store a contig of a file is, by its name.

    Parameters
    ----------
    chroms : Mapping from str to int
        Length of each chrom, bp.
    names : Mapping from str to str
        The file's name of each chrom.
    holder : str
        What the chroms are of.

    Attributes
    ----------
    known, unknown : dict of str
        Contigs that were met, in order.
    longest_bp : int
        Length of the longest chrom, or the last position that was met past it, roughly.
    """

    def __init__(
        self, chroms: Mapping[str, int], names: Mapping[str, str], holder: str = "the store"
    ) -> None:
        self.chroms, self._holder = chroms, holder
        self._chrom_of = {name: chrom for chrom, name in names.items()}
        self.unknown: dict[str, None] = {}
        self.known: dict[str, None] = {}
        self.longest_bp = max(chroms.values(), default=0)

    def chrom(self, contig: str) -> str | None:
        """Return the store's name of a contig, None if it has none.

        Raises
        ------
        InputError
            If the two differ by the prefix 'chr' only.
        """
        if contig in self._chrom_of:
            self.known[contig] = None
            return self._chrom_of[contig]
        twin = prefix_twin(contig, dict.fromkeys(self._chrom_of, 0))
        if twin:
            raise InputError(
                f"contig {contig!r} is not in {self._holder}, which has {twin!r}; expected the same names; "
                f"give --chrom-alias a file of lines such as '{self._chrom_of[twin]}<tab>{contig}'"
            )
        self.unknown[contig] = None
        return None

    def check_lengths(self, file: VariantFile) -> None:
        """Raise InputError if the header gives a chrom another length than the store."""
        for contig, length in file.contig_lengths().items():
            chrom = self._chrom_of.get(contig)
            if chrom is not None and self.chroms[chrom] != length:
                raise InputError(
                    f"{str(file.path)!r} is of another assembly: its {contig!r} has {length:,} bp, that of "
                    f"{self._holder} {self.chroms[chrom]:,}; expected variants of that assembly; lift "
                    "them over"
                )

    def check_any_known(self, file: VariantFile) -> None:
        """Raise InputError if records were read and none was on a chrom of the store."""
        if self.unknown and not self.known:
            theirs, ours = ", ".join(list(self.unknown)[:5]), ", ".join(list(self._chrom_of)[:5])
            raise InputError(
                f"no contig of {str(file.path)!r} is in {self._holder}: it has {theirs}, {self._holder} "
                f"{ours}; give --chrom-alias a file of two columns, the name in {self._holder} and the file's"
            )


def position_of(text: str, where: str) -> int:
    """Return the 0-based position that a line has as text, -1 for that in front of a chrom.

    Raises
    ------
    InputError
        If it is no whole number, or higher than an index goes.
    """
    position = position_or_none(text)
    if position is None:
        raise InputError(
            f"{where} has the position {text[:MOST_SHOWN]!r}; expected a whole number up to {LAST_POSITION:,}"
        )
    return position


def position_or_none(text: str) -> int | None:
    """Return the 0-based position that text gives, -1 in front of a chrom; None where `position_of` fails."""
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdecimal() and len(digits) <= _MOST_DIGITS):
        return None
    return int(digits) - 1 if int(digits) <= LAST_POSITION else None


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
                raise InputError(
                    f"line {number:,} of {str(file.path)!r} has {len(fields)} columns; expected at least "
                    f"{layout.n_columns}, apart by tabs; correct or remove the line"
                )
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
        if not text.isdigit() or len(text) > _MOST_DIGITS:
            return False
        position = int(text) - 1
        if contig == self._contig and self._position <= position and self.start <= position < self.end:
            self._position = position
            return True
        return False

    def move(self, contig: bytes, text: bytes, number: int) -> None:
        """Go to the block of a record."""
        where = f"line {number:,} of {str(self._path)!r}"
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
