"""Attribution of one locus, or one sequence: windows, scores, and where they came from.

A region is tiled with the scan's own lattice, so that its scores are those that a scan stores. TISM and mean
TISM go through the window engine itself; for every other method a base's value comes from the window whose
core holds it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine, check_finite
from tism_scan.engine.choice import make_engine
from tism_scan.engine.devices import default_device
from tism_scan.errors import RegionError
from tism_scan.genome.alphabet import N_CODE, Codes, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import Interval
from tism_scan.locus.values import attribute_codes, cannot_be_shuffled
from tism_scan.models.contract import Model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.frozen import BATCH_SIZE
from tism_scan.models.probe import check_windows_apart
from tism_scan.plan.labels import names_apart
from tism_scan.plan.methods import ISM_METHODS, TISM_METHODS, MethodSettings
from tism_scan.plan.tiling import Block, Lattice
from tism_scan.plan.tracks import Track
from tism_scan.progress import OnProgress, Progress, count_of

# What is computed between two reports of progress.
_CORES_AT_ONCE = 64
_ISM_BP_AT_ONCE = 64


@dataclass(frozen=True)
class Window:
    """One model input, and the bases that it answers for.

    Attributes
    ----------
    start : int
        May be negative: what is past the chrom's ends is N.
    first, end : int
        The bases, half-open. With ``stitch="mean"`` its neighbours answer for them too.
    """

    start: int
    first: int
    end: int


@dataclass(frozen=True)
class LocusScores:
    """The scores of one locus.

    Attributes
    ----------
    chrom : str
    start : int
        Where the first base is, 0-based.
    codes : uint8 (L,)
    settings : MethodSettings
    values : float32 (T, L), or (T, 4, L) in A, C, G, T order
        In units of the output, with the sign that `tism_scan.plan.methods` gives; NaN where the base is not
        A, C, G or T.
    windows : tuple of Window
        Where the windows stood, in order.
    """

    chrom: str
    start: int
    codes: Codes
    settings: MethodSettings
    values: NDArray[np.float32]
    windows: tuple[Window, ...]

    def __repr__(self) -> str:
        names = ", ".join(names_apart(self.tracks)[:5]) + ", ..." * (len(self.tracks) > 5)
        of_tracks = f"{count_of(len(self.tracks), 'track')} ({names})"
        what = f"{self.settings.method}, {of_tracks}, values {self.values.shape}"
        return f"LocusScores({self.interval}: {what})"

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks, in the order of the first axis of the values."""
        return self.settings.tracks

    @property
    def interval(self) -> Interval:
        """The bases that were scored."""
        return Interval(self.chrom, self.start, self.start + len(self.codes))


def score_region(
    model: Model,
    genome: Genome,
    region: Interval,
    settings: MethodSettings,
    *,
    center: bool = False,
    batch_size: int | None = None,
    device: str | None = None,
    on_progress: OnProgress | None = None,
) -> LocusScores:
    """Return the scores of a region of a genome.

    Parameters
    ----------
    model : Model
        As `tism_scan.models.source.ModelSource.load` returns it. It is moved to the device and frozen.
    genome : Genome
    region : Interval
    settings : MethodSettings
    center : bool
        Put the region in the middle of one window, instead of on the scan's lattice.
    batch_size : int, optional
        Model inputs in one pass. It changes the time, not the scores.
    device : str, optional
        Where to compute; a GPU if there is one.
    on_progress : callable, optional
        Called now and then with the bases done.

    Raises
    ------
    RegionError
        If a region to be centred is longer than a window, or there is no base.
    PlanError
        If the stride does not fit the model's window.
    ModelError
        If the model cannot be differentiated, and the method needs it.
    ScanError
        If the model gives NaN or infinity.
    """
    input_bp = model.input_bp
    if center and len(region) > input_bp:
        raise RegionError(
            f"{region} has {len(region):,} bp; expected at most the window's {input_bp:,} to put it in the "
            "middle of one; leave --center out to tile it"
        )
    lattice = None if center else Lattice(input_bp, settings.stride)
    # Windows start at most input_bp before the region; with stitch "mean" their neighbours count too.
    first, end = region.start - 2 * input_bp, region.end + 2 * input_bp
    codes = genome.fetch(region.chrom, first, end)
    source = _Source(region, genome.chroms[region.chrom], first, codes)
    windows, parts = _parts(model, source, lattice, settings, batch_size, device)
    return _scored(source, settings, windows, parts, on_progress)


def score_sequence(
    model: Model,
    name: str,
    codes: Codes,
    settings: MethodSettings,
    *,
    batch_size: int | None = None,
    device: str | None = None,
    on_progress: OnProgress | None = None,
) -> LocusScores:
    """Return the scores of a sequence, padded with N to a window and in its middle.

    A sequence longer than a window is tiled as a chrom is.

    Parameters
    ----------
    model, settings, batch_size, device, on_progress
        As for `score_region`, whose errors this function shares.
    name : str
    codes : uint8 (L,)
    """
    input_bp = model.input_bp
    lattice = Lattice(input_bp, settings.stride) if len(codes) > input_bp else None
    margin = np.full(2 * input_bp, N_CODE, dtype=np.uint8)
    padded = np.concatenate((margin, codes, margin))
    source = _Source(Interval(name, 0, len(codes)), len(codes), -len(margin), padded)
    windows, parts = _parts(model, source, lattice, settings, batch_size, device)
    return _scored(source, settings, windows, parts, on_progress)


