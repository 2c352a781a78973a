"""Rates of one and of two actors, and of as many bare processes; see ``scaling.py``."""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from importlib.resources import files
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from tism_scan.plan.tiling import Block


class Watch:
    """Notes the time when all actors are ready, and what was done by then."""

    def __init__(self, n_actors: int) -> None:
        self.n_actors = n_actors
        self.began: tuple[float, int] | None = None
        self.last = (0.0, 0)

    def __call__(self, progress) -> None:
        if self.began is None and progress.n_workers == self.n_actors:
            self.began = (time.perf_counter(), progress.n_done)
        if progress.n_done != self.last[1]:
            self.last = (time.perf_counter(), progress.n_done)

    def rate(self) -> float:
        """Return bases each second, all actors together."""
        return (self.last[1] - self.began[1]) / (self.last[0] - self.began[0])


def make_scan(folder: Path, model_name: str, n_blocks: int):
    """Write a genome and weights, and return their paths and a plan of as many equal blocks."""
    import torch

    from tism_scan.genome.alphabet import decode
    from tism_scan.genome.fasta import Genome
    from tism_scan.models.beluga import load_beluga, random_beluga, weights_digest
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.plan.scoring import Scoring
    from tism_scan.plan.tracks import Track

    genome_path, weights, block_bp = folder / "genome.fa", folder / "weights.pth", 1 << 14
    codes = np.random.default_rng(0).integers(0, 4, n_blocks * block_bp).astype(np.uint8)
    genome_path.write_text(f">chr1\n{decode(codes)}\n")
    if model_name == "beluga":
        torch.save(random_beluga().published_state_dict(), weights)
        scoring = Scoring((Track("0", (0,), (1.0,)),), 2000)
    else:
        weights = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))
        tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(6))
        scoring = Scoring(tracks, load_beluga(weights).input_bp, stride=64, strands="both")
    with Genome(genome_path) as genome:
        chroms, digest = dict(genome.chroms), genome.digest()
    wanted = {chrom: ((0, length),) for chrom, length in chroms.items()}
    return genome_path, weights, ScanPlan(scoring, digest, weights_digest(weights), chroms, wanted, block_bp)


def compute_bare(genome_path: Path, weights: Path, plan, blocks: list[Block], together: Barrier) -> None:
    """Compute blocks with one thread, when all others are ready to, and keep nothing."""
    import torch

    from tism_scan.engine.choice import make_engine
    from tism_scan.genome.fasta import Genome
    from tism_scan.models.beluga import load_beluga
    from tism_scan.scan.blocks import fetch_block, score_block

    torch.set_num_threads(1)
    with Genome(genome_path) as genome:
        engine = make_engine(load_beluga(weights), plan.scoring)
        together.wait()
        for block in blocks:
            score_block(engine, fetch_block(genome, plan, block))
        together.wait()


def bare_rate(genome_path: Path, weights: Path, plan, n_processes: int) -> float:
    """Return bases each second of processes that share the blocks out, without Ray or a store."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(n_processes + 1, timeout=600)
    blocks = list(plan.all_blocks())
    shares = [blocks[i::n_processes] for i in range(n_processes)]
    processes = [
        context.Process(target=compute_bare, args=(genome_path, weights, plan, share, together))
        for share in shares
    ]
    for process in processes:
        process.start()
    together.wait()
    began = time.perf_counter()
    together.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return plan.n_wanted / seconds


def scan_rate(genome_path: Path, weights: Path, plan, n_actors: int) -> float:
    """Return bases each second of a scan on Ray, from when all actors are ready to the last block."""
    from tism_scan.ray_scan import RayOptions, scan_on_ray
    from tism_scan.store.score_store import ScoreStore

    watch = Watch(n_actors)
    with tempfile.TemporaryDirectory() as folder:
        store = ScoreStore.create(Path(folder) / "scores.zarr", plan)
        options = RayOptions(n_actors=n_actors, n_cpus=n_actors)
        scan_on_ray(store, genome_path, weights, options=options, on_progress=watch)
    return watch.rate()


def real(arguments: argparse.Namespace) -> dict:
    """Return the rates of one and of two, with Ray and without, and their efficiencies."""
    rates: dict[str, dict[int, list[float]]] = {kind: {1: [], 2: []} for kind in ("scan", "bare")}
    with tempfile.TemporaryDirectory() as name:
        scan = make_scan(Path(name), arguments.model, arguments.blocks)
        for _ in range(arguments.repeats):
            for kind, rate in (("scan", scan_rate), ("bare", bare_rate)):
                for n in (1, 2):
                    rates[kind][n].append(rate(*scan, n))
                    print(f"{kind} {n}: {rates[kind][n][-1]:,.0f} bases/s", flush=True)
    efficiency = {}
    for kind, of_kind in rates.items():
        one, two = (statistics.median(of_kind[n]) for n in (1, 2))
        pairs = [two / one / 2 for one, two in zip(of_kind[1], of_kind[2], strict=True)]
        efficiency[kind] = two / one / 2
        print(
            f"{kind}, median: {one:,.0f} and {two:,.0f} bases/s, efficiency {efficiency[kind]:.3f} "
            f"({min(pairs):.3f} to {max(pairs):.3f})"
        )
    return {"bases_per_s": rates, "efficiency": efficiency}
