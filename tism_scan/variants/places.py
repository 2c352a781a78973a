"""Where a record of a variant file is: which chrom its contig is, and which position its text gives."""

from collections.abc import Mapping

from tism_scan.errors import InputError
from tism_scan.genome.intervals import prefix_twin
from tism_scan.variants.files import VariantFile

LAST_POSITION = (1 << 31) - 1  # of a VCF, and of an index
MOST_DIGITS = len(str(LAST_POSITION))  # Python reads no number of thousands of digits
MOST_SHOWN = 40  # characters of what is no position


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
    if not (text.isascii() and text.isdecimal() and len(digits) <= MOST_DIGITS):
        return None
    return int(digits) - 1 if int(digits) <= LAST_POSITION else None
