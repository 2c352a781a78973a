"""A small scan of the demo's model, and its refinement."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import WEIGHTS

from tism_scan.refine import PlannedRefinement, plan_refinement, refine
from tism_scan.scan import plan_scan, scan_serially
from tism_scan.store.refined import existing_refinement
from tism_scan.store.score_store import ScoreStore

QUANTILE = 0.99


@dataclass(frozen=True)
class Refined:
    """A scan, its refinement, and what both were made with."""

    scan: ScoreStore
    store: ScoreStore
    planned: PlannedRefinement
    genome: Path
    weights: Path = WEIGHTS


@pytest.fixture(scope="session")
def small_fasta(demo_genome, tmp_path_factory):
    """Return 9 kb of the demo's genome, with an N run, and a chrom shorter than a window."""
    path = tmp_path_factory.mktemp("small") / "genome.fa"
    bases = "".join("ACGTN"[code] for code in demo_genome["chr3"].codes[:8_000])
    path.write_text(f">chr1\n{bases[:3_000]}NNN{bases[3_003:].lower()}\n>chr2\n{bases[4_000:5_000]}\n")
    return path


@pytest.fixture(scope="session")
def make_scan(small_fasta, tmp_path_factory):
    """Return a function that scans this genome into a store of its own."""

    def scanned(**settings):
        plan = plan_scan(small_fasta, WEIGHTS, **{"tracks": "0,2", "block_bp": 2048} | settings)
        store = plan.create_store(tmp_path_factory.mktemp("scan") / "s.zarr")
        scan_serially(store, plan.genome, plan.model)
        return store

    return scanned


@pytest.fixture(scope="session")
def refined(make_scan, small_fasta):
    """Return a scan that is refined at one base in a hundred; it is read only."""
    scan = make_scan()
    planned = plan_refinement(scan, small_fasta, WEIGHTS, quantile=QUANTILE)
    refine(planned)
    return Refined(scan, existing_refinement(scan), planned, small_fasta)


@pytest.fixture
def scan_copy(refined, tmp_path):
    """Return a function that copies that scan, with its refinement or without."""

    def copied(*, with_refinement=False):
        left_out = None if with_refinement else shutil.ignore_patterns("ism")
        shutil.copytree(refined.scan.path, tmp_path / "copy.zarr", ignore=left_out)
        return ScoreStore.open(tmp_path / "copy.zarr")

    return copied
