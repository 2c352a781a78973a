"""A small genome with peaks at its every oddity."""

import pytest

from tism_scan.genome.fasta import Genome
from tism_scan.peaks import attribute_pending, plan_peaks

# On tiny_genome: past both ends, inside and at the edge of the run of N, twice the same, unsorted, in a chrom
# that is shorter than a window, without a summit.
PEAKS = """chr2\t40\t80\tf\t5\t+\t1\t2\t3\t20
chr1\t0\t30\ta\t5\t+\t1\t2\t3\t2
chr1\t200\t230\tn\t5\t-\t1\t2\t3\t10
chr1\t140\t160\tedge\t5\t.\t1\t2\t3\t8
chr1\t60\t90\tb\t5\t.\t1\t2\t3\t12
short\t0\t7\ts\t5\t.\t1\t2\t3\t-1
chr1\t60\t90\tb\t5\t.\t1\t2\t3\t12
chr1\t370\t379\tend\t5\t.\t1\t2\t3\t8
chr1\t290\t330
"""


@pytest.fixture(scope="session")
def narrow_peak(tmp_path_factory):
    path = tmp_path_factory.mktemp("peaks") / "X.narrowPeak"
    path.write_text(PEAKS)
    return path


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as opened:
        yield opened


@pytest.fixture
def attributed(tiny_genome, tiny_model, narrow_peak, tmp_path):
    """Return a function that attributes the peaks into a store, in a folder or a bucket, and returns that."""

    def make(name="p.zarr", *, peaks=narrow_peak, model=tiny_model, execution=None, **settings):
        settings = {"tracks": "0,2", "width": 16, "peaks_per_part": 2} | settings
        planned = plan_peaks(tiny_genome, model, peaks, **settings)
        store = planned.create_store(name if "://" in name else tmp_path / name)
        attribute_pending(planned, store, execution=execution)
        return store

    return make
