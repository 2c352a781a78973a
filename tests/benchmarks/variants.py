"""The time that exact scores of clustered variants take, beside tangermeme's `substitution_effect`.

    python tests/benchmarks/variants.py [--variants 2000] [--bp 200000] [--compared 32] [--json FILE]

Full Beluga (weights of He-normal noise), one track, substitutions anywhere in random sequence. Both compute
on the CPU in this process, with the same threads. tangermeme takes as long for each variant however many
there are, and is timed on some of them; both are compared with float64 there, in parts of the largest
effect. Ours are all of them, from the VCF to the table. Asked: three times as fast.
"""

import argparse
import copy
import gzip
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from figures import shown
from tangermeme.variant_effect import substitution_effect

from tism_scan.effects import compute_effects, plan_effects
from tism_scan.genome.alphabet import encode, one_hot
from tism_scan.models.beluga import random_beluga
from tism_scan.models.source import GivenModel
from tism_scan.scan import Execution

TRACK = 267


def written(folder: Path, n_variants: int, n_bp: int) -> tuple[str, np.ndarray, str]:
    """Write a genome and a VCF, and return the bases, and where each variant is and what it puts there."""
    rng = np.random.default_rng(0)
    bases = "".join(rng.choice(list("ACGT"), n_bp + 4000))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    positions = np.sort(rng.choice(n_bp, n_variants, replace=False)) + 2000
    alts = "".join("CGTA"["ACGT".index(bases[position])] for position in positions)
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [
        f"chr1\t{position + 1}\t.\t{bases[position]}\t{alt}\t.\t.\t."
        for position, alt in zip(positions.tolist(), alts, strict=True)
    ]
    (folder / "in.vcf").write_text("\n".join(lines) + "\n")
    return bases, positions, alts


def ours(folder: Path, model: GivenModel) -> tuple[float, np.ndarray]:
    """Return the time that all variants take, and their effects."""
    planned = plan_effects(folder / "genome.fa", model, folder / "in.vcf", tracks=str(TRACK))
    began = time.perf_counter()
    compute_effects(planned, folder / "out.tsv.gz", execution=Execution(device="cpu"))
    seconds = time.perf_counter() - began
    header, *rows = gzip.decompress((folder / "out.tsv.gz").read_bytes()).decode().splitlines()
    (column,) = (i for i, name in enumerate(header.split("\t")) if name.endswith("_diff"))
    return seconds, np.array([float(row.split("\t")[column]) for row in rows])


def theirs(model, X: torch.Tensor, channels: torch.Tensor) -> tuple[float, np.ndarray]:
    """Return the time that tangermeme takes for some variants, and their effects."""
    center = X.shape[2] // 2
    each = torch.arange(len(X))
    substitutions = torch.stack([each, torch.full_like(each, center), channels], dim=1)
    began = time.perf_counter()
    before, after = substitution_effect(model, X, substitutions, batch_size=16, device="cpu")
    return time.perf_counter() - began, (after - before)[:, TRACK].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=2000)
    parser.add_argument("--bp", type=int, default=200_000, help="over which they are spread")
    parser.add_argument("--compared", type=int, default=32, help="variants that tangermeme computes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = GivenModel(random_beluga())
    with tempfile.TemporaryDirectory() as name:
        bases, positions, alts = written(Path(name), arguments.variants, arguments.bp)
        ours_s, effects = ours(Path(name), source)
    model = source.load()
    chosen = np.random.default_rng(1).choice(len(positions), min(arguments.compared, len(positions)), False)
    half = model.input_bp // 2
    windows = [encode(bases[positions[i] - half : positions[i] + half]) for i in chosen]
    X = torch.from_numpy(np.stack([one_hot(window, model.alphabet) for window in windows]))
    channels = torch.tensor([model.alphabet.index(alts[i]) for i in chosen])
    theirs_s, others = theirs(model, X, channels)
    precise, mutants = copy.deepcopy(model).double(), X.double().clone()
    mutants[:, :, half] = torch.eye(4, dtype=torch.float64)[channels]
    with torch.no_grad():
        expected = (precise(mutants) - precise(X.double()))[:, TRACK].numpy()
    largest = np.abs(expected).max()
    figures = {
        "variants": len(positions),
        "ours_s": ours_s,
        "ours_per_s": len(positions) / ours_s,
        "tangermeme_per_s": len(chosen) / theirs_s,
        "ours_is_faster_by": theirs_s / len(chosen) / (ours_s / len(positions)),
        "off_by": float(np.abs(effects[chosen] - expected).max() / largest),
        "tangermeme_off_by": float(np.abs(others - expected).max() / largest),
    }
    print(f"{arguments.threads} threads: {shown(figures)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