@dataclass(frozen=True)
class _Source:
    """What is scored, and the codes around it, of which the first is at `start`."""

    region: Interval
    chrom_bp: int
    start: int
    codes: Codes

    def fetch(self, start: int, end: int) -> Codes:
        return self.codes[start - self.start : end - self.start]


def _parts(
    model: Model,
    source: _Source,
    lattice: Lattice | None,
    settings: MethodSettings,
    batch_size: int | None,
    device: str | None,
) -> tuple[tuple[Window, ...], Iterator[tuple[int, NDArray[np.float32]]]]:
    """Return the windows of a locus, and where each part of it starts with its values.

    Without a lattice, one window is put around the locus.
    """
    region = source.region
    if len(region) < 1:
        raise RegionError(f"{region.chrom!r} is empty there; expected at least one base; leave it out")
    model = model.to(torch.device(device or default_device())).requires_grad_(False).eval()
    check_windows_apart(model, batch_size)
    if settings.method not in ISM_METHODS:
        check_differentiable(model, model.input_bp)
    windows = _windows(region, model.input_bp, lattice)
    if lattice is not None and settings.method in TISM_METHODS:
        engine = make_engine(model, settings.scoring(lattice.input_bp), batch_size=batch_size, device=device)
        return windows, _engine_parts(engine, source)
    return windows, _attributed_parts(model, source, windows, settings, batch_size or BATCH_SIZE)


def _scored(
    source: _Source,
    settings: MethodSettings,
    windows: tuple[Window, ...],
    parts: Iterator[tuple[int, NDArray[np.float32]]],
    on_progress: OnProgress | None,
) -> LocusScores:
    """Return the scores of a locus, put together from its parts."""
    region = source.region
    n_done = 0
    shape = (len(settings.tracks), *((4,) if settings.has_bases else ()), len(region))
    values = np.full(shape, np.nan, dtype=np.float32)
    for first, part in parts:
        values[..., first - region.start : first - region.start + part.shape[-1]] = part
        n_done += part.shape[-1]
        if on_progress is not None:
            on_progress(Progress(n_done, len(region), "bases"))
    codes = source.fetch(region.start, region.end)
    values[..., ~is_acgt(codes)] = np.nan
    remedy = "expected finite numbers; check the weights"
    check_finite(values, is_acgt(codes), region.chrom, region.start, remedy=remedy)
    return LocusScores(region.chrom, region.start, codes, settings, values, windows)


def _windows(region: Interval, input_bp: int, lattice: Lattice | None) -> tuple[Window, ...]:
    """Return the windows whose cores hold a region's bases; without a lattice, one around them."""
    if lattice is None:
        return (Window((region.start + region.end - input_bp) // 2, region.start, region.end),)
    stride = lattice.stride
    return tuple(
        Window(lattice.window_start(i), max(region.start, i * stride), min(region.end, (i + 1) * stride))
        for i in range(region.start // stride, -(-region.end // stride))
    )


def _engine_parts(engine: Engine, source: _Source) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield where each part of a region starts, and its scores, computed as a scan computes blocks."""
    region, stride = source.region, engine.scoring.lattice.stride
    step = _CORES_AT_ONCE * stride
    for start in range(region.start // stride * stride, region.end, step):
        core_end = min(start + step, -(-region.end // stride) * stride)
        block = Block(region.chrom, 0, start, min(core_end, source.chrom_bp))
        stretch = engine.scoring.lattice.stretch(block, source.chrom_bp, engine.scoring.stitch)
        first, end = max(start, region.start), min(block.end, region.end)
        wanted = np.zeros(len(block), dtype=np.bool_)
        wanted[first - start : end - start] = True
        scores = engine.score(source.fetch(stretch.start, stretch.end), stretch, wanted)
        yield first, scores[..., first - start : end - start]


def _attributed_parts(
    model: Model, source: _Source, windows: tuple[Window, ...], settings: MethodSettings, batch_size: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield where each part of a region starts, and its values, from the window that answers for it."""
    input_bp = model.input_bp
    step = _ISM_BP_AT_ONCE if settings.method in ISM_METHODS else input_bp
    shares = []
    for share in _shares(windows, step):
        if is_acgt(source.fetch(share.first, share.end)).any():
            shares.append(share)
        else:
            yield share.first, np.full(share.end - share.first, np.nan, dtype=np.float32)
    # A window that DeepLIFT/SHAP cannot shuffle is to be named, so each has a batch of its own.
    is_single = settings.method in ISM_METHODS or settings.method == "deepliftshap"
    n_at_once = 1 if is_single else batch_size
    for i in range(0, len(shares), n_at_once):
        batch = shares[i : i + n_at_once]
        codes = np.stack([source.fetch(window.start, window.start + input_bp) for window in batch])
        low = min(window.first - window.start for window in batch)
        high = max(window.end - window.start for window in batch)
        try:
            values = attribute_codes(model, codes, settings, low, high, batch_size=batch_size)
        except ValueError as error:
            if not cannot_be_shuffled(error):
                raise
            place = f"{source.region.chrom}:{batch[0].first + 1:,}"
            raise RegionError(
                f"the window around {place} cannot be shuffled: all dinucleotide shuffles of it are alike; "
                "expected a more varied sequence; choose another --method"
            ) from None
        for window, own in zip(batch, values, strict=True):
            shift = window.start + low
            yield window.first, own[..., window.first - shift : window.end - shift]


def _shares(windows: tuple[Window, ...], step: int) -> Iterator[Window]:
    """Yield windows over and over, each time with at most `step` of the bases that they answer for."""
    for window in windows:
        for first in range(window.first, window.end, step):
            yield replace(window, first=first, end=min(first + step, window.end))
