"""The demo's genome: about 1 Mb in five chroms, with motifs at recorded places."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tism_scan.demo.synthesis import MOTIFS, Site, plant, random_background
from tism_scan.genome.alphabet import Codes, decode
from tism_scan.motifs import meme, motif

SEED = 7
LINE_BP = 60
SITE_SPACING_BP = 700
MARGIN_BP = 40
# Shorter than a window, and shorter than a stride, are cases that a genome has.
CHROM_BP = {
    "chr1": 420_000,
    "chr2": 310_000,
    "chr3": 230_000,
    "chrM": 16_569,
    "chrUn_1": 1_500,
    "chrUn_2": 180,
}
N_RUNS = {
    "chr1": ((0, 10_000), (200_000, 230_000)),
    "chr2": ((309_000, 310_000),),
    "chr3": ((60_000, 60_050),),
}


@dataclass(frozen=True)
class DemoChrom:
    """One chrom of the demo's genome.

    Attributes
    ----------
    codes : uint8 (L,)
    is_lower : bool (L,)
        Bases written in lower case, as repeats are in a genome.
    sites : list of Site
    """

    codes: Codes
    is_lower: np.ndarray
    sites: list[Site]


def make_genome() -> dict[str, DemoChrom]:
    """Return the demo's genome, by chrom."""
    rng = np.random.default_rng(SEED)
    return {chrom: _make_chrom(rng, n_bp, N_RUNS.get(chrom, ())) for chrom, n_bp in CHROM_BP.items()}


def _make_chrom(rng: np.random.Generator, n_bp: int, n_runs: tuple[tuple[int, int], ...]) -> DemoChrom:
    codes = random_background(rng, n_bp, gc_content=0.42)
    is_n = np.zeros(n_bp, dtype=bool)
    for start, end in n_runs:
        is_n[start:end] = True
    spots = np.arange(SITE_SPACING_BP, n_bp - SITE_SPACING_BP, SITE_SPACING_BP)
    spots = spots + rng.integers(0, SITE_SPACING_BP // 2, size=len(spots))
    free = [int(s) for s in spots if not is_n[max(0, s - MARGIN_BP) : s + 2 * MARGIN_BP].any()]
    sites = plant(codes, [MOTIFS[i] for i in rng.integers(len(MOTIFS), size=len(free))], free, rng)
    codes[is_n] = 4
    is_lower = np.zeros(n_bp, dtype=bool)
    for start in range(0, n_bp, 3_000):
        is_lower[start : start + int(rng.integers(0, 1_500))] = True
    return DemoChrom(codes, is_lower, sites)


def write_fasta(path: Path, genome: Mapping[str, DemoChrom]) -> None:
    """Write a genome as FASTA, lower case and N runs as they are."""
    with open(path, "w", encoding="ascii") as file:
        for chrom, made in genome.items():
            upper = np.frombuffer(decode(made.codes).encode(), dtype=np.uint8)
            letters = np.where(made.is_lower, upper | 0x20, upper).astype(np.uint8).tobytes().decode()
            lines = (letters[i : i + LINE_BP] for i in range(0, len(letters), LINE_BP))
            file.write(f">{chrom}\n" + "\n".join(lines) + "\n")


def write_sites(path: Path, genome: Mapping[str, DemoChrom]) -> None:
    """Write the planted motifs as BED: chrom, start, end, factor."""
    with open(path, "w", encoding="ascii") as file:
        for chrom, made in genome.items():
            file.writelines(f"{chrom}\t{site.start}\t{site.end}\t{site.factor}\n" for site in made.sites)


def write_motifs(path: Path) -> None:
    """Write what was planted as MEME text."""
    motifs = [motif.Motif(each.factor, each.probabilities()) for each in MOTIFS]
    path.write_text(meme.meme_text(motifs), encoding="ascii")
