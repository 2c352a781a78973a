"""The README beside bigWigs of exact ISM, which may stand in the folder of the scan's own."""

from pathlib import Path

from tism_scan.storage.atomic import replaced_file
from tism_scan.store.score_store import ScoreStore

NAME = "README_ism.txt"

_README = """\
Exact in-silico mutagenesis (ISM) in the bigWigs named *_ism*.bw, by tism-scan refine.

{meaning}
  unit   The {output_space} of the model's output.
  gaps   Bases that were not refined, and what is not A, C, G or T. {n_bases:,} bases were chosen, by
         {rule}, of the scan's scores.
  where  In the window of {input_bp:,} bp whose centre is nearest to the base; strands {strands}.

Model {model}, weights of SHA-256 {weights}; scan {scan}.
"""

_MEAN = """\
NAME_ism.bw: minus the mean change of the output when the base is replaced by each of the three others.
  sign   Positive: the reference base supports the prediction; mutating it lowers the output."""

_CHANNELS = """\
NAME_ism.A.bw to NAME_ism.T.bw: the change of the output when that base replaces the reference base.
  sign   Positive: the other base raises the output. 0 where both are the same."""


def write_ism_readme(refined: ScoreStore, folder: Path, *, channels: bool) -> Path:
    """Write what bigWigs of exact ISM hold, and return the file.

    Parameters
    ----------
    refined : ScoreStore
        The refinement.
    folder : Path
    channels : bool
        Whether there is a bigWig for each alternative base.
    """
    plan, scoring, selection = refined.plan, refined.plan.scoring, refined.plan.selection
    text = _README.format(
        meaning=_CHANNELS if channels else _MEAN,
        output_space=scoring.output_space,
        n_bases=plan.n_wanted,
        rule=selection.rule if selection else "",
        input_bp=scoring.input_bp,
        strands=scoring.strands,
        model=plan.model,
        weights=plan.weights_digest,
        scan=selection.scan if selection else "",
    )
    with replaced_file(folder / NAME) as file:
        file.write(text.encode())
    return folder / NAME
