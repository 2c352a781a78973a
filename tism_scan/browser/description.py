"""What the numbers are, for people (``README.txt``) and for programs (``tracks.tsv``, ``chrom.sizes``)."""

from collections.abc import Mapping

from tism_scan.browser.shown import Shown
from tism_scan.plan.labels import one_line
from tism_scan.plan.scoring import ONE_GRADIENT, path_text
from tism_scan.storage.digests import n_joined
from tism_scan.version import __version__

_FORMULA_SIGNS = ("=", "+", "-", "@")
_COLUMNS = ("file", "track", "limit", "min", "max", "sum", "bases")
_LONGEST_NAME = 1000
_MOST_SLOPES = 8

_README = """\
{title}
{rule}

WHAT THE NUMBERS ARE
{meaning}{exact}
  unit   The {unit} of the model's output, for one base.
  gaps   No score: not A, C, G or T in the reference, not asked for, or not scored yet. 0 is a score.
{sd}{slopes}
"limit" in tracks.tsv is the 99.9th percentile of the magnitudes of a track; axes go from -limit to
+limit, so single outliers are cut off. "sum" is the sum of all scores.

HOW TO LOOK AT THEM
  tism-scan view FOLDER --genome genome.fa      this folder in your own web browser
  index.html           the same page on any web server that answers Range requests; without a genome
                       there are bars, but no letters
  hub.txt              UCSC Genome Browser: My Data, Track Hubs, its public address{hub_note}
  igv-desktop.xml      IGV desktop 2.19.6 or later: File, Open Session{desktop_note}
  config.json          JBrowse 2: copy into its folder, or open with ?config=ADDRESS
  hub.washu.json       WashU Epigenome Browser: Tracks, Remote Tracks, Remote Data Hub
{annotations}
WHERE THEY COME FROM
  made with       tism-scan {version}; scanned with {versions}
  plan            {plan}
  model           {model}, weights of SHA-256 {weights}
  genome          SHA-256 {genome}
  windows         {input_bp:,} bp every {stride:,} bp, stitch {stitch}, strands {strands}
  path            {path}
  precision       {precision}, {keep_bits}
"""

_MEANING = {
    "mean": """\
Mean TISM, one number a base, in each bigWig (*.bw): an approximation, from gradients, of what
in-silico mutagenesis would find. It is minus the mean change of the model's output when the
reference base is replaced by each of the three others.

  sign   Positive (blue): the reference base supports the prediction; mutating it lowers the output.
         Negative (vermilion): the reference base lowers the prediction.""",
    "tism": """\
TISM of one alternative base in each bigWig (*.A.bw to *.T.bw), one number a base: an approximation,
from gradients, of how the model's output changes when that base replaces the reference base. It
is 0 where both are the same.

  sign   Positive (blue): the other base raises the output.
         Negative (vermilion): the other base lowers it.""",
}


_EXACT = """\
Exact ISM in the bigWigs named *_ism*.bw (darker): what in-silico mutagenesis finds, by forward
passes, at the bases that were refined; all others are gaps. The signs are those of the scan's
scores. README_ism.txt tells which bases these are."""
_SD = """\
  sd     NAME_sd.bw beside NAME.bw: the standard deviation (n - 1) of mean TISM over the {} models.
"""


def readme_text(shown: Shown) -> str:
    """Return what a reader of the folder, who knows nothing of this package, needs."""
    plan, scoring = shown.plan, shown.plan.scoring
    no_2bit = f"\n{'':23}(first: faToTwoBit genome.fa genome.2bit, into this folder)"
    no_genome = f"\n{'':23}(first: load the genome)"
    title = one_line(shown.title, 96)
    return _README.format(
        title=title,
        annotations="".join(
            f"  {f'{each.stem}.bed, .bb':<20} {one_line(each.name, 60)}, as BED and as bigBed\n"
            for each in shown.annotations
        ),
        meaning=_MEANING[shown.values] if shown.has(is_exact=False) else _EXACT,
        exact=f"\n\n{_EXACT}\n" if shown.has(is_exact=False) and shown.has(is_exact=True) else "",
        sd=_SD.format(n_joined(plan.weights_digest)) if scoring.values == "mean+sd" else "",
        slopes=_slopes(shown.slopes),
        rule="=" * len(title),
        unit="logit" if scoring.output_space == "logit" else "probability",
        hub_note="" if shown.genome_id else no_2bit,
        desktop_note="" if shown.genome_id else no_genome,
        version=__version__,
        versions=", ".join(f"{name} {value}" for name, value in shown.provenance.items())
        or "unknown versions",
        plan=plan.digest(),
        model=plan.model,
        weights=plan.weights_digest,
        genome=plan.genome_digest,
        input_bp=scoring.input_bp,
        stride=scoring.stride,
        stitch=f"{scoring.stitch} (effects on every output that sees a base, added up)"
        if scoring.stitch == "all"
        else scoring.stitch,
        strands=scoring.strands,
        path="one gradient, at the sequence"
        if scoring.path == ONE_GRADIENT
        else f"{path_text(scoring.path)}: gradients averaged between uniform (0) and the sequence (1)",
        precision=scoring.precision,
        keep_bits="lossless" if plan.keep_bits is None else f"{plan.keep_bits} bits of mantissa kept",
    )


def _slopes(slopes: Mapping[str, float]) -> str:
    """Return how much larger exact effects are, if an audit found it; of many tracks, the range."""
    if not slopes:
        return ""
    if len(slopes) <= _MOST_SLOPES:
        each = ", ".join(f"{slope:.2f} ({one_line(name, 40)})" for name, slope in slopes.items())
    else:
        each = f"{min(slopes.values()):.2f} to {max(slopes.values()):.2f} by track"
    first, rest = "Exact ISM of substitutions, on the windows of an audit, is TISM times", f"about {each}."
    return f"  slope  {first}\n         {rest}\n"


def tracks_table(shown: Shown) -> str:
    """Return the tracks as a tab-separated table with a header.

    A name that a spreadsheet would compute as a formula gets an apostrophe in front.
    """
    lines = ["\t".join(_COLUMNS)]
    for track in shown.tracks:
        numbers = (track.limit, track.minimum, track.maximum, track.total)
        name = one_line(track.name, _LONGEST_NAME)
        shown_name = f"'{name}" if name.startswith(_FORMULA_SIGNS) else name
        cells = (track.path.name, shown_name, *(f"{n:.9g}" for n in numbers))
        lines.append("\t".join((*cells, str(track.n_bases))))
    return "".join(f"{line}\n" for line in lines)


def chrom_sizes(shown: Shown) -> str:
    """Return the chroms and their lengths, as UCSC's tools write them."""
    return "".join(f"{chrom}\t{length}\n" for chrom, length in shown.chroms.items() if length)
