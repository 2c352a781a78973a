"""``tism-scan tracks``: a model's outputs by index and name."""

from collections.abc import Sequence
from typing import Any

import click

from tism_scan.cli.options.common import FILE
from tism_scan.cli.options.model import model_source, named_model_options
from tism_scan.cli.waiting import waiting
from tism_scan.errors import TrackError
from tism_scan.storage.places import Place


@click.command(name="tracks")
@click.argument("pattern", required=False)
@click.option(
    "--track-names",
    type=FILE,
    help="File with one output name a line, output 0 first. [default: the model's own names]",
)
@named_model_options
def command(pattern: str | None, track_names: Place | None, **options: Any) -> int:
    """List the outputs whose name contains PATTERN or matches it as a glob; without PATTERN, all outputs.

    The names are those of a file, or of a model: the attribute output_names, or the keys of what it returns.
    """
    from tism_scan.plan.tracks import nearest, output_names, read_track_names, track_table
    from tism_scan.storage.copies import local_copy

    has_model = bool(options["weights"]) or options["spec"] != "beluga"
    if track_names is None and not has_model:
        raise click.UsageError("nothing has the names; expected --track-names FILE, or --model SPEC")
    names: Sequence[str] | None
    names = None if track_names is None else read_track_names(local_copy(track_names))
    if has_model:
        with waiting("loading PyTorch and the model"):
            model = model_source(options).load()
        names = output_names(model.n_outputs, names or model.output_names)
    rows = track_table(pattern or "*", names or ())
    if not rows:
        near = nearest(pattern or "", names or ())
        hint = f"the nearest are {', '.join(map(repr, near))}" if near else "try a shorter text"
        of_whom = track_names or options["spec"]
        raise TrackError(f"{pattern!r} fits none of the {len(names or ()):,} names in {of_whom}; {hint}")
    for i_output, name in rows:
        click.echo(f"{i_output}\t{name}")
    return 0
