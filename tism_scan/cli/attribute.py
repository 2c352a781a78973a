"""``tism-scan attribute``: the scores of one locus, as numbers and as a picture, or of a set of peaks."""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, say, say_warning
from tism_scan.cli.options.cluster import HEADINGS, cluster_options, log_option
from tism_scan.cli.options.common import PATH, refuse_unused, taken
from tism_scan.cli.options.headed import Headed
from tism_scan.cli.options.model import model_and_tracks, model_options
from tism_scan.cli.options.scoring import scoring_options, scoring_settings
from tism_scan.cli.peak_set import attribute_peaks
from tism_scan.cli.waiting import progress_bar
from tism_scan.errors import RegionError
from tism_scan.plan.methods import METHODS, Method, MethodSettings
from tism_scan.progress import count_of

if TYPE_CHECKING:
    from tism_scan.locus.scores import LocusScores
    from tism_scan.models.contract import Model
    from tism_scan.plan.tracks import Track

_WARNING_LENGTH = 200
_IUPAC = frozenset("ACGTURYSWKMBDHVN")


_OF_LOCI = (
    "region",
    "sequence",
    "fasta",
    "plot",
    "spans",
    "center",
    "stride",
    "stitch",
    "precision",
    "device",
)
_OF_PEAKS = (
    *("width", "chrom_alias", "n_actors", "max_actors", "gpus_per_actor", "stage_folder", "address"),
    *("ships_package", "retry_failed", "break_lock", "overwrite", "yes", "log_path"),
)
_HEADINGS = {
    "What to score": ("genome", "region", "sequence", "fasta", "peaks", "chrom_alias"),
    "Which number": (
        *("methods", "center", "width", "stride", "stitch", "strands", "output_space", "path", "precision"),
        *("background", "seed"),
    ),
    "Which model, and which of its outputs": (
        *("spec", "weights", "input_bp", "alphabet", "layout", "reduction"),
        *("tracks", "track_names", "groups", "batch_size", "device"),
    ),
    "What to write": ("out", "plot", "spans"),
    **{f"{heading} --peaks": names for heading, names in HEADINGS.items()},
    "If there is a store of --peaks already": ("retry_failed", "overwrite", "yes", "break_lock"),
}


