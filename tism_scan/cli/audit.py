"""``tism-scan audit``: how well TISM agrees with exact ISM, for your own model and genome."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, err, say, say_table, say_warning
from tism_scan.cli.options.common import PATH, STORE
from tism_scan.cli.options.model import model_and_tracks, model_options
from tism_scan.cli.options.scoring import path_option
from tism_scan.errors import StoreError
from tism_scan.plan.labels import names_apart
from tism_scan.plan.scoring import ONE_GRADIENT, path_text
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.locus.auditing import Audit
    from tism_scan.plan.tracks import Track
    from tism_scan.store.score_store import ScoreStore


_MOST_WARNED = 5


@click.command(name="audit")
@click.option(
    "--genome", required=True, type=PATH, help="FASTA, plain or bgzip; its index is made if missing."
)
@model_options
@path_option(
    multiple=True,
    default=(ONE_GRADIENT,),
    help="Take TISM's gradients at these points, as `run` does; repeat it to compare. [default: 1]",
)
@click.option(
    "--n",
    "n_windows",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="Number of windows.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the random choice of windows.",
)
@click.option(
    "--core-bp",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="BP",
    help="Bases in the middle of each window that are mutated.",
)
@click.option(
    "--bed",
    multiple=True,
    type=PATH,
    help="Draw only windows whose core overlaps this BED file, such as peaks.",
)
@click.option(
    "--chroms", multiple=True, metavar="GLOBS", help="Draw only from these chroms, such as 'chr8,chr9'."
)
@click.option("--out", type=PATH, help="File for all results: .json.")
@click.option(
    "--store",
    type=STORE,
    help="Keep the slopes with this store, which has the same model and path; the README.txt of its exports "
    "has them.",
)
@click.option(
    "--plot",
    type=PATH,
    help="File for a scatter plot of TISM (by the first path, and by the best) against ISM: .png, .svg or "
    ".pdf.",
)
def command(
    genome: Path,
    path: tuple[tuple[float, ...], ...],
    n_windows: int,
    seed: int,
    core_bp: int,
    bed: tuple[Path, ...],
    chroms: tuple[str, ...],
    out: Path | None,
    store: Place | None,
    plot: Path | None,
    **options: Any,
) -> int:
    """Compare TISM with exact ISM on windows drawn at random, and time both.

    Exact ISM runs the model three times for each base in the middle of each window: by default, 38,400 times.
    Most windows of a genome contain no site that the model knows; use --bed to compare the two at sites. With
    more than one --path, the last line says which is best for this model.
    """
    from tism_scan.genome.fasta import Genome
    from tism_scan.genome.wanted import wanted_spans
    from tism_scan.locus.auditing import audit
    from tism_scan.locus.output import check_panels
    from tism_scan.scan.likeness import checked_model
    from tism_scan.storage.atomic import PICTURE_SUFFIXES, check_target

    paths = tuple(dict.fromkeys(path))
    if out is not None:
        check_target(out, (".json",))
    if plot is not None:
        check_target(plot, PICTURE_SUFFIXES)
    kept = None if store is None else _store_of(store, paths)
    with Genome(genome) as opened:
        spans = wanted_spans(opened.chroms, beds=bed, include=chroms) if bed or chroms else None
        load = None if kept is None else partial(checked_model, kept.plan, genome)
        model, tracks = model_and_tracks(options, load)
        if plot is not None:
            check_panels(len(tracks) * min(len(paths), 2))
        results = audit(
            model,
            opened,
            tracks,
            paths=paths,
            n_windows=n_windows,
            core_bp=core_bp,
            seed=seed,
            spans=spans,
            batch_size=options["batch_size"],
            device=options["device"],
            progress=None if err.is_terminal else False,
        )
    _report(results)
    _write(results, out, plot)
    if kept is not None:
        _keep_slopes(kept, results, tracks)
    return 0


def _store_of(place: Place, paths: Sequence[tuple[float, ...]]) -> "ScoreStore":
    """Return the store that an audit is of, or raise if its scores are of another number than the audit's."""
    from tism_scan.storage.read_only import check_may_write
    from tism_scan.store.score_store import ScoreStore
    from tism_scan.store.slopes import REMEDY

    store = ScoreStore.open(place)
    scoring = store.plan.scoring
    if scoring.path not in paths:
        raise StoreError(
            f"{place} was scanned along the path {path_text(scoring.path)}; expected one that is audited; "
            "add it as another --path"
        )
    if scoring.output_space != "logit" or scoring.stitch == "all":
        raise StoreError(
            f"{place} holds effects on {'all outputs' if scoring.stitch == 'all' else 'the probability'}; "
            "expected those on a window's logit, which audit takes; leave --store out"
        )
    check_may_write("the slopes", store.path, REMEDY)
    return store


