"""How fast and in how much memory bigWigs are written, by our writer and its rivals, in one run.

    python tests/benchmarks/bigwig.py [--bp 200000000] [--threads 2] [--json FILE]

Rivals: pyBigWig and pybigtools, each given the same scores block by block, as the export gives them. Each
writer has a process of its own, whose peak memory is reported; the scores are noise, made on the fly, with a
gap in each block. What a file holds is compared on samples afterwards, and is not timed. pybigtools fills the
zoom levels across gaps with the next value: its time is shown, its files are not for use.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybigtools
import pyBigWig

BLOCK_BP = 1 << 20
GAP_BP = 1_000
WRITERS = ("ours", "pyBigWig", "pybigtools")
CHROM = "chr1"
_NOISE = (np.random.default_rng(0).standard_t(3, BLOCK_BP + 4096) * 1e-3).astype(np.float32)


def scores(start: int, end: int) -> np.ndarray:
    """Return the scores of one block: noise that differs from block to block, and a gap."""
    block = _NOISE[start // BLOCK_BP % 4096 :][: end - start].copy()
    block[:GAP_BP] = np.nan
    return block


def blocks(n_bp: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield start and scores of every block."""
    for start in range(0, n_bp, BLOCK_BP):
        yield start, scores(start, min(start + BLOCK_BP, n_bp))


def write_ours(path: Path, n_bp: int, n_threads: int) -> None:
    """Write with tism_scan."""
    from tism_scan.bigwig.stream import bigwig_stream

    with open(path, "wb") as file, bigwig_stream(file, {CHROM: n_bp}, path.parent, n_threads) as stream:
        stream.write_chrom(CHROM, (block for _start, block in blocks(n_bp)))
        stream.finish()


def write_pybigwig(path: Path, n_bp: int, _n_threads: int) -> None:
    """Write with pyBigWig: fixedStep runs between the gaps."""
    with pyBigWig.open(str(path), "w") as bigwig:
        bigwig.addHeader([(CHROM, n_bp)], maxZooms=10)
        for start, block in blocks(n_bp):
            bigwig.addEntries(CHROM, start + GAP_BP, values=block[GAP_BP:], span=1, step=1)


def write_pybigtools(path: Path, n_bp: int, _n_threads: int) -> None:
    """Write with pybigtools: one tuple a base."""
    entries = (
        (CHROM, position, position + 1, value)
        for start, block in blocks(n_bp)
        for position, value in enumerate(block[GAP_BP:].tolist(), start + GAP_BP)
    )
    pybigtools.open(str(path), "w").write({CHROM: n_bp}, entries)


WRITE = dict(zip(WRITERS, (write_ours, write_pybigwig, write_pybigtools), strict=True))


def measure_here(writer: str, path: Path, n_bp: int, n_threads: int) -> dict:
    """Write one file, and return seconds and peak memory of this process."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    WRITE[writer](path, n_bp, n_threads)
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak_mb, "more_than_at_start_mb": peak_mb - before_mb}


def measure(writer: str, folder: Path, n_bp: int, n_threads: int) -> dict:
    """Return the figures of one writer, from a process of its own."""
    path = folder / f"{writer}.bw"
    arguments = ["--writer", writer, "--path", path, "--bp", n_bp, "--threads", n_threads]
    run = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    figures = json.loads(run.stdout.splitlines()[-1])
    size = path.stat().st_size
    n_wrong = count_wrong(path, n_bp)
    path.unlink()
    return {"writer": writer, **figures, "bytes_per_base": size / n_bp, "wrong_bases_sampled": n_wrong}


def count_wrong(path: Path, n_bp: int) -> int:
    """Return how many bases differ in some blocks of a file, as pyBigWig reads it."""
    n_wrong = 0
    with pyBigWig.open(str(path)) as bigwig:
        for start in range(0, n_bp, max(BLOCK_BP, n_bp // 10 // BLOCK_BP * BLOCK_BP)):
            end = min(start + BLOCK_BP, n_bp)
            found = bigwig.values(CHROM, start, end, numpy=True)
            n_wrong += int((~((found == scores(start, end)) | np.isnan(found))).sum())
            n_wrong += int((np.isnan(found) != np.isnan(scores(start, end))).sum())
    return n_wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=200_000_000)
    parser.add_argument("--threads", type=int, default=2, help="threads of our writer")
    parser.add_argument("--writers", default=",".join(WRITERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--writer", choices=WRITERS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        print(json.dumps(measure_here(arguments.writer, arguments.path, arguments.bp, arguments.threads)))
        return
    figures = []
    print(f"{arguments.bp:,} bp in one chrom; our writer with {arguments.threads} threads")
    print(f"{'writer':12}{'seconds':>9}{'peak MB':>9}{'bytes/base':>12}{'wrong':>7}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for writer in arguments.writers.split(","):
            figures.append(measure(writer, Path(folder), arguments.bp, arguments.threads))
            row = figures[-1]
            print(
                f"{writer:12}{row['seconds']:9.1f}{row['peak_mb']:9.0f}{row['bytes_per_base']:12.2f}"
                f"{row['wrong_bases_sampled']:7}",
                flush=True,
            )
    for rival in figures[1:]:
        print(
            f"{figures[0]['writer']} against {rival['writer']}: "
            f"{rival['seconds'] / figures[0]['seconds']:.1f} times as fast, "
            f"{figures[0]['peak_mb'] / rival['peak_mb']:.2f} of the memory"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