@click.command(
    name="attribute",
    cls=Headed,
    headings=_HEADINGS,
    examples=[
        "tism-scan attribute --genome hg38.fa --region chr1:1,000-1,200 --weights deepsea.beluga.pth "
        "--tracks 267 --plot locus.png",
        "tism-scan attribute --genome hg38.fa --peaks X.narrowPeak --weights deepsea.beluga.pth --tracks 267 "
        "--method deepliftshap --out peaks.zarr",
    ],
)
@click.option(
    "--genome", type=PATH, help="FASTA of --region or --peaks, plain or bgzip; its index is made if missing."
)
@click.option("--region", metavar="chr1:1,000-2,000", help="The bases to score; 1-based, both ends included.")
@click.option("--sequence", metavar="ACGT...", help="Score this sequence instead of a region.")
@click.option(
    "--fasta", type=PATH, help="Score every record of this FASTA as a sequence, instead of a region."
)
@click.option(
    "--peaks",
    type=PATH,
    help="Score a window around each peak of a narrowPeak or BED file, centred on its summit (column 10, "
    "else the middle), on Ray, into a store that `export --format modisco` reads. Run it again to resume.",
)
@model_options
@click.option(
    "--method",
    "methods",
    type=click.Choice(METHODS),
    multiple=True,
    help="See above; repeat it to draw several in one picture. [default: mean-tism; of --peaks, tism]",
)
@click.option(
    "--out",
    metavar="FILE",
    help="File for the scores: .npz or .tsv. Of --peaks, the store: a folder, s3://bucket/prefix or "
    "gs://bucket/prefix.",
)
@click.option("--plot", type=PATH, help="File for a picture: .png, .svg or .pdf.")
@click.option("--spans", type=PATH, metavar="BED", help="Genes or motifs to draw above the picture.")
@click.option(
    "--center",
    is_flag=True,
    help="Put the region in the middle of one window, instead of the windows that run uses.",
)
@scoring_options
@click.option("--background", metavar="A,C,G,T", help="Base frequencies for hypothetical. [default: equal]")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the shuffles of deepliftshap.",
)
@click.option(
    "--width",
    type=click.IntRange(2),
    metavar="BP",
    help="Bases that are kept around each of --peaks, even; at most the window. [default: 400]",
)
@click.option(
    "--chrom-alias",
    type=PATH,
    help="Two columns: a chrom's name in the genome, and that of --peaks; others keep their names.",
)
@cluster_options
@click.option("--overwrite", is_flag=True, help="Delete the existing store first; asks for confirmation.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@log_option
def command(**options: Any) -> int:
    """Score the bases of one region, of sequences, or around peaks, and draw them.

    Windows are placed on a region as run places them, so tism and mean-tism equal what run stores; --stitch
    mean and all work with these two only. A sequence is put in the middle of a window, with N around it.

    \b
    One value a base, positive where the base supports the output:
      mean-tism      minus the mean TISM of the three substitutions
      mean-ism       minus the mean of exact ISM (three model calls a base)
      gradxinput     gradient at the reference base
    Four values a base:
      tism, ism      change of the output by each substitution
      gradient       gradient of the output
      corrected      gradient minus its mean over the four bases
      hypothetical   gradient minus its mean under --background
      deepliftshap   DeepLIFT/SHAP against 20 dinucleotide shuffles
    """  # noqa: D301  # click's \b keeps the table's lines apart
    if options["peaks"] is not None:
        refuse_unused(_OF_LOCI, "with --peaks")
        return attribute_peaks(options, background_of(options["background"]))
    refuse_unused(_OF_PEAKS, "without --peaks")
    request = _Request.take(options)
    request.check()  # before anything large is imported
    model, tracks = model_and_tracks(options)
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loci = list(request.loci(model, tracks))
    _say_warnings(caught)
    n_bp = sum(len(locus[0].codes) for locus in loci)
    n_windows = sum(len(locus[0].windows) for locus in loci)
    say(
        f"{' and '.join(request.methods)} of {count_of(n_bp, 'base')} in "
        f"{count_of(len(loci), 'locus', 'loci')} from {count_of(n_windows, 'window')}, "
        f"{count_of(len(tracks), 'track')}, in {duration(time.monotonic() - began)}"
    )
    request.write(loci)
    return 0


@dataclass(frozen=True)
class _Request:
    """What was asked for on the command line; see the options' help."""

    options: dict[str, Any]
    genome: Path | None
    region: str | None
    sequence: str | None
    fasta: Path | None
    methods: tuple[Method, ...]
    out: Path | None
    plot: Path | None
    spans: Path | None
    center: bool
    background: str | None
    seed: int

    @classmethod
    def take(cls, options: dict[str, Any]) -> "_Request":
        own = {name: options[name] for name in cls.__dataclass_fields__ if name in options}
        own["methods"] = tuple(dict.fromkeys(options["methods"])) or ("mean-tism",)
        own["out"] = None if options["out"] is None else Path(options["out"])
        return cls(options, **own)

    def check(self) -> None:
        """Raise for what can be known before the model is loaded."""
        from tism_scan.genome.bed import read_named_spans
        from tism_scan.genome.intervals import Interval
        from tism_scan.storage.atomic import PICTURE_SUFFIXES, SCORE_SUFFIXES, check_target

        given = [name for name in ("region", "sequence", "fasta") if getattr(self, name) is not None]
        if len(given) != 1:
            shown = " and ".join(f"--{name}" for name in given) or "none of them"
            raise click.UsageError(
                f"{shown} was given; expected one of --region, --sequence, --fasta and --peaks"
            )
        if self.region is not None and self.genome is None:
            raise click.UsageError(f"region {self.region!r} has no genome; add --genome")
        if self.center and self.region is None:
            raise click.UsageError(f"--center is for --region; a {given[0]} is centred anyway; leave it out")
        if self.out is None and self.plot is None:
            raise click.UsageError("no file was asked for; expected --out, --plot, or both")
        if self.out is not None:
            if len(self.methods) > 1:
                raise click.UsageError(
                    f"--out holds one method, but {len(self.methods)} were given; expected one --method; "
                    "leave --out out, or run again for each"
                )
            check_target(self.out, SCORE_SUFFIXES)
        if self.spans is not None and self.plot is None:
            raise click.UsageError("--spans is for pictures; add --plot, or leave it out")
        if self.spans is not None:
            read_named_spans(self.spans, Interval("", 0, 0))  # its faults are reported before the work
        if self.plot is not None:
            check_target(self.plot, PICTURE_SUFFIXES)

    def settings(self, tracks: tuple["Track", ...]) -> list[MethodSettings]:
        """Return which numbers are asked for, one for each method."""
        settings = scoring_settings(self.options, self.options["device"])
        background = background_of(self.background)
        return [
            MethodSettings(tracks, method, background=background, seed=self.seed, **settings)
            for method in self.methods
        ]

    def loci(self, model: "Model", tracks: tuple["Track", ...]) -> Iterator[list["LocusScores"]]:
        """Yield the scores of the region, or of each sequence, by each method."""
        from tism_scan.genome.alphabet import encode
        from tism_scan.genome.fasta import Genome
        from tism_scan.genome.intervals import parse_region
        from tism_scan.locus.output import check_panels
        from tism_scan.locus.scores import score_region, score_sequence

        settings = self.settings(tracks)
        if self.plot is not None:
            check_panels(len(tracks) * len(settings))
        if self.sequence is not None:
            codes = encode(_checked_letters(self.sequence))
            yield [
                score_sequence(model, "sequence", codes, each, **how)
                for each, how in self.shown("sequence", settings)
            ]
        elif self.fasta is not None:
            with Genome(self.fasta) as records:
                for name, length in records.chroms.items():
                    codes = records.fetch(name, 0, length)
                    yield [
                        score_sequence(model, name, codes, each, **how)
                        for each, how in self.shown(name, settings)
                    ]
        elif self.region is not None and self.genome is not None:
            with Genome(self.genome) as genome:
                region = parse_region(self.region, genome.chroms)
                yield [
                    score_region(model, genome, region, each, center=self.center, **how)
                    for each, how in self.shown(str(region), settings)
                ]

    def shown(
        self, label: str, settings: list[MethodSettings]
    ) -> Iterator[tuple[MethodSettings, dict[str, Any]]]:
        """Yield each method's settings, and how to compute it, with a bar of how far it is."""
        how = taken(self.options, "batch_size", "device")
        for each in settings:
            with progress_bar(f"{each.method}, {label}") as show:
                yield each, how | {"on_progress": show}

    def write(self, loci: list[list["LocusScores"]]) -> None:
        """Write what was asked for; each locus has a picture of its own."""
        from tism_scan.genome.bed import read_named_spans
        from tism_scan.locus.output import locus_figure, write_picture, write_scores

        if self.out is not None:
            write_scores(self.out, [locus[0] for locus in loci])
            say(f"scores   {self.out}")
        if self.plot is None:
            return
        for i, locus in enumerate(loci, start=1):
            path = self.plot if len(loci) == 1 else self.plot.with_stem(f"{self.plot.stem}_{i}")
            interval = locus[0].interval
            spans = read_named_spans(self.spans, interval) if self.spans else ()
            write_picture(path, locus_figure(locus, spans))
            say(f"picture  {path}  {interval}")


def _say_warnings(caught: list[warnings.WarningMessage]) -> None:
    """Print each warning of a method, such as of contributions that do not add up, once, on one line."""
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        say_warning(text if len(text) <= _WARNING_LENGTH else f"{text[:_WARNING_LENGTH]}...")


def _checked_letters(sequence: str) -> str:
    """Return a sequence without blanks, or raise RegionError if it holds other letters than bases."""
    letters = "".join(sequence.split())
    wrong = sorted(set(letters.upper()) - _IUPAC)
    if wrong or not letters:
        shown = letters if len(letters) <= 40 else f"{letters[:40]}..."
        found = f"holds {', '.join(map(repr, wrong[:5]))}" if wrong else "is empty"
        raise RegionError(f"sequence {shown!r} {found}; expected letters A, C, G, T or N; correct --sequence")
    return letters


def background_of(text: str | None) -> tuple[float, float, float, float]:
    """Return the base frequencies of a text such as ``0.3,0.2,0.2,0.3``."""
    if text is None:
        return (0.25, 0.25, 0.25, 0.25)
    try:
        a, c, g, t = (float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"--background {text!r} cannot be read; expected four numbers, of A, C, G and T, such as "
            "0.3,0.2,0.2,0.3"
        ) from None
    return (a, c, g, t)