def _keep_slopes(store: "ScoreStore", results: Sequence["Audit"], tracks: Sequence["Track"]) -> None:
    from tism_scan.store.slopes import keep_slopes

    (result,) = [each for each in results if each.path == store.plan.scoring.path]
    stored = store.plan.scoring.tracks
    name_of = {
        (track.outputs, track.weights): name for track, name in zip(stored, names_apart(stored), strict=True)
    }
    found = {
        name_of.get((track.outputs, track.weights)): agreement.slope
        for track, agreement in zip(tracks, result.agreements, strict=True)
    }
    keep_slopes(store, {name: slope for name, slope in found.items() if name and not math.isnan(slope)})
    say(f"slopes   {store.path}")


def _report(results: Sequence["Audit"]) -> None:
    from tism_scan.locus.auditing import PAPER_CORRELATION, best_of

    has_paths = len(results) > 1
    for result in results:
        _table(result, f"path {path_text(result.path)}: " if has_paths else "")
    say(
        "n: substitutions; Pearson and Spearman over all of them; mean TISM: Pearson of the means over "
        "positions; in a window: median Pearson; slope: of ISM by TISM, above 1 where TISM understates it"
    )
    say(f"the paper found correlations of about {PAPER_CORRELATION}")
    for result in results:
        _warn_of_disagreement(result)
    for result in results:
        _say_cost(result, has_paths=has_paths)
    if has_paths:
        best = best_of(results)
        say(
            f"best for this model: --path {path_text(best.path)}, with a Pearson of {best.pearson:.3f} in "
            "the median track"
        )


def _table(result: "Audit", label: str) -> None:
    rows = [
        [
            each.track,
            f"{each.n_substitutions:,}",
            f"{each.tism_pearson:.3f}",
            f"{each.tism_spearman:.3f}",
            f"{each.mean_tism_pearson:.3f}",
            f"{within:.3f}",
            f"{each.slope:.2f}",
        ]
        for each, within in zip(result.agreements, result.window_pearson, strict=True)
    ]
    say_table(
        f"{label}TISM against exact ISM, {count_of(result.n_windows, 'window')}, "
        f"{result.core_bp:,} bp of each",
        ["track", "n", "Pearson", "Spearman", "mean TISM", "in a window", "slope"],
        rows,
    )


def _warn_of_disagreement(result: "Audit") -> None:
    wrong = [
        f"{each.track} (r = {each.tism_pearson:.2f})" for each in result.agreements if each.tism_pearson < 0
    ]
    if wrong:
        more = f" and {len(wrong) - _MOST_WARNED:,} more" if len(wrong) > _MOST_WARNED else ""
        named = ", ".join(wrong[:_MOST_WARNED])
        say_warning(
            f"in these windows, TISM does not follow exact ISM for {named}{more}: do not read its scores as "
            "effects; draw more windows (--n), at sites that the track knows (--bed); check --weights and "
            "--alphabet; or score single loci with `tism-scan attribute --method ism`"
        )


def _say_cost(result: "Audit", *, has_paths: bool) -> None:
    n_tracks = len(result.agreements)
    say(
        (f"path {path_text(result.path)}: " if has_paths else "")
        + f"one window on {result.device}: TISM {_short(result.tism_seconds)}, exact ISM of its "
        f"{result.input_bp:,} bases {_short(result.ism_seconds)} by whole passes, "
        f"{_short(result.ism_here_seconds)} as computed here"
    )
    say(
        f"speed-up {result.speed_up:,.0f} for one track"
        + (f", {result.speed_up_all_tracks:,.0f} for all {n_tracks:,}" if n_tracks > 1 else "")
        + f"; in theory about three times the length, {result.theoretical_speed_up:,}"
    )


def _short(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _write(results: Sequence["Audit"], out: Path | None, plot: Path | None) -> None:
    import numpy as np

    from tism_scan.locus.auditing import best_of
    from tism_scan.locus.output import write_picture
    from tism_scan.plot import plot_concordance
    from tism_scan.storage.atomic import replaced_file

    if out is not None:
        with replaced_file(out) as file:
            file.write(json.dumps(_plain(results), indent=2).encode() + b"\n")
        say(f"figures  {out}")
    if plot is not None:
        best = best_of(results)
        shown = [results[0]] if best is results[0] else [results[0], best]
        titles = [
            f"{each.track}, {f'path {path_text(result.path)}, ' if len(shown) > 1 else ''}"
            f"r = {each.tism_pearson:.2f}"
            for result in shown
            for each in result.agreements
        ]
        figure = plot_concordance(
            np.concatenate([result.approximate for result in shown]),
            np.concatenate([result.exact for result in shown]),
            titles=titles,
        )
        write_picture(plot, figure, dpi=150)
        say(f"picture  {plot}")


def _plain(results: Sequence["Audit"]) -> dict[str, Any]:
    """Return one audit as a dict; of several, all of them and the best path."""
    from tism_scan.locus.auditing import best_of

    if len(results) == 1:
        return results[0].to_json()
    return {"best_path": list(best_of(results).path), "paths": [each.to_json() for each in results]}
