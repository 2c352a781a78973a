"""Options that say what is scanned, with what; for every command that makes a plan."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import click

from tism_scan.cli.options.common import PATH, Command, taken, with_options
from tism_scan.cli.options.model import (
    check_tracks_chosen,
    memory_option,
    model_options_without_device,
    model_source,
)
from tism_scan.cli.options.scoring import scoring_options, scoring_settings
from tism_scan.plan.scoring import Values

if TYPE_CHECKING:
    from tism_scan.scan.execution import Execution
    from tism_scan.scan.planning import PlannedScan

_GENOME = click.option(
    "--genome", required=True, type=PATH, help="FASTA, plain or bgzip; its index is made if missing."
)
_BASES = (
    click.option(
        "--region",
        "regions",
        multiple=True,
        metavar="chr1:1,000-2,000",
        help="Score only these bases; 1-based, both ends included; chr1:1,000 is one base, chr1 all of it.",
    ),
    click.option("--bed", "beds", multiple=True, type=PATH, help="Score only the bases of this BED file."),
    click.option(
        "--chroms", multiple=True, metavar="GLOBS", help="Score only these chroms, such as 'chr1,chr2*'."
    ),
    click.option(
        "--exclude-chroms",
        multiple=True,
        metavar="GLOBS",
        help="Do not score these chroms, such as '*_alt,chrUn_*'.",
    ),
    click.option(
        "--exclude-bed",
        "exclude_beds",
        multiple=True,
        type=PATH,
        help="Do not score the bases of this BED file.",
    ),
)
_PLANNED = (
    *("tracks", "groups", "track_names", "regions", "beds", "chroms", "exclude_chroms", "exclude_beds"),
    *("values", "block_bp", "keep_bits"),
)
_STORED = (
    click.option(
        "--values",
        type=click.Choice(get_args(Values)),
        default="mean",
        show_default=True,
        help="Store mean TISM; TISM of all four bases; or mean TISM and its standard deviation over several "
        "--weights.",
    ),
    click.option(
        "--block-bp",
        type=click.IntRange(1),
        metavar="BP",
        help="Bases per block, the unit that is resumed. [default: chosen by tracks, genome and devices]",
    ),
    click.option(
        "--keep-bits",
        type=click.IntRange(1, 23),
        metavar="BITS",
        help="Mantissa bits to keep in stored scores; 10 halves the size. [default: all]",
    ),
    memory_option,
)


HEADINGS = {
    "What to scan": ("genome", "regions", "beds", "chroms", "exclude_chroms", "exclude_beds"),
    "Which model, and which of its outputs": (
        *("spec", "weights", "input_bp", "alphabet", "layout", "reduction"),
        *("tracks", "track_names", "groups"),
    ),
    "Which number": ("stride", "stitch", "strands", "output_space", "path", "precision"),
    "The store": ("out", "values", "block_bp", "keep_bits"),
}
EXAMPLE = "--genome hg38.fa --weights deepsea.beluga.pth --track-names predictor_names.txt --tracks '*CTCF*'"


def planned_scan(options: Mapping[str, Any]) -> "PlannedScan":
    """Return the plan that a command's options ask for.

    "on_gpus" among them says that GPUs will compute it, whatever this machine has.

    Raises
    ------
    TismScanError
        If the input cannot be used.
    """
    from tism_scan.scan.planning import plan_scan

    check_tracks_chosen(options)
    device = options.get("device")
    settings = scoring_settings(options, device) | taken(options, "precision", *_PLANNED)
    settings["on_gpus"] = options.get("on_gpus", device and device.startswith("cuda"))
    settings["block_bp"] = settings["block_bp"] or 0  # 0 chooses
    return plan_scan(options["genome"], model_source(options), **settings)


def execution(options: Mapping[str, Any]) -> "Execution":
    """Return how a command's options ask to carry a scan out."""
    from tism_scan.scan.execution import Execution

    return Execution(**{name: options[name] for name in Execution.__dataclass_fields__ if name in options})


def scan_options(command: Command) -> Command:
    """Return a command with these options, in the order of the help; but for the device."""
    command = scoring_options(with_options(command, *_STORED))
    return _GENOME(model_options_without_device(with_options(command, *_BASES)))
