"""The genome: FASTA, base codes, intervals, BED, and which bases are wanted.

Sequence and coordinates only; windows, cores and blocks are in `tism_scan.plan`. `Genome`, and
pyfaidx with it, is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

from tism_scan.genome.bed import read_bed
from tism_scan.genome.intervals import Interval, parse_region
from tism_scan.genome.wanted import wanted_spans

if TYPE_CHECKING:
    from tism_scan.genome.fasta import Genome

__all__ = ["Genome", "Interval", "parse_region", "read_bed", "wanted_spans"]


def __getattr__(name: str) -> Any:
    if name == "Genome":
        from tism_scan.genome.fasta import Genome

        return Genome
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
