"""``tism-scan tracks``: a model's outputs by index and name."""

import click

from tism_scan.cli.options.common import FILE
from tism_scan.errors import TrackError
from tism_scan.storage.places import Place


@click.command(name="tracks")
@click.argument("pattern", required=False)
@click.option("--track-names", type=FILE, required=True, help="File with one output name a line.")
def command(pattern: str | None, track_names: Place) -> int:
    """List the outputs whose name contains PATTERN or matches it as a glob; without PATTERN, all outputs."""
    from tism_scan.plan.tracks import nearest, read_track_names, track_table
    from tism_scan.storage.copies import local_copy

    names = read_track_names(local_copy(track_names))
    rows = track_table(pattern or "*", names)
    if not rows:
        near = nearest(pattern or "", names)
        hint = f"the nearest are {', '.join(map(repr, near))}" if near else "try a shorter text"
        raise TrackError(f"{pattern!r} fits none of the {len(names):,} names in {track_names}; {hint}")
    for i_output, name in rows:
        click.echo(f"{i_output}\t{name}")
    return 0
