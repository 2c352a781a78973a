"""Files of attributed loci: NPZ, TSV and pictures.

An NPZ file holds all loci side by side along the last axis of `scores`:

=============== ================================================================================
key             value
=============== ================================================================================
scores          float32 (T, L), or (T, 4, L) with bases in A, C, G, T order; NaN at N
codes           uint8 (L,): A 0, C 1, G 2, T 3, anything else 4
chrom           str (R,): name of each locus's chrom, or of its sequence
start, end      int64 (R,): where each locus is, 0-based, half-open
offset          int64 (R + 1,): locus i is ``scores[..., offset[i]:offset[i + 1]]``
track           str (T,): names of the tracks
track_key       str (T,): index of a track's output, or the name of a group
method          str: such as ``mean-tism``
stride          int: distance between windows; window_start tells where they stood
window_start    int64 (W,): starts of all windows, locus by locus
stitch, strands, output_space    str
path            float64 (n,): points between the uniform sequence and the window; 1 is the window
=============== ================================================================================

A TSV file has one line a base: chrom, pos (1-based), ref, then a column for each track, or four of them named
``track:A`` and so on. Numbers are written so that reading them gives the same float32.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import ExportError
from tism_scan.genome.alphabet import BASES, decode, one_hot
from tism_scan.locus.scores import LocusScores
from tism_scan.plan.methods import Method
from tism_scan.plan.scoring import minus_mean_effect
from tism_scan.plan.tracks import Track
from tism_scan.plot import NamedSpan, plot_attribution, save_picture
from tism_scan.storage.atomic import PICTURE_SUFFIXES, SCORE_SUFFIXES, check_target, replaced_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS = 24

_UNITS: dict[Method, str] = {
    "tism": "TISM",
    "mean-tism": "mean TISM",
    "ism": "ISM",
    "mean-ism": "mean ISM",
    "gradient": "gradient",
    "gradxinput": "gradient x input",
    "corrected": "corrected gradient",
    "hypothetical": "hypothetical",
    "deepliftshap": "DeepLIFT/SHAP",
}


def write_scores(path: Path, loci: Sequence[LocusScores]) -> None:
    """Write the scores of loci that share their settings, as NPZ or TSV by the file's suffix.

    Raises
    ------
    ExportError
        If the file cannot be written, or has another suffix.
    """
    check_target(path, SCORE_SUFFIXES)
    write = _write_npz if path.suffix.lower() == ".npz" else _write_tsv
    with replaced_file(path) as file:
        write(file, loci)


def locus_figure(panels: Sequence[LocusScores], spans: Sequence[NamedSpan] = ()) -> "Figure":
    """Return a figure of a locus: for each track a panel for each method, a logo and a heat map.

    The logo of TISM and ISM shows minus the mean of the three substitutions, that of the other methods the
    value of the reference base. Heat maps are left out if a method has one value a base.

    Parameters
    ----------
    panels : sequence of LocusScores
        The same bases and tracks under one or more methods; any of them can be drawn together.
    spans : sequence of (start, end, label)
        Genes or motifs, as for `tism_scan.plot.plot_attribution`.

    Raises
    ------
    ExportError
        If there are too many panels.
    InputError
        If matplotlib or logomaker is not installed.
    """
    first, n_tracks = panels[0], len(panels[0].tracks)
    check_panels(len(panels) * n_tracks)
    names = [_UNITS[scores.settings.method] for scores in panels]
    titles = [
        track if len(panels) == 1 else f"{track}, {name}"
        for track in column_names(first.tracks)
        for name in names
    ]
    return plot_attribution(
        _interleaved([_logo(scores) for scores in panels]),
        _interleaved([scores.values for scores in panels])
        if all(scores.settings.has_bases for scores in panels)
        else None,
        X=one_hot(first.codes),
        titles=titles,
        chrom=first.chrom,
        start=first.start,
        spans=spans,
        unit=[f"{_logo_unit(scores)}\n({scores.settings.output_space})" for scores in panels] * n_tracks,
        heatmap_unit=names * n_tracks,
    )


def write_picture(path: Path, figure: "Figure", *, dpi: int = 200) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's suffix.

    Raises
    ------
    ExportError
        If the file cannot be written, or has another suffix.
    """
    check_target(path, PICTURE_SUFFIXES)
    with replaced_file(path) as file:
        save_picture(figure, file, path.suffix.lower()[1:], dpi)


