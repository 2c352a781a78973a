"""Stores of all four bases over a known sequence, and variant files over them."""

import numpy as np
from small_plans import publish, small_plan

from tism_scan.genome.alphabet import N_CODE, encode
from tism_scan.store.score_store import ScoreStore

CHROMS = {"chr1": 1300, "chr2": 300, "unwanted": 200}
BASES = "ACGT"


def sequences(chroms=CHROMS, seed=5):
    """Return letters of each chrom, some of them N."""
    rng = np.random.default_rng(seed)
    return {name: "".join(rng.choice(list("ACGTACGTACGTACGTN"), length)) for name, length in chroms.items()}


def tism_of(sequence, n_tracks, seed=0, n_without_effect=5):
    """Return TISM of all four bases, 0 at the sequence's own, NaN at N; some bases have no effect at all."""
    rng, codes = np.random.default_rng(seed), encode(sequence)
    tism = rng.normal(scale=1e-3, size=(n_tracks, 4, len(codes))).astype(np.float32)
    tism[..., rng.integers(0, len(codes), n_without_effect)] = 0
    known = codes != N_CODE
    tism[:, codes[known], np.flatnonzero(known)] = 0
    tism[..., ~known] = np.nan
    return tism


def variant_store(path, n_tracks=2, *, chroms=CHROMS, letters=None, wanted=None, blocks=None, **settings):
    """Return a store of all four bases, the sequences it is of, and what was put into it."""
    letters = letters or sequences(chroms)
    if wanted is None:
        wanted = {name: ((0, length),) for name, length in chroms.items() if name != "unwanted"}
    plan = small_plan(n_tracks, chroms=chroms, wanted=wanted, values="tism", **settings)
    store = ScoreStore.create(path, plan)
    tism = {name: tism_of(letters[name], n_tracks, i) for i, name in enumerate(plan.wanted)}
    for chrom, values in tism.items():
        is_wanted = np.zeros(values.shape[-1], dtype=bool)
        for start, end in wanted[chrom]:
            is_wanted[start:end] = True
        values[..., ~is_wanted] = np.nan
    publish(store, tism, blocks(plan) if blocks else None)
    return store, letters, tism


HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def vcf_text(rows, header=HEADER):
    """Return a VCF of (chrom, 1-based position, ref, alt) rows."""
    return "".join([f"{header}\n", *(f"{c}\t{p}\t.\t{r}\t{a}\t.\tPASS\t.\n" for c, p, r, a in rows)])
