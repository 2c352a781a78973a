"""A small genome, variants on it, and models that are quick."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tism_scan.genome.fasta import Genome


@dataclass(frozen=True)
class SmallGenome:
    """A FASTA, and its sequences."""

    path: Path
    letters: dict[str, str]


@pytest.fixture(scope="session")
def small_genome(tmp_path_factory):
    """Return a genome with repeats, an N run, and a chrom that is shorter than a window."""
    rng = np.random.default_rng(2)
    bases = "".join(rng.choice(list("ACGT"), 300))
    letters = {
        "chr1": bases[:80] + "CACACACACA" + bases[80:120].lower() + "NNN" + bases[120:],
        "chr2": "GATTACA",
    }
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in letters.items()))
    with Genome(path):  # makes the index
        return SmallGenome(path, {name: text.upper() for name, text in letters.items()})
