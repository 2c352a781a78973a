"""Scans of a FASTA file with a file of Beluga's weights."""

from serial_scans import scan_with

from tism_scan.engine.choice import make_engine
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga, weights_digest
from tism_scan.plan.scan_plan import ScanPlan


def plan_of_files(fasta, weights, scoring, block_bp):
    """Return the plan of a scan of every base."""
    with Genome(fasta) as genome:
        chroms, digest = dict(genome.chroms), genome.digest()
    wanted = {chrom: ((0, length),) for chrom, length in chroms.items()}
    return ScanPlan(scoring, digest, weights_digest(weights), chroms, wanted, block_bp)


def scan_alone(store, fasta, weights):
    """Fill a store in this process."""
    with Genome(fasta) as genome:
        scan_with(genome, make_engine(load_beluga(weights), store.plan.scoring), store)
