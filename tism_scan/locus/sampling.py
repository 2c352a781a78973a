"""Windows drawn at random from a genome's lattice."""

from collections.abc import Iterator, Mapping

import numpy as np

from tism_scan.errors import InputError, RegionError
from tism_scan.genome.alphabet import Codes, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import Spans
from tism_scan.plan.tiling import Lattice


def sample_windows(
    genome: Genome, lattice: Lattice, n: int, *, seed: int = 0, spans: Mapping[str, Spans] | None = None
) -> list[tuple[str, int]]:
    """Return chrom and start of windows drawn at random from a genome's lattice, in the genome's order.

    Parameters
    ----------
    genome : Genome
    lattice : Lattice
        Its stride is the length of a core. Only whole cores of A, C, G and T are drawn, each at most once;
        flanks may hold N, or pass the chrom's ends.
    n : int
    seed : int
        The same seed gives the same windows.
    spans : mapping from str to spans, optional
        As `tism_scan.genome.wanted.wanted_spans` returns them; only cores that overlap these bases are drawn.

    Raises
    ------
    InputError
        If `n` is below 1.
    RegionError
        If the genome does not have `n` such windows.
    """
    if n < 1:
        raise InputError(f"{n} windows were asked for; expected at least 1; raise --n")
    stride = lattice.stride
    runs = list(_runs_of_cores(genome.chroms, stride, spans))
    ends = np.cumsum([len(cores) for _, cores in runs])
    found: list[tuple[int, int]] = []
    for drawn in np.random.default_rng(seed).permutation(int(ends[-1]) if len(ends) else 0):
        i_run = int(np.searchsorted(ends, drawn, side="right"))
        chrom, cores = runs[i_run]
        i_core = cores[int(drawn) - (int(ends[i_run - 1]) if i_run else 0)]
        core: Codes = genome.fetch(chrom, i_core * stride, (i_core + 1) * stride)
        if is_acgt(core).all():
            found.append((i_run, i_core))
        if len(found) == n:
            return [(runs[i][0], lattice.window_start(core)) for i, core in sorted(found)]
    place = str(genome.path) + (", where it may be drawn from," if spans is not None else "")
    remedy = f"ask for --n {len(found)} or fewer, or for" if found else "ask for"
    raise RegionError(
        f"{place} has {len(found):,} whole cores of {stride:,} bp without N; expected {n:,}; {remedy} a "
        "shorter --core-bp"
    )


def _runs_of_cores(
    chroms: Mapping[str, int], stride: int, spans: Mapping[str, Spans] | None
) -> Iterator[tuple[str, range]]:
    """Yield chrom and indices of the whole cores that overlap the spans, each core once."""
    for chrom, length in chroms.items():
        done = 0
        for start, end in ((0, length),) if spans is None else spans.get(chrom, ()):
            cores = range(max(done, start // stride), min(-(-end // stride), length // stride))
            if cores:
                done = cores.stop
                yield chrom, cores
