"""Options for what is shown beside scores: genes, and features of BED files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tism_scan.cli.console import say
from tism_scan.cli.options.common import PATH
from tism_scan.progress import count_of

if TYPE_CHECKING:
    from tism_scan.browser.annotations import Annotation

genes_option = click.option(
    "--genes",
    type=PATH,
    help="Genes to show and to find by name: GTF, GFF3, BED12 or refGene, plain or gzipped.",
)
annotations_option = click.option(
    "--annotation",
    "annotations",
    multiple=True,
    metavar="[NAME=]FILE",
    help="BED file to show as a track, such as seqlets or motifs. Repeat it for several.",
)


def say_reading(genes: Path | None) -> None:
    """Print that genes are being read, which takes a while for a large file."""
    if genes is not None:
        say(f"reading the genes of {genes}")


def say_annotations(annotations: "Sequence[Annotation]") -> None:
    """Print how many features there are, and how many are left out."""
    for annotation in annotations:
        of_others = f", {annotation.n_elsewhere:,} on other chroms left out" if annotation.n_elsewhere else ""
        kind = "gene" if annotation.is_genes else "feature"
        say(f"{annotation.name}: {count_of(len(annotation.rows), kind)}{of_others}")
