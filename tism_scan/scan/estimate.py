"""What a scan will take, before it is begun: windows, arithmetic, time, and bytes on disk."""

import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig import write_bigwig
from tism_scan.engine.bench import time_windows
from tism_scan.engine.block_engine import Engine, needed_windows
from tism_scan.genome.alphabet import Codes
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import minus_mean_effect
from tism_scan.plan.tiling import Block
from tism_scan.progress import OnProgress, Progress
from tism_scan.scan.blocks import fetch_block
from tism_scan.store.arrays import encode_shard, rounded

_SAMPLE_CORES = 128


@dataclass(frozen=True)
class Workload:
    """What there is to do, counted over the whole genome.

    Attributes
    ----------
    n_blocks : int
        Blocks that hold a wanted base; each is written, though all of it be N.
    n_bases : int
        Wanted bases that are A, C, G or T: these get a score.
    n_windows : int
        Windows that are computed. With ``stitch="mean"``, those over the edge of two blocks count twice.
    sample : Block or None
        A few cores of wanted bases, fit to be timed; None where there is no base to score.
    """

    n_blocks: int
    n_bases: int
    n_windows: int
    sample: Block | None


@dataclass(frozen=True)
class Estimate:
    """What a scan will take.

    Attributes
    ----------
    n_blocks, n_bases, n_windows
        As in `Workload`.
    n_tracks : int
    flop : float
        Arithmetic that the method needs; a multiply-add counts as two.
    windows_per_s : float
        Of one device: measured here, or given.
    seconds : float
        Time that one such device computes. Reading, writing and starting come on top, a few per cent.
    zarr_bytes, bigwig_bytes : float
        Size of the store, and of one bigWig for each track, from a sample that was scored and written.
    zarr_objects : int
        Files of scores in the store, or objects in a bucket; each has an empty marker beside it.
    """

    n_blocks: int
    n_bases: int
    n_windows: int
    n_tracks: int
    flop: float
    windows_per_s: float
    seconds: float
    zarr_bytes: float
    zarr_objects: int
    bigwig_bytes: float

    def to_json(self) -> dict[str, Any]:
        """Return all figures by name."""
        return asdict(self)


def count_work(genome: Genome, plan: ScanPlan, *, on_progress: OnProgress | None = None) -> Workload:
    """Return what a plan's scan has to do, from one pass through the sequence.

    Parameters
    ----------
    genome : Genome
    plan : ScanPlan
    on_progress : callable, optional
        Called after each block, with the bases counted.
    """
    n_blocks = n_bases = n_windows = n_most = n_done = 0
    n_bp = sum(block.n_bases for block in plan.all_blocks()) if on_progress is not None else 0
    sample = None
    for block in plan.all_blocks():
        found = fetch_block(genome, plan, block)
        stretch, is_scored = found.stretch, found.is_scored
        target = np.zeros(len(found.codes), dtype=np.bool_)
        target[block.start - stretch.start : block.end - stretch.start] = is_scored
        windows = needed_windows(target, plan.scoring.reach, plan.scoring.stride, stretch.n_windows)
        windows = stretch.existing(windows)
        n_blocks, n_bases, n_windows = n_blocks + 1, n_bases + int(is_scored.sum()), n_windows + len(windows)
        if len(windows) > n_most:
            n_most, sample = len(windows), _densest(block, is_scored, plan.scoring.stride)
        if on_progress is not None:
            n_done += block.n_bases
            on_progress(Progress(n_done, n_bp, "bases"))
    return Workload(n_blocks, n_bases, n_windows, sample)


def _densest(block: Block, target: NDArray[np.bool_], stride: int) -> Block:
    """Return the cores of a block, a few in a row, that have the most bases to score."""
    size = min(_SAMPLE_CORES * stride, len(block))
    n_before = np.concatenate(([0], np.cumsum(target)))
    starts = np.arange(0, len(block) - size + 1, stride)
    start = block.start + int(starts[np.argmax(n_before[starts + size] - n_before[starts])])
    return Block(block.chrom, 0, start, start + size)


def estimate_scan(
    genome: Genome,
    plan: ScanPlan,
    work: Workload,
    engine: Engine,
    *,
    seconds: float = 5.0,
    bases_per_s: float | None = None,
) -> Estimate:
    """Return what a scan will take, from what it has to do and a sample that is scored here.

    Parameters
    ----------
    genome : Genome
    plan : ScanPlan
    work : Workload
        From `count_work`.
    engine : Engine
        Made for the plan's scoring.
    seconds : float
        The least time to score for.
    bases_per_s : float, optional
        The rate of another device, which `tism_scan.engine.bench` measured there.

    Raises
    ------
    ScanError
        If a single window is too much for the device's memory.
    ExportError
        If there is no room for a sample's files.
    """
    scoring, n_tracks = plan.scoring, len(plan.scoring.tracks)
    windows_per_s, zarr_bytes, bigwig_bytes = (bases_per_s or 0.0) / scoring.stride, 0.0, 0.0
    if work.sample is not None:
        codes, scores = _sample(genome, plan, work.sample, engine)
        times = work.n_bases / int(np.isfinite(scores.reshape(-1, len(work.sample))[0]).sum())
        zarr_bytes = times * _zarr_bytes(plan, work.sample, scores)
        bigwig_bytes = times * n_tracks * _bigwig_bytes(plan, scores[0])
        if bases_per_s is None:
            windows_per_s = time_windows(engine, codes, seconds).windows_per_s
    return Estimate(
        n_blocks=work.n_blocks,
        n_bases=work.n_bases,
        n_windows=work.n_windows,
        n_tracks=n_tracks,
        flop=work.n_windows * engine.flop_per_window(),
        windows_per_s=windows_per_s,
        seconds=work.n_windows / windows_per_s if windows_per_s else 0.0,
        zarr_bytes=zarr_bytes,
        zarr_objects=work.n_blocks * plan.n_shards_per_block,
        bigwig_bytes=bigwig_bytes,
    )


def _sample(
    genome: Genome, plan: ScanPlan, sample: Block, engine: Engine
) -> tuple[Codes, NDArray[np.float32]]:
    """Return the sequence under a sample's windows, and its scores."""
    found = fetch_block(genome, plan, sample)
    return found.codes, engine.score(found.codes, found.stretch, np.ones(len(sample), dtype=np.bool_))


def _zarr_bytes(plan: ScanPlan, sample: Block, scores: NDArray[np.float32]) -> float:
    """Return the bytes that a store takes for a sample, of all tracks."""
    first = scores[: plan.tracks_per_shard]
    return len(encode_shard(plan, sample, first)) * len(scores) / len(first)


def _bigwig_bytes(plan: ScanPlan, scores: NDArray[np.float32]) -> int:
    """Return the size of one track's bigWigs of a sample's scores, (length,), (4, length) or (2, length)."""
    if plan.scoring.values == "tism":
        scores = minus_mean_effect(scores)
    with tempfile.TemporaryDirectory() as folder:
        path, n_bytes = Path(folder) / "sample.bw", 0
        for kept in np.atleast_2d(rounded(scores, plan.keep_bits)):
            write_bigwig(path, {"sample": len(kept)}, partial(_part_of, kept))
            n_bytes += path.stat().st_size
        return n_bytes


def _part_of(scores: NDArray[np.float32], _chrom: str, start: int, end: int) -> NDArray[np.float32]:
    return scores[start:end]
