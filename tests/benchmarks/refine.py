"""What refining a scan costs, beside the scan and beside tangermeme, and how much of exact ISM it holds.

    python tests/benchmarks/refine.py [--bp 100000] [--quantile 0.997] [--windows 48] [--seed 0] [--json FILE]

1. A scan of random sequence by full Beluga (weights of He-normal noise), one track, and its refinement, both
   in this process: refining must take at most half the time of the scan.
2. Exact ISM of some of the refined bases by tangermeme's `saturation_mutagenesis`: refining must be four
   times as fast for each base. Both are compared with the same in float64, in parts of the largest effect.
3. With the demo's small model, windows anywhere in its genome: the share of the sum of squares of exact ISM
   of all bases that is at the bases with the highest |mean TISM|, for each track, by one gradient and by
   some along paths.
"""

import argparse
import copy
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from figures import shown
from tangermeme.saturation_mutagenesis import saturation_mutagenesis

from tism_scan.attribution import ism, mean_tism
from tism_scan.demo.genome import make_genome, write_fasta
from tism_scan.genome.alphabet import one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.locus.sampling import sample_windows
from tism_scan.models.beluga import load_beluga, random_beluga
from tism_scan.models.source import GivenModel
from tism_scan.plan.scoring import path_text
from tism_scan.plan.tiling import Lattice
from tism_scan.refine import plan_refinement, refine
from tism_scan.scan import plan_scan, scan_serially
from tism_scan.store.refined import existing_refinement

TRACK = 267
SHARES = (0.003, 0.01, 0.03)
PATHS = ((1.0,), (1.0, 0.75, 0.5), (1.0, 0.8, 0.6), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5))
DEMO_WEIGHTS = Path(__file__).parents[2] / "tism_scan" / "demo" / "demo_beluga.pth"


def seconds_of(work) -> float:
    """Return the time of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def against_the_scan(folder: Path, n_bp: int, quantile: float, n_compared: int) -> dict:
    """Return the times of a scan and its refinement, and of tangermeme for some of its bases."""
    genome, model = folder / "genome.fa", GivenModel(random_beluga())
    bases = np.random.default_rng(0).choice(list("ACGT"), n_bp)
    genome.write_text(">chr1\n" + "".join(bases) + "\n")
    plan = plan_scan(genome, model, tracks=str(TRACK))
    scan = plan.create_store(folder / "s.zarr")
    scan_s = seconds_of(lambda: scan_serially(scan, genome, model))
    planned = plan_refinement(scan, genome, model, quantile=quantile)
    refine_s = seconds_of(lambda: refine(planned))
    store = existing_refinement(scan)
    chosen = np.flatnonzero(np.isfinite(store.read("chr1", TRACK)))
    figures = {
        "bases": n_bp,
        "refined": len(chosen),
        "scan_s": scan_s,
        "refine_s": refine_s,
        "refine_of_scan": refine_s / scan_s,
    }
    compared = np.random.default_rng(1).choice(chosen, min(n_compared, len(chosen)), replace=False)
    return figures | against_tangermeme(store, genome, model.load(), compared, refine_s / len(chosen))


def against_tangermeme(store, genome: Path, model, chosen: np.ndarray, ours_s: float) -> dict:
    """Return how long tangermeme takes for a base, and how far its effects are from ours."""
    scoring, theirs_s, off, theirs_off = store.plan.scoring, 0.0, 0.0, 0.0
    precise = copy.deepcopy(model).double()
    found = store.read_tism("chr1", TRACK)
    order = [model.alphabet.index(base) for base in "ACGT"]
    for base in chosen.tolist():
        start = scoring.lattice.window_start(base // scoring.stride)
        with Genome(genome) as opened:
            codes = opened.fetch("chr1", start, start + scoring.input_bp)
        X = torch.from_numpy(one_hot(codes, model.alphabet)[None])
        at = base - start
        began = time.perf_counter()
        raw = saturation_mutagenesis(
            model, X, start=at, end=at + 1, raw_outputs=True, batch_size=32, device="cpu"
        )
        theirs_s += time.perf_counter() - began
        effects = (raw.y_hat - raw.y0[:, None, None])[0, :, 0, TRACK].numpy()[order]
        with torch.no_grad():
            mutants = X.double().repeat(5, 1, 1)
            mutants[:4, :, at] = torch.eye(4)
            outputs = precise(mutants)[:, TRACK]
        expected = (outputs[:4] - outputs[4]).numpy()[order]
        off = max(off, np.abs(found[:, base] - expected).max())
        theirs_off = max(theirs_off, np.abs(effects - expected).max())
    largest = float(np.nanmax(np.abs(found)))
    return {
        "tangermeme_s_per_base": theirs_s / len(chosen),
        "ours_s_per_base": ours_s,
        "ours_is_faster_by": theirs_s / len(chosen) / ours_s,
        "off_by": float(off) / largest,
        "tangermeme_off_by": float(theirs_off) / largest,
    }


def shares_of_squares(folder: Path, n_windows: int, seed: int) -> list[dict]:
    """Return, for each of the demo's tracks, which share of exact ISM is at the highest |mean TISM|."""
    write_fasta(folder / "demo.fa", make_genome())
    model = load_beluga(DEMO_WEIGHTS)
    lattice = Lattice(model.input_bp, 256)
    core = slice(lattice.flank, lattice.flank + lattice.stride)
    with Genome(folder / "demo.fa") as genome:
        windows = sample_windows(genome, lattice, n_windows, seed=seed)
        codes = np.stack([genome.fetch(chrom, start, start + model.input_bp) for chrom, start in windows])
    X = one_hot(codes, model.alphabet)
    exact = ism(model, X, start=core.start, end=core.stop, progress=False)
    approximate = {path: np.abs(mean_tism(model, X, path=path)[..., core]) for path in PATHS}
    squares = (exact**2).sum(2)
    rows = []
    for path, i_track in itertools.product(PATHS, range(exact.shape[1])):
        of_bases, ranked = squares[:, i_track].ravel(), approximate[path][:, i_track].ravel()
        row = {"path": path_text(path), "track": i_track}
        for share in SHARES:
            n = max(1, round(share * len(ranked)))
            by_tism = of_bases[np.argsort(-ranked)[:n]].sum() / of_bases.sum()
            best = np.sort(of_bases)[::-1][:n].sum() / of_bases.sum()
            row |= {f"top {share:.1%}": float(by_tism), f"best {share:.1%}": float(best)}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=100_000, help="bases to scan; 0 leaves full Beluga out")
    parser.add_argument("--quantile", type=float, default=0.997)
    parser.add_argument("--compared", type=int, default=24, help="bases that tangermeme computes, too")
    parser.add_argument("--windows", type=int, default=48, help="windows of the demo; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these windows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.bp:
            figures["full Beluga"] = against_the_scan(
                Path(folder), arguments.bp, arguments.quantile, arguments.compared
            )
            print(f"full Beluga, {arguments.threads} threads: {shown(figures['full Beluga'])}", flush=True)
        if arguments.windows:
            figures["demo"] = shares_of_squares(Path(folder), arguments.windows, arguments.seed)
            for row in figures["demo"]:
                print(f"demo, {shown(row)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
