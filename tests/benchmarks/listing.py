"""How fast and in how much memory every substitution of a store becomes a row, in one run.

    python tests/benchmarks/listing.py [--bp 20000000] [--jobs 2] [--json FILE]

A store of all four bases of one track is made first, not timed. The rival is htslib's own bgzip (`pysam`),
one thread, which is given the finished text of the rows and only compresses it. Each has a process of its
own. Memory is that of the driver and of its largest process, at a tenth of the bases and at all of them.
"""

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pysam
from annotate import make_store, peak_mb

from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.listing import ListingRequest, list_variants


def measure(*arguments: object) -> dict[str, float]:
    """Return seconds and peak memory of one of the two, from a process of its own."""
    command = [sys.executable, __file__, "--only", *map(str, arguments)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def measure_here(what: str, source: Path, out: Path, jobs: int) -> None:
    """Carry out one of the two, and print seconds and peak memory."""
    began = time.perf_counter()
    if what == "ours":
        list_variants(ScoreStore.open(source), out, ListingRequest("snv-tsv"), jobs=jobs)
    else:
        pysam.tabix_compress(str(source), str(out), force=True)
    seconds = time.perf_counter() - began
    worker_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "driver_mb": peak_mb(), "worker_mb": worker_mb}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=20_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        what, source, out, jobs = arguments.only
        measure_here(what, Path(source), Path(out), int(jobs))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, n_rows = Path(name), 3 * arguments.bp
        few, many = (make_store(folder / f"{n}.zarr", n) for n in (arguments.bp // 10, arguments.bp))
        figures = {
            "ours, a tenth": measure("ours", few.path, folder / "few", arguments.jobs)
            | {"rows": n_rows // 10},
            "ours": measure("ours", many.path, folder / "many", arguments.jobs) | {"rows": n_rows},
        }
        (written,) = (folder / "many").glob("*.tsv.gz")
        with gzip.open(written) as packed, (folder / "rows.tsv").open("wb") as rows:
            shutil.copyfileobj(packed, rows)
        again = measure("bgzip alone", folder / "rows.tsv", folder / "again.gz", 1)
        figures["bgzip alone"] = again | {"rows": n_rows}
        print(f"{n_rows:,} rows, {arguments.jobs} jobs, {written.stat().st_size / n_rows:.1f} bytes a row")
        print(f"{'':14}{'seconds':>9}{'rows/s':>12}{'driver MB':>11}{'worker MB':>11}")
        for who, row in figures.items():
            print(
                f"{who:14}{row['seconds']:9.1f}{row['rows'] / row['seconds']:12,.0f}"
                f"{row['driver_mb']:11.0f}{row['worker_mb']:11.0f}"
            )
        print(f"against bgzip alone: {again['seconds'] / figures['ours']['seconds']:.2f} times as fast")
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
