"""What a folder of bigWigs shows: its tracks, its chroms, and the scan that they come from."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from tism_scan.browser.annotations import Annotation
from tism_scan.genome.intervals import Interval
from tism_scan.plan.labels import EXACT_SUFFIX, file_stems, names_apart, unique_names
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Values
from tism_scan.plan.tracks import Track
from tism_scan.progress import count_of

# Of the palette of Okabe and Ito, which most colour-blind people tell apart; darker ones for exact ISM.
BLUE = (0, 114, 178)
VERMILION = (213, 94, 0)
DARK_BLUE = (0, 68, 107)
DARK_VERMILION = (140, 62, 0)

EXACT = "exact ISM"

_WIDEST_LOCUS_BP = 10_000_000

# A chrom of one length and name identifies an assembly that the browsers know by its UCSC name.
_ASSEMBLY_OF = {
    ("chr1", 248_956_422): "hg38",
    ("chr1", 249_250_621): "hg19",
    ("chr1", 248_387_328): "hs1",
    ("chr1", 195_154_279): "mm39",
    ("chr1", 195_471_971): "mm10",
    ("chr1", 59_578_282): "danRer11",
    ("chr2L", 23_513_712): "dm6",
    ("chrI", 15_072_434): "ce11",
    ("chrI", 230_218): "sacCer3",
}


class Summary(Protocol):
    """What an exporter says of a file that it wrote; `TrackFile` tells what each number is."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def limit(self) -> float: ...  # noqa: D102
    @property
    def minimum(self) -> float: ...  # noqa: D102
    @property
    def maximum(self) -> float: ...  # noqa: D102
    @property
    def total(self) -> float: ...  # noqa: D102
    @property
    def n_bases(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Highest:
    """One of the highest seqlets of a track.

    Attributes
    ----------
    place : Interval
    extreme : float
        The score of the greatest magnitude, with its sign.
    names : tuple of str
        Of features there, such as motifs.
    """

    place: Interval
    extreme: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrackFile:
    """One exported bigWig.

    Attributes
    ----------
    path : Path
    name : str
        Of the track, as people know it.
    limit : float
        99.9th percentile of the magnitudes: where an axis should end, on either side of 0.
    minimum, maximum, total : float
    n_bases : int
        Bases that have a score.
    highest : sequence of Highest
        The highest first.
    is_exact : bool
        Whether it is exact ISM, of the bases that were refined.
    """

    path: Path
    name: str
    limit: float
    minimum: float
    maximum: float
    total: float
    n_bases: int
    highest: Sequence[Highest] = ()
    is_exact: bool = False

    @property
    def colors(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The colors of scores above and below 0."""
        return (DARK_BLUE, DARK_VERMILION) if self.is_exact else (BLUE, VERMILION)

    @property
    def axis(self) -> float:
        """Where an axis ends: the limit, or 1 for a track that is 0 everywhere or has no score."""
        return self.limit if math.isfinite(self.limit) and self.limit > 0 else 1.0


@dataclass(frozen=True)
class Shown:
    """All that the browsers' files are made of.

    Attributes
    ----------
    tracks : sequence of TrackFile
    plan : ScanPlan
    chroms : mapping from str to int
        Length of every chrom, under the names that the bigWigs use.
    provenance : mapping
        Versions that the scan was made with.
    genome_id : str or None
        The assembly's name in the browsers, such as ``hg38``.
    values : {"mean", "tism"}
        Mean TISM, or TISM of one alternative base in each file.
    annotations : sequence of Annotation
    slopes : mapping from str to float
        Of exact ISM by TISM, by the track's name, where an audit found them.
    """

    tracks: Sequence[TrackFile]
    plan: ScanPlan
    chroms: Mapping[str, int]
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    genome_id: str | None = None
    values: Values = "mean"
    annotations: Sequence[Annotation] = ()
    slopes: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def quantity(self) -> str:
        """What the numbers are called."""
        kinds = [
            self.quantity_of(is_exact=is_exact) for is_exact in (False, True) if self.has(is_exact=is_exact)
        ]
        return " and ".join(kinds)

    def quantity_of(self, *, is_exact: bool) -> str:
        """Return what the numbers of a track are called."""
        return EXACT if is_exact else "mean TISM" if self.values == "mean" else "TISM"

    def has(self, *, is_exact: bool) -> bool:
        """Return whether there is a track of exact ISM, or one of a scan's own scores."""
        return any(track.is_exact == is_exact for track in self.tracks)

    @property
    def fasta_names(self) -> dict[str, str]:
        """The name in the FASTA of each chrom that is called otherwise in the bigWigs."""
        pairs = zip(self.chroms, self.plan.chroms, strict=True)
        return {name: in_fasta for name, in_fasta in pairs if name != in_fasta}

    @property
    def assembly(self) -> str:
        """The assembly's name; one of our own for a genome that the browsers do not know."""
        return self.genome_id or f"genome_{self.plan.genome_digest[:8]}"

    @property
    def title(self) -> str:
        """One line about what is shown."""
        place = f" on {self.genome_id}" if self.genome_id else ""
        return f"{self.quantity} of {self.plan.model}{place}, {count_of(len(self.tracks), 'track')}"

    @property
    def name(self) -> str:
        """A name that tells this scan from others."""
        return f"tism_scan_{self.plan.digest()[:8]}"

    @property
    def locus(self) -> Interval:
        """Where a browser opens: the wanted bases of the first chrom that has some, at most 10 Mb of them."""
        names = dict(zip(self.plan.chroms, self.chroms, strict=True))
        chrom, spans = next(iter(self.plan.wanted.items()))
        start = spans[0][0]
        return Interval(names[chrom], start, min(spans[-1][1], start + _WIDEST_LOCUS_BP))


def track_files(
    summaries: Iterable[Summary], tracks: Sequence[Track], *, is_exact: bool = False
) -> list[TrackFile]:
    """Return the files that an exporter wrote, under the names of their tracks.

    Parameters
    ----------
    summaries : iterable of Summary
        Of files named as `tism_scan.plan.labels.file_stems` says; what follows a track's own stem is added to
        its name.
    tracks : sequence of Track
        All tracks of the store.
    is_exact : bool
        Whether they are of exact ISM, with the suffix of such files.
    """
    suffix = EXACT_SUFFIX if is_exact else ""
    name_of = dict(zip(file_stems(tracks), names_apart(tracks), strict=True))
    found = []
    for summary in summaries:
        stem = summary.path.stem
        own = max((each for each in name_of if stem.startswith(f"{each}{suffix}")), key=len, default="")
        rest = stem[len(own) :].removeprefix(suffix).strip("._-")
        name = ", ".join(filter(None, (name_of.get(own, ""), EXACT if is_exact else "", rest)))
        found.append(
            TrackFile(
                summary.path,
                name,
                summary.limit,
                summary.minimum,
                summary.maximum,
                summary.total,
                summary.n_bases,
                is_exact=is_exact,
            )
        )
    return found


def known_assembly(chroms: Mapping[str, int]) -> str | None:
    """Return the UCSC name of the assembly that chroms are of, or None if it is none of the common ones."""
    return next((name for key, name in _ASSEMBLY_OF.items() if chroms.get(key[0]) == key[1]), None)


def identifiers(texts: Iterable[str], longest: int = 60) -> list[str]:
    """Return a name for each text: a letter first, then letters, digits, ``_`` and ``-``, all different."""
    plain = (re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "track" for text in texts)
    return unique_names((name if name[0].isalpha() else f"t_{name}" for name in plain), longest)
