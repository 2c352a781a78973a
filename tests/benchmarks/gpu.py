"""All that wants a GPU to be known, in one run of some eight minutes.

    python tests/benchmarks/gpu.py [--seconds 5] [--json FILE]
    python tests/benchmarks/gpu.py --narrow --device cpu --seconds 0.2     to try it without a GPU

1. Each precision, with 1 and with 16 tracks: the rate, its share of the device's rate on large bfloat16
   products, the time of hg38, and the memory at its fullest; then how well its scores agree with those of
   float32 (`engine.py`).
2. The kernels that take most of a block's time, in "fp16" and in float32.
3. What it brings to queue a block before the scores of the last are taken.
4. How much of the engine's own rate `run` reaches, with an actor of Ray and a store on disk.

The network is full Beluga with noise for weights.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback

import numpy as np
import ray
import torch
from engine import HG38_BP, Case, block_of, on_gpu, show
from pipeline import write_genome
from scaling_real import Watch
from torch.profiler import ProfilerActivity, profile

from tism_scan.engine.bench import bench
from tism_scan.engine.choice import make_engine
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import Beluga, random_beluga, weights_digest
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Stretch
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.store.score_store import ScoreStore

N_KERNELS = 12
N_CORES = 4096
NARROW_CHANNELS = (32, 32, 48, 48, 64, 64)


def random_block(case: Case, n_cores: int) -> tuple[np.ndarray, Stretch, np.ndarray]:
    """Return a block of random sequence, as engines take it."""
    scoring = case.scoring()
    n_bp = n_cores * scoring.stride
    return block_of(scoring, np.random.default_rng(0).integers(0, 4, n_bp).astype(np.uint8), n_bp)


def where_time_goes(model: Beluga, case: Case, device: str, n_cores: int) -> list[dict[str, Any]]:
    """Return the kernels that take most of a block's time on the device."""
    engine, block = make_engine(model, case.scoring(), device=device), random_block(case, n_cores)
    engine.score(*block)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.startswith("cuda")
    with profile(activities=activities) as seen:
        engine.score(*block)
    of_device = [each for each in seen.key_averages() if each.self_device_time_total > 0]
    times = {each.key: each.self_device_time_total for each in of_device} or {
        each.key: each.self_cpu_time_total for each in seen.key_averages()
    }
    total = sum(times.values())
    longest = sorted(times, key=times.__getitem__, reverse=True)[:N_KERNELS]
    return [
        {"case": str(case), "kernel": name[:70], "ms": times[name] / 1000, "share": times[name] / total}
        for name in longest
    ]


def queued_and_waiting(
    model: Beluga, case: Case, device: str, n_cores: int, seconds: float
) -> dict[str, Any]:
    """Return the rates of blocks that are queued ahead, and of blocks that wait for one another."""
    engine, block = make_engine(model, case.scoring(), device=device), random_block(case, n_cores)
    engine.score(*block)
    rates = {}
    for name, n_ahead in (("waiting", 0), ("queued", 1)):
        queued, n_done, began = [], 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            queued.append(engine.queue(*block))
            if len(queued) > n_ahead:
                queued.pop(0).scores()
                n_done += 1
        for each in queued:
            each.scores()
        rates[name] = (n_done + len(queued)) * len(block[2]) / (time.perf_counter() - began) / 1e6
    return {"case": str(case), **{f"Mb_per_s_{name}": rate for name, rate in rates.items()}}


def end_to_end(model: Beluga, case: Case, mb_per_s: float, seconds: float, n_gpus: int) -> dict[str, Any]:
    """Return the rate of a scan on Ray, from when the actor is ready to the last block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genome, weights = folder / "genome.fa", folder / "weights.pth"
        n_bp = max(1 << 18, int(mb_per_s * seconds * 1e6)) >> 16 << 16
        write_genome(genome, n_bp)
        torch.save(model.cpu().published_state_dict(), weights)
        with Genome(genome) as opened:
            digest = opened.digest()
        plan = ScanPlan(case.scoring(), digest, weights_digest(weights), {"c": n_bp}, {"c": ((0, n_bp),)})
        store = ScoreStore.create(folder / "scores.zarr", plan)
        watch = Watch(1)
        ray.init(
            "local",
            num_gpus=n_gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            scan_on_ray(store, genome, weights, options=RayOptions(n_actors=1), on_progress=watch)
        finally:
            ray.shutdown()
    rate = watch.rate() / 1e6
    return {
        "case": f"run, {case}",
        "Mb": n_bp / 1e6,
        "Mb_per_s": rate,
        "share_of_the_engine": rate / mb_per_s,
        "hg38_minutes": HG38_BP / (1e6 * rate) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="the least time of each case")
    parser.add_argument(
        "--narrow", action="store_true", help="a network of few channels, to try this command"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device, seconds = arguments.device, arguments.seconds
    is_gpu = device.startswith("cuda")
    model = Beluga(NARROW_CHANNELS, 128).eval() if arguments.narrow else random_beluga(11)
    n_cores = 64 if arguments.narrow else N_CORES
    figures = on_gpu(model, device, seconds)
    for precision in ("fp16", "fp32"):
        figures += where_time_goes(model, Case(1, precision=precision), device, n_cores)
        for each in figures[-N_KERNELS:]:
            show(each)
    for n_tracks in (1, 16):
        case = Case(n_tracks, precision="fp16")
        figures.append(queued_and_waiting(model, case, device, n_cores, seconds))
        show(figures[-1])
        rate = bench(model, case.scoring(), seconds=seconds, device=device).bases_per_s / 1e6
        figures.append(end_to_end(model, case, rate, 4 * seconds, int(is_gpu)))
        show(figures[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
