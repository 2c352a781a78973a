"""The README beside rows around peaks: what the files hold, and the commands that load them."""

from collections.abc import Sequence
from pathlib import PurePath

from tism_scan.export.row_sources import Described

_HELD = {
    "modisco": """\
ohe.npz: the sequence; hyp.npz: the scores; both float32 (n, 4, width), key arr_0.""",
    "finemo": """\
regions.npz: sequences, int8 (n, 4, width); contributions, float16 (n, 4, width), which are the scores times
`scale`; chr, chr_id, start, peak_id and peak_name of each row. A row that begins before its chrom has a start
below 0.""",
    "chrombpnet-h5": """\
scores.h5: raw/seq, int8 (n, 4, width); shap/seq, float16 (n, 4, width), which are the scores times `scale`;
projected_shap/seq, the same at the sequence's own base and 0 elsewhere.""",
}


def readme_text(
    form: str, width: int, described: Described, names: Sequence[str], folders: Sequence[str]
) -> str:
    """Return the text of the README.

    Parameters
    ----------
    form : {"modisco", "finemo", "chrombpnet-h5"}
    width : int
        Of a row, in bp.
    described : Described
    names : sequence of str
        Those of the tracks.
    folders : sequence of str
        Where the files of each are, from the README's place.
    """
    tracks = "\n".join(f"  {folder}  {name}" for folder, name in zip(folders, names, strict=True))
    return f"""{described.title} around peaks, for {form}.

Row i belongs to line i of peaks.narrowPeak: {width} bp, from {width // 2} bp before the summit, which is
start + column 10. A line's start and end are those of its row; where the row leaves the chrom, they are cut
on both sides, so that the summit stays in the middle.
Channels are A, C, G, T. {described.zeros}
A score is hypothetical: {described.meant}
{_HELD[form]}

Model {described.model}; store {described.digest}.
Tracks, and the folder of each:
{tracks}

{_commands(form, width, PurePath(folders[0]))}"""


def _commands(form: str, width: int, folder: PurePath) -> str:
    motifs = folder / "modisco.h5"
    regions = folder / "regions.npz"
    discover = f"-n 100000 -w {width} -o {motifs}"
    extract = f"-p peaks.narrowPeak -w {width} -o {regions}"
    call = f"  finemo call-hits -r {regions} -m {motifs} -o {folder / 'hits'}\n"
    if form == "modisco":
        ohe, hyp = folder / "ohe.npz", folder / "hyp.npz"
        return f"""TF-MoDISco (pip install modisco-lite), and where its seqlets are:

  modisco motifs -s {ohe} -a {hyp} {discover}
  modisco seqlet-bed -i {motifs} -p peaks.narrowPeak -c '*' -q -o {folder / "seqlets.bed"}

Fi-NeMo (pip install finemo), with those motifs:

  finemo extract-regions-modisco-fmt -s {ohe} -a {hyp} {extract}
{call}"""
    if form == "finemo":
        return f"""Fi-NeMo (pip install finemo), with motifs of TF-MoDISco (export --format modisco):

{call}"""
    scores = folder / "scores.h5"
    return f"""TF-MoDISco (pip install modisco-lite):

  modisco motifs -i {scores} {discover}

Fi-NeMo (pip install finemo), with those motifs:

  finemo extract-regions-chrombpnet-h5 -c {scores} {extract}
{call}"""
