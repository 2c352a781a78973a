"""Options that say what is scanned, with what; for every command that makes a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.options.common import PATH, Command, with_options
from tism_scan.cli.options.model import ModelRequest, memory_option, model_options_without_device
from tism_scan.cli.options.scoring import ScoringRequest, scoring_options
from tism_scan.plan.scoring import Values

if TYPE_CHECKING:
    from tism_scan.genome.fasta import Genome
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.plan.scoring import Precision

_GENOME = click.option(
    "--genome", required=True, type=PATH, help="FASTA, plain or bgzip; its index is made if missing."
)
_BASES = (
    click.option(
        "--region", multiple=True, metavar="chr1:1,000-2,000", help="Only these bases; 1-based, inclusive."
    ),
    click.option("--bed", multiple=True, type=PATH, help="Only the bases of this BED file."),
    click.option("--chroms", multiple=True, metavar="GLOBS", help="Only these chroms, such as 'chr1,chr2*'."),
    click.option(
        "--exclude-chroms", multiple=True, metavar="GLOBS", help="Not these, such as '*_alt,chrUn_*'."
    ),
    click.option("--exclude-bed", multiple=True, type=PATH, help="Not the bases of this BED file."),
)
_STORED = (
    click.option(
        "--values",
        type=click.Choice(["mean", "tism"]),
        default="mean",
        show_default=True,
        help="Store mean TISM, or TISM of all four bases.",
    ),
    click.option(
        "--block-bp", default=0, metavar="BP", help="Bases per block, the unit of resume. [default: auto]"
    ),
    click.option(
        "--keep-bits", type=int, help="Keep this many bits of mantissa (10: half the size). [default: all]"
    ),
    memory_option,
)


@dataclass(frozen=True)
class ScanRequest:
    """What was asked for with these options; see their help."""

    genome: Path
    model: ModelRequest
    scoring: ScoringRequest = field(default_factory=ScoringRequest)
    region: tuple[str, ...] = ()
    bed: tuple[Path, ...] = ()
    chroms: tuple[str, ...] = ()
    exclude_chroms: tuple[str, ...] = ()
    exclude_bed: tuple[Path, ...] = ()
    values: Values = "mean"
    block_bp: int = 0
    keep_bits: int | None = None
    memory_gb: float | None = None

    @classmethod
    def take(cls, options: Mapping[str, Any]) -> "ScanRequest":
        """Return the request among a command's options."""
        own = {name: options[name] for name in cls.__dataclass_fields__ if name in options}
        return cls(model=ModelRequest.take(options), scoring=ScoringRequest.take(options), **own)

    def in_precision(self, precision: "Precision") -> "ScanRequest":
        """Return the same request in another precision."""
        return replace(self, scoring=replace(self.scoring, precision=precision))

    def plan(self, genome: "Genome") -> "ScanPlan":
        """Return the plan for a genome.

        Raises
        ------
        TismScanError
            If the input cannot be used.
        """
        from tism_scan.engine.trunk_engine import warn_if_not_shared
        from tism_scan.genome.wanted import wanted_spans
        from tism_scan.models.contract import window_bp
        from tism_scan.plan.scan_plan import ScanPlan

        chroms = {chrom: length for chrom, length in genome.chroms.items() if length}
        wanted = wanted_spans(
            chroms,
            regions=self.region,
            beds=self.bed,
            include=self.chroms,
            exclude=self.exclude_chroms,
            exclude_beds=self.exclude_bed,
        )
        model, tracks = self.model.load()
        scoring = self.scoring.scoring(tracks, window_bp(model), values=self.values, device=self.model.device)
        warn_if_not_shared(model, scoring)  # here, since nobody sees what actors log
        name, weights_digest = self.model.source().identity()
        return ScanPlan(
            scoring,
            genome.digest(),
            weights_digest,
            chroms,
            wanted,
            self.block_bp,
            model=name,
            keep_bits=self.keep_bits,
        )


def scan_options(command: Command) -> Command:
    """Return a command with these options, in the order of the help; but for the device."""
    command = scoring_options(with_options(command, *_STORED))
    return _GENOME(model_options_without_device(with_options(command, *_BASES)))
