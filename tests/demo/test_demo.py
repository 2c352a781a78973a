from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from tism_scan.demo.auroc import auroc, motif_auroc
from tism_scan.demo.genome import N_RUNS, DemoChrom, make_genome, write_sites
from tism_scan.demo.genome import SEED as GENOME_SEED
from tism_scan.demo.synthesis import MOTIFS, OUTPUT_NAMES
from tism_scan.demo.train import SEED as TRAINING_SEED
from tism_scan.demo.train import training_window
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga

WEIGHTS = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))
IUPAC = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}


@pytest.fixture(scope="module")
def genome(demo_genome):
    return demo_genome


@pytest.fixture(scope="module")
def fasta(demo_fasta):
    return demo_fasta


def test_shipped_model_is_small_and_a_plain_state_dict():
    assert WEIGHTS.stat().st_size <= 1_500_000
    assert torch.load(WEIGHTS, weights_only=True)
    assert load_beluga(WEIGHTS).n_outputs == len(OUTPUT_NAMES)


def test_genome_is_the_same_every_time(genome):
    again = make_genome()
    assert all(np.array_equal(genome[chrom].codes, again[chrom].codes) for chrom in genome)


def test_genome_is_not_the_training_sequence():
    assert GENOME_SEED != TRAINING_SEED


def test_planted_motifs_stand_where_they_are_recorded(genome, fasta, tmp_path):
    write_sites(tmp_path / "motifs.bed", genome)
    consensus = {motif.factor: motif.consensus for motif in MOTIFS}
    complement = str.maketrans("ACGT", "TGCA")
    with Genome(fasta) as fetched:
        for line in (tmp_path / "motifs.bed").read_text().splitlines():
            chrom, start, end, factor = line.split("\t")
            found = "".join("ACGTN"[code] for code in fetched.fetch(chrom, int(start), int(end)))
            strands = (found, found[::-1].translate(complement))
            assert any(
                all(
                    base in IUPAC.get(letter, letter)
                    for base, letter in zip(strand, consensus[factor], strict=True)
                )
                for strand in strands
            )


def test_fasta_has_lower_case_and_the_recorded_n_runs(genome, fasta):
    text = fasta.read_text()
    assert any(letter in text for letter in "acgt")
    for chrom, runs in N_RUNS.items():
        assert all((genome[chrom].codes[start:end] == 4).all() for start, end in runs)


def test_every_factor_has_sites(genome):
    planted = {site.factor for made in genome.values() for site in made.sites}
    assert planted == {motif.factor for motif in MOTIFS}
    assert len(planted) >= 6


def test_training_window_is_positive_exactly_for_what_was_planted_in_its_centre():
    rng = np.random.default_rng(0)
    labels = np.stack([training_window(rng, 2)[1] for _ in range(50)])
    assert set(np.unique(labels)) == {0, 1}
    assert np.array_equal(labels[:, -1], labels[:, :-1].max(axis=1))


def test_auroc_counts_pairs_and_half_of_ties():
    positives, negatives = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.0, 2.0], np.float32)
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert auroc(positives, negatives) == np.mean(pairs)


def test_model_finds_every_factors_motifs(genome, demo_store, demo_region):
    chrom, length = demo_region
    made = genome[chrom]
    sites = [site for site in made.sites if site.end < length]
    found = motif_auroc(demo_store, {chrom: DemoChrom(made.codes[:length], made.is_lower[:length], sites)})
    assert {name for name, (n_sites, _) in found.items() if n_sites >= 3} == set(OUTPUT_NAMES)
    assert {name: area for name, (_, area) in found.items() if area < 0.95} == {}
