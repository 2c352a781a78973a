"""Which bases a null distribution is drawn from: those of a BED file, or the positions of a variant file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tism_scan.errors import RegionError
from tism_scan.genome.bed import read_bed
from tism_scan.genome.intervals import summary_of, unknown_chrom
from tism_scan.genome.spans import Spans, merge, merged_pairs
from tism_scan.variants.files import VariantFile, opened
from tism_scan.variants.places import MOST_SHOWN, position_or_none

_VARIANTS = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")


def name_of(path: Path | None) -> str:
    """Return what files with a PHRED call a background."""
    if path is None:
        return "the store"
    return f"the positions of {path.name}" if _is_of_variants(path) else path.name


def read_background(path: Path, chroms: Mapping[str, int]) -> dict[str, Spans]:
    """Return the bases of a BED file, or those at the positions of a VCF or BCF, each once.

    Parameters
    ----------
    path : Path
    chroms : Mapping from str to int
        Length of every chrom, in bp. Records of a variant file on others are left out.

    Raises
    ------
    RegionError
        If a BED file cannot be used, a position is none, or no record is on a chrom.
    InputError
        If a variant file cannot be read.
    """
    if not _is_of_variants(path):
        return merge(read_bed(path, chroms))
    with opened(path) as file:
        return _read_positions(file, chroms)


def _is_of_variants(path: Path) -> bool:
    return path.name.lower().endswith(_VARIANTS)


def _read_positions(file: VariantFile, chroms: Mapping[str, int]) -> dict[str, Spans]:
    positions: dict[str, list[int]] = {}
    strangers: dict[str, None] = {}
    faults: list[str] = []
    layout, number = file.layout, len(file.header)
    for piece in file.pieces():
        for line in piece:
            number += 1
            fields = line.decode(errors="replace").rstrip("\n").split("\t", layout.n_columns)
            if len(fields) < layout.n_columns:  # as where a file was cut off, amid a position perhaps
                faults.append(
                    f"line {number:,} has {len(fields)} columns; expected {layout.n_columns} or more"
                )
                continue
            chrom, text = fields[layout.chrom], fields[layout.pos]
            if chrom not in chroms:
                strangers[chrom] = None
                continue
            position = position_or_none(text)
            if position is not None and 0 <= position < chroms[chrom]:
                positions.setdefault(chrom, []).append(position)
            else:
                shown = text[:MOST_SHOWN]
                faults.append(f"line {number:,}: {shown!r} is no position of {chrom!r}, {chroms[chrom]:,} bp")
    if faults:
        raise RegionError(f"{file.path} cannot be used as a background: {summary_of(faults)}")
    if not positions:
        why = unknown_chrom(next(iter(strangers)), chroms) if strangers else "it holds no record"
        raise RegionError(f"no record of {file.path} is on a chrom of the store: {why}")
    starts = {chrom: np.array(each, dtype=np.int64) for chrom, each in positions.items()}
    return {chrom: merged_pairs(np.stack([each, each + 1], axis=1)) for chrom, each in starts.items()}
