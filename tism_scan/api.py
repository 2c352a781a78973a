"""The Python API's own calls: carry out a scan, attribute a locus, or many peaks, and draw.

`tism_scan.plan_scan` is in `tism_scan.scan`, and `tism_scan.plan_effects` in `tism_scan.effects`; the others
are here, above all that they call.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tism_scan.effects import EffectSummary, PlannedEffects, compute_effects
from tism_scan.effects.tables import Shape
from tism_scan.engine.devices import default_precision
from tism_scan.engine.readout import chosen_tracks
from tism_scan.errors import InputError, ScanError
from tism_scan.executors import check_travels, scan_pending
from tism_scan.genome.alphabet import encode
from tism_scan.genome.bed import read_named_spans
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import parse_region
from tism_scan.locus.output import locus_figure
from tism_scan.locus.scores import LocusScores, score_region, score_sequence
from tism_scan.models.frozen import outside_inference_mode
from tism_scan.models.source import AnyModel, model_source
from tism_scan.peaks import attribute_pending, plan_peaks
from tism_scan.plan.methods import Method, MethodSettings
from tism_scan.plan.scoring import ONE_GRADIENT, OutputSpace, Strands
from tism_scan.plan.tiling import DEFAULT_STRIDE, Stitch
from tism_scan.plan.tracks import TrackChoice
from tism_scan.progress import OnProgress, count_of
from tism_scan.scan.execution import Execution
from tism_scan.scan.planning import PlannedScan
from tism_scan.scan.result import ScanResult
from tism_scan.storage.places import Place
from tism_scan.store.owned import OwnedStore
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.score_store import ScoreStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tism_scan.ray_scan import RayOptions

_FAILURES_SHOWN = 3


def scan(
    planned: PlannedScan,
    out: str | Place,
    *,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    on_progress: OnProgress | None = None,
) -> ScoreStore:
    """Carry out a scan, or what is left of it, and return its store.

    Call it again after an interruption: only unfinished blocks are computed. SIGINT (in a notebook,
    "interrupt") stops after the blocks in flight.

    Parameters
    ----------
    planned : PlannedScan
        From `tism_scan.plan_scan`.
    out : str, Path or Url
        The store: a folder, or ``s3://bucket/prefix``, ``gs://bucket/prefix``.
    ray : bool or RayOptions
        Compute on Ray's actors; `True` starts Ray on this machine. Otherwise in this process.
    execution : Execution, optional
        Batch size, memory, device, and what to do with failed blocks and a lock.
    on_progress : callable, optional
        Called with a `tism_scan.Progress` now and then.

    Returns
    -------
    ScoreStore

    Raises
    ------
    StoreError
        If there is something else at `out`, or a store that was made under another plan.
    LeaseError
        If another process is scanning into the store.
    ModelError
        If Ray is to compute with a module that is in memory.
    ScanError
        If blocks failed every attempt; what is finished is kept.
    KeyboardInterrupt
        If the scan was stopped; what is finished is kept.
    """
    check_travels(planned.model, ray)
    store = planned.create_store(out)
    how = replace(execution or Execution(), sharing=planned.sharing)
    result = scan_pending(
        store, planned.genome, planned.model, ray=ray, execution=how, on_progress=on_progress
    )
    _raise_unless_done(store, result)
    return store


def _raise_unless_done(store: OwnedStore[Any], result: ScanResult, unit: str = "block") -> None:
    """Raise if a scan was stopped, or if the store records a block, or another unit, that failed."""
    if result.was_stopped:
        raise KeyboardInterrupt(
            f"stopped with {count_of(result.n_blocks_left, unit)} to go; the same call resumes {store.path}"
        )
    n_failed = len(store.ledger.failures())
    if n_failed:
        shown = [
            f"{interval}: {reason}" for interval, reason in list(result.failed.items())[:_FAILURES_SHOWN]
        ]
        raise ScanError(
            f"{count_of(n_failed, unit)} of {store.path} failed every attempt, all else is finished; try "
            "again with execution=Execution(retry_failed=True)" + "".join(f"; {each}" for each in shown)
        )


@outside_inference_mode
def attribute(
    model: AnyModel,
    sequence: str | None = None,
    *,
    genome: str | Path | None = None,
    region: str | None = None,
    tracks: TrackChoice = None,
    groups: Sequence[str] = (),
    track_names: str | Path | Sequence[str] | None = None,
    method: Method = "mean-tism",
    stride: int = DEFAULT_STRIDE,
    stitch: Stitch = "center",
    strands: Strands = "forward",
    output_space: OutputSpace = "logit",
    path: Sequence[float] = ONE_GRADIENT,
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25),
    seed: int = 0,
    center: bool = False,
    batch_size: int | None = None,
    device: str | None = None,
    on_progress: OnProgress | None = None,
) -> LocusScores:
    """Return the scores of one locus by any attribution method.

    Parameters
    ----------
    model : str, Path, Url, torch.nn.Module, ModelSource, or sequence of these
        As for `tism_scan.plan_scan`.
    sequence : str, optional
        Letters; what is not A, C, G or T counts as N. It is padded with N to a window, in its middle; a
        longer one is tiled as a chrom is.
    genome : str or Path, optional
        FASTA; with `region`, instead of a sequence.
    region : str, optional
        ``"chr1:1,000-2,000"``, 1-based, both ends included. TISM and mean TISM are the numbers that a scan
        with the same settings stores.
    tracks, groups, track_names
        As for `tism_scan.plan_scan`.
    method : str
        One of ``mean-tism``, ``tism``, ``mean-ism``, ``ism``, ``gradient``, ``gradxinput``, ``corrected``,
        ``hypothetical``, ``deepliftshap``; see `tism_scan.plan.methods`.
    stride, stitch, strands, output_space, path
        See `tism_scan.Scoring`; a path is for the methods that are made of gradients.
    background : tuple of four float
        Probabilities of A, C, G, T, the baseline of ``hypothetical``.
    seed : int
        Of the shuffles of ``deepliftshap``.
    center : bool
        Put the region in the middle of one window, instead of on the scan's lattice.
    batch_size : int, optional
        Model inputs in one pass.
    device : str, optional
        Where to compute; a GPU if there is one.
    on_progress : callable, optional
        Called with a `tism_scan.Progress` now and then.

    Returns
    -------
    LocusScores
        Its `values` are float32 (T, L), or (T, 4, L) for methods that have a value for each base. Draw them
        with `tism_scan.plot`.

    Raises
    ------
    InputError
        If neither or both of a sequence and a region are given, or one of them cannot be used.
    """
    loaded = model_source(model).load()
    settings = MethodSettings(
        chosen_tracks(loaded, tracks, groups, track_names),
        method,
        stride=stride,
        stitch=stitch,
        strands=strands,
        output_space=output_space,
        path=tuple(path),
        background=background,
        seed=seed,
        precision=default_precision(device),
    )
    if sequence is not None and genome is None and region is None:
        codes = encode("".join(sequence.split()))
        return score_sequence(
            loaded, "sequence", codes, settings, batch_size=batch_size, device=device, on_progress=on_progress
        )
    if sequence is not None or genome is None or region is None:
        raise InputError(
            "attribute takes a sequence, or a genome and a region; expected one of the two; give "
            "attribute(model, 'ACGT...') or attribute(model, genome=..., region=...)"
        )
    with Genome(Path(genome)) as opened:
        return score_region(
            loaded,
            opened,
            parse_region(region, opened.chroms),
            settings,
            center=center,
            batch_size=batch_size,
            device=device,
            on_progress=on_progress,
        )


def attribute_peaks(
    model: AnyModel,
    genome: str | Path,
    peaks: str | Path,
    out: str | Place,
    *,
    tracks: TrackChoice = None,
    groups: Sequence[str] = (),
    track_names: str | Path | Sequence[str] | None = None,
    method: Method = "tism",
    width: int | None = None,
    strands: Strands = "forward",
    output_space: OutputSpace = "logit",
    path: Sequence[float] = ONE_GRADIENT,
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25),
    seed: int = 0,
    chrom_alias: str | Path | None = None,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> PeakStore:
    """Attribute a window around each peak of a file, or those that are left, and return their store.

    Call it again after an interruption: only unfinished parts are computed.

    Parameters
    ----------
    model, genome, peaks, tracks, groups, track_names, method, width
        As for `tism_scan.peaks.plan_peaks`.
    strands, output_space, path, background, seed, chrom_alias
        As for the same function.
    out : str, Path or Url
        The store: a folder, or ``s3://bucket/prefix``, ``gs://bucket/prefix``.
    ray, execution, on_progress
        As for `tism_scan.scan`.
    overwrite : bool
        Delete the store that is there first.

    Returns
    -------
    PeakStore
        Its `scores` are float32 (n, T, 4, width), 0 at what is not A, C, G or T.
        `tism_scan.export.export_regions` writes them for TF-MoDISco and Fi-NeMo.

    Raises
    ------
    InputError
        If the genome, the peaks, the model or the settings cannot be used.
    StoreError
        If there is something else at `out`, or a store that was made under another plan.
    LeaseError
        If another process is writing the store.
    ModelError
        If Ray is to compute with a module that is in memory.
    ScanError
        If parts failed every attempt; what is finished is kept.
    KeyboardInterrupt
        If it was stopped; what is finished is kept.
    """
    source = model_source(model)
    check_travels(source, ray)
    planned = plan_peaks(
        genome,
        source,
        peaks,
        tracks=tracks,
        groups=groups,
        track_names=track_names,
        method=method,
        width=width,
        strands=strands,
        output_space=output_space,
        path=path,
        background=background,
        seed=seed,
        chrom_alias=chrom_alias,
    )
    store = planned.create_store(out, overwrite=overwrite)
    result = attribute_pending(planned, store, ray=ray, execution=execution, on_progress=on_progress)
    _raise_unless_done(store, result, "part")
    return store


def score_variants(
    planned: PlannedEffects,
    out: str | Path,
    *,
    shape: Shape = "wide",
    parts: str | Place | None = None,
    keep_parts: bool = False,
    ray: "bool | RayOptions" = False,
    execution: Execution | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> EffectSummary:
    """Compute the exact scores of variants, or what is left of it, write them, and return what was found.

    Parameters, and what else is raised, are those of `tism_scan.effects.compute_effects`.

    Raises
    ------
    ScanError
        If parts failed every attempt; `out` is written, and gives that as the reason of their alleles.
    KeyboardInterrupt
        If it was stopped; what is finished is kept.
    """
    summary = compute_effects(
        planned,
        out,
        shape=shape,
        parts=parts,
        keep_parts=keep_parts,
        ray=ray,
        execution=execution,
        overwrite=overwrite,
        on_progress=on_progress,
    )
    _raise_unless_done(summary.store, summary.result, "part")
    return summary


def plot(
    scores: LocusScores | Sequence[LocusScores], *, spans: str | Path | Sequence[tuple[int, int, str]] = ()
) -> "Figure":
    """Return the picture of a locus: for each track a logo and, where each base has a value, a heat map.

    Parameters
    ----------
    scores : LocusScores, or sequence of them
        From `tism_scan.attribute`; several methods of the same bases and tracks are drawn side by side.
    spans : path or sequence of (start, end, label)
        Genes or motifs to draw above the picture: a BED file, or positions of the chrom, 0-based, half-open.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it; ``savefig`` writes it.

    Raises
    ------
    ExportError
        If there are too many panels.
    InputError
        If matplotlib or logomaker is not installed.
    RegionError
        If the BED file cannot be read.
    """
    panels = [scores] if isinstance(scores, LocusScores) else list(scores)
    drawn = read_named_spans(Path(spans), panels[0].interval) if isinstance(spans, str | Path) else spans
    return locus_figure(panels, drawn)
