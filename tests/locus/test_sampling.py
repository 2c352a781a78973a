"""Windows drawn at random from a genome's lattice."""

import pytest
from scan_models import INPUT_BP

from tism_scan.errors import InputError, RegionError
from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.locus.sampling import sample_windows
from tism_scan.plan.tiling import Lattice

LATTICE = Lattice(INPUT_BP, 8)


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as opened:
        yield opened


def test_windows_stand_on_the_lattice_and_have_no_n_in_their_cores(genome):
    windows = sample_windows(genome, LATTICE, 30, seed=4)
    assert len(set(windows)) == 30
    assert windows == sorted(windows, key=lambda each: (list(genome.chroms).index(each[0]), each[1]))
    for chrom, start in windows:
        assert (start + LATTICE.flank) % 8 == 0
        assert is_acgt(genome.fetch(chrom, start + LATTICE.flank, start + LATTICE.flank + 8)).all()


def test_every_window_that_fits_can_be_drawn(genome):
    n_fit = sum(
        bool(is_acgt(genome.fetch(chrom, start, start + 8)).all())
        for chrom, length in genome.chroms.items()
        for start in range(0, length - 7, 8)
    )
    assert len(sample_windows(genome, LATTICE, n_fit)) == n_fit
    with pytest.raises(RegionError, match=rf"has {n_fit} whole cores of 8 bp.*ask for --n {n_fit} or fewer"):
        sample_windows(genome, LATTICE, n_fit + 1)


def test_only_cores_that_overlap_the_spans_are_drawn_each_once(genome):
    spans = {"chr1": ((3, 9), (12, 13), (32, 40)), "chr2": ((15, 17), (90, 100))}
    expected = {("chr1", core) for core in (0, 1, 4)} | {("chr2", core) for core in (1, 2, 11)}
    drawn = sample_windows(genome, LATTICE, 6, spans=spans)
    assert {(chrom, (start + LATTICE.flank) // 8) for chrom, start in drawn} == expected
    with pytest.raises(RegionError, match="has 6 whole cores"):
        sample_windows(genome, LATTICE, 7, spans=spans)


def test_a_seed_gives_the_same_windows_and_another_seed_others(genome):
    draws = [sample_windows(genome, LATTICE, 5, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_genome_without_such_windows_is_refused(genome):
    with pytest.raises(
        RegionError,
        match=r"where it may be drawn from, has 0 whole cores.*expected 1; ask for a shorter --core",
    ):
        sample_windows(genome, LATTICE, 1, spans={"short": ((0, 7),)})
    with pytest.raises(InputError, match="0 windows were asked for"):
        sample_windows(genome, LATTICE, 0)