def _logo(scores: LocusScores) -> NDArray[np.float32]:
    """Return one value a base, (T, L), whatever the method's own are."""
    if not scores.settings.has_bases:
        return scores.values
    if _is_averaged(scores):
        return minus_mean_effect(scores.values)
    at_reference: NDArray[np.float32] = np.where(one_hot(scores.codes) > 0, scores.values, 0).sum(1)
    return at_reference


def _logo_unit(scores: LocusScores) -> str:
    name = _UNITS[scores.settings.method]
    return f"mean {name}" if _is_averaged(scores) else name


def _is_averaged(scores: LocusScores) -> bool:
    """Return whether the values are substitutions' effects, which are 0 at the reference base."""
    return scores.settings.method in ("tism", "ism")


def _interleaved(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return P arrays (T, ...) as one, (T * P, ...), track by track."""
    stacked: NDArray[np.float32] = np.stack(values, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def check_panels(n_panels: int) -> None:
    """Raise unless so many panels can be told apart in one picture.

    Raises
    ------
    ExportError
    """
    if n_panels > MOST_PANELS:
        raise ExportError(
            f"a picture of {n_panels:,} panels was asked for; expected at most {MOST_PANELS}; choose fewer "
            "tracks with --tracks, or put them together with --group"
        )


def column_names(tracks: Sequence[Track]) -> tuple[str, ...]:
    """Return a name for each track, with its key in front where several share one; without tabs."""
    names = [" ".join(track.name.split()) for track in tracks]
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{track.key} {name}"
        for name, track in zip(names, tracks, strict=True)
    )


def _write_npz(file: IO[bytes], loci: Sequence[LocusScores]) -> None:
    settings = loci[0].settings
    lengths = [len(scores.codes) for scores in loci]
    np.savez_compressed(
        file,
        scores=np.concatenate([scores.values for scores in loci], axis=-1),
        codes=np.concatenate([scores.codes for scores in loci]),
        chrom=np.array([scores.chrom for scores in loci]),
        start=np.array([scores.start for scores in loci], dtype=np.int64),
        end=np.array([scores.interval.end for scores in loci], dtype=np.int64),
        offset=np.cumsum([0, *lengths], dtype=np.int64),
        track=np.array([track.name for track in settings.tracks]),
        track_key=np.array([track.key for track in settings.tracks]),
        method=np.array(settings.method),
        stride=np.array(settings.stride),
        window_start=np.array([w.start for scores in loci for w in scores.windows], dtype=np.int64),
        stitch=np.array(settings.stitch),
        strands=np.array(settings.strands),
        output_space=np.array(settings.output_space),
        path=np.array(settings.path),
    )


def _write_tsv(file: IO[bytes], loci: Sequence[LocusScores]) -> None:
    settings = loci[0].settings
    columns = column_names(settings.tracks)
    if settings.has_bases:
        columns = tuple(f"{name}:{base}" for name in columns for base in BASES)
    file.write(_line(["chrom", "pos", "ref", *columns]))
    for scores in loci:
        rows = scores.values.reshape(-1, len(scores.codes)).T
        for i, (base, row) in enumerate(zip(decode(scores.codes), rows, strict=True)):
            cells = ["NaN" if np.isnan(value) else str(value) for value in row]
            file.write(_line([scores.chrom, str(scores.start + i + 1), base, *cells]))


def _line(cells: Sequence[str]) -> bytes:
    return ("\t".join(cells) + "\n").encode()
