"""How fast and in how much memory variants get their scores, from a store and from bigWigs, in one run.

    python tests/benchmarks/annotate.py [--bp 100000000] [--variants 1000000] [--jobs 2] [--json FILE]

A store of all four bases of one track and a VCF of random substitutions are made first, not timed. The
rival looks each variant up with pyBigWig in four bigWigs, one for each alternative base, that
`tism-scan export --channels` wrote from the same store; it gets chrom, position and base ready made and
writes nothing. Each has a process of its own, and its values are compared with `annotate`'s on a sample.
Memory is that of the driver and of its largest process, at a tenth of the variants and at all of them.
"""

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyBigWig

from tism_scan.export import export_bigwigs
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import annotate

CHROM = "chr1"
BASES = "ACGT"
_NOISE_BP = 1 << 20


def reference(start: int, end: int) -> np.ndarray:
    """Return the code of each base: a fixed hash of its position."""
    positions = np.arange(start, end, dtype=np.uint64)
    return ((positions * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(62)).astype(np.uint8)


def make_store(path: Path, n_bp: int) -> ScoreStore:
    """Return a store of noise of one track, 0 at the reference."""
    scoring = Scoring((Track("track", (0,), (1.0,)),), 2048, 256, values="tism")
    plan = ScanPlan(scoring, "genome", "weights", {CHROM: n_bp}, {CHROM: ((0, n_bp),)})
    store = ScoreStore.create(path, plan)
    noise = (np.random.default_rng(0).standard_t(3, (1, 4, _NOISE_BP + 4096)) * 1e-3).astype(np.float32)
    for block in plan.all_blocks():
        shift = block.i_block % 4096
        scores = noise[..., shift : shift + len(block)].copy()
        scores[0, reference(block.start, block.end), np.arange(len(block))] = 0
        store.publish_block(block, scores)
    return store


def make_vcf(path: Path, n_bp: int, n_variants: int) -> None:
    """Write random substitutions, sorted."""
    rng = np.random.default_rng(1)
    positions = np.sort(rng.choice(n_bp, n_variants, replace=False))
    refs = np.concatenate([reference(int(p), int(p) + 1) for p in positions])
    alts = (refs + rng.integers(1, 4, n_variants)) % 4
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(header)
        for position, ref, alt in zip(positions.tolist(), refs, alts, strict=True):
            row = (CHROM, position + 1, f"rs{position}", BASES[ref], BASES[alt], "50", "PASS", "AC=3;AN=5008")
            file.write("\t".join(map(str, row)) + "\n")


def run_ours(store: Path, vcf: Path, out: Path, jobs: int) -> int:
    """Annotate, and return the number of records."""
    return annotate(ScoreStore.open(store), vcf, out, jobs=jobs).counts.n_records


def run_pybigwig(folder: Path, vcf: Path) -> int:
    """Look each variant up in the bigWig of its base, and return the number of records."""
    with gzip.open(vcf, "rt") as file:
        rows = [line.split("\t", 5) for line in file if not line.startswith("#")]
    places = [(int(row[1]), row[4]) for row in rows]
    began = time.perf_counter()
    files = {base: pyBigWig.open(str(next(folder.glob(f"*.{base}.bw")))) for base in BASES}
    found = [files[alt].values(CHROM, position - 1, position)[0] for position, alt in places]
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    return len(found)


def measure(*arguments: object) -> dict[str, float]:
    """Return seconds, records and peak memory of one of the two, from a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--only", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = {}
    for line in reversed(run.stdout.splitlines()):  # the rival's own clock, without its reading of the VCF
        figures |= json.loads(line)
    return figures


def measure_here(what: str, *arguments: str) -> None:
    """Carry out one of the two, and print seconds and peak memory."""
    began = time.perf_counter()
    if what == "ours":
        n_records = run_ours(Path(arguments[0]), Path(arguments[1]), Path(arguments[2]), int(arguments[3]))
    else:
        n_records = run_pybigwig(Path(arguments[0]), Path(arguments[1]))
    seconds = time.perf_counter() - began
    worker_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures = {"seconds": seconds, "records": n_records, "driver_mb": peak_mb(), "worker_mb": worker_mb}
    print(json.dumps(figures))


def peak_mb() -> float:
    """Return this process's peak memory; getrusage would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def n_different(out: Path, bigwigs: Path, n_sampled: int = 2_000) -> int:
    """Return how many of a sample of annotated values are not the bigWigs'."""
    with gzip.open(out, "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    files = {base: pyBigWig.open(str(next(bigwigs.glob(f"*.{base}.bw")))) for base in BASES}
    different = 0
    for row in random.Random(0).sample(rows, min(n_sampled, len(rows))):
        position = int(row[1])
        expected = files[row[4]].values(CHROM, position - 1, position)[0]
        different += row[7].partition("TISM_track=")[2] != f"{expected:.6g}"
    return different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=100_000_000)
    parser.add_argument("--variants", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure_here(*arguments.only)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "s.zarr", arguments.bp)
        export_bigwigs(store, folder / "bigwig", channels=True)
        few, many = folder / "few.vcf.gz", folder / "many.vcf.gz"
        make_vcf(few, arguments.bp, arguments.variants // 10)
        make_vcf(many, arguments.bp, arguments.variants)
        out = folder / "out.vcf.gz"
        figures = {
            "ours, a tenth": measure("ours", store.path, few, out, arguments.jobs),
            "ours": measure("ours", store.path, many, out, arguments.jobs),
            "pyBigWig": measure("pyBigWig", folder / "bigwig", many),
        }
        print(f"{arguments.variants:,} variants, {arguments.bp:,} bp, {arguments.jobs} jobs")
        print(f"{'':14}{'seconds':>9}{'records/s':>11}{'driver MB':>11}{'worker MB':>11}")
        for who, row in figures.items():
            print(
                f"{who:14}{row['seconds']:9.1f}{row['records'] / row['seconds']:11,.0f}"
                f"{row['driver_mb']:11.0f}{row['worker_mb']:11.0f}"
            )
        ours, rival = figures["ours"], figures["pyBigWig"]
        print(f"against pyBigWig: {rival['seconds'] / ours['seconds']:.1f} times as fast")
        print(f"values that differ in a sample: {n_different(out, folder / 'bigwig')}")
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
