"""Options that say where blocks are computed, and what becomes of a store that is there already."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.options.common import PATH, Command, with_options

if TYPE_CHECKING:
    from tism_scan.ray_scan.cluster import RayOptions

_CLUSTER = (
    click.option(
        "--actors",
        "n_actors",
        type=click.IntRange(1),
        metavar="N",
        help="Number of Ray actors. [default: as many as fit]",
    ),
    click.option(
        "--max-actors",
        type=click.IntRange(1),
        metavar="N",
        help="Let an autoscaling cluster grow to this many actors.",
    ),
    click.option(
        "--gpus-per-actor",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="GPUs per actor, such as 0.5; waits until they are free. [default: 1 if there are any, else "
        "CPUs]",
    ),
    click.option(
        "--stage-genome",
        "stage_folder",
        type=PATH,
        metavar="FOLDER",
        help="Copy the genome to this folder on each node's own disk first.",
    ),
    click.option(
        "--address",
        default="local",
        show_default=True,
        metavar="WHERE",
        help="local: this machine alone; auto, or HOST:PORT: the cluster that this machine is part of; "
        "ray://HOST:PORT: a cluster elsewhere.",
    ),
    click.option(
        "--ship-package",
        "ships_package",
        is_flag=True,
        help="Copy this package to nodes that lack it; its dependencies must be installed there.",
    ),
)
break_lock_option = click.option(
    "--break-lock", is_flag=True, help="Take over from a run that you know is dead, without waiting."
)
_EXISTING = (
    click.option("--retry-failed", is_flag=True, help="Compute again what failed three times."),
    break_lock_option,
)
log_option = click.option(
    "--log",
    "log_path",
    type=PATH,
    help="Also write each message, and a line for each block, with the time, to the end of this file.",
)

HEADINGS = {
    "Where to compute": (
        *("address", "n_actors", "max_actors", "gpus_per_actor", "memory_gb", "batch_size"),
        *("stage_folder", "ships_package"),
    ),
}


def cluster_options(command: Command) -> Command:
    """Return a command with the options of the cluster, and of failed blocks and locks."""
    return with_options(command, *_CLUSTER, *_EXISTING)


def ray_options(options: Mapping[str, Any]) -> "RayOptions":
    """Return which cluster a command's options ask for, and what to use of it."""
    from tism_scan.ray_scan.cluster import RayOptions

    return RayOptions(**{name: options[name] for name in RayOptions.__dataclass_fields__ if name in options})
