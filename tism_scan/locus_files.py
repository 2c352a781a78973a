"""Files of attributed loci: NPZ, TSV and pictures.

An NPZ file holds all loci side by side along the last axis of `scores`:

=============== ================================================================================
key             value
=============== ================================================================================
scores          float32 (T, L), or (T, 4, L) with bases in A, C, G, T order; NaN at N
codes           uint8 (L,): A 0, C 1, G 2, T 3, anything else 4
chrom           str (R,): name of each locus's chrom, or of its sequence
start, end      int64 (R,): where each locus lies, 0-based, half-open
offset          int64 (R + 1,): locus i is ``scores[..., offset[i]:offset[i + 1]]``
track           str (T,): names of the tracks
track_key       str (T,): index of a track's output, or the name of a group
method          str: such as ``mean-tism``
stride          int: distance between windows; window_start tells where they stood
window_start    int64 (W,): starts of all windows, locus by locus
stitch, strands, output_space    str
=============== ================================================================================

A TSV file has one line a base: chrom, pos (1-based), ref, then a column for each track, or four of them named
``track:A`` and so on. Numbers are written so that reading them gives the same float32.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tism_scan.alphabet import BASES, decode, one_hot
from tism_scan.errors import ExportError
from tism_scan.locus import LocusScores
from tism_scan.methods import Method
from tism_scan.plot import plot_attribution
from tism_scan.targets import PICTURE_SUFFIXES, SCORE_SUFFIXES, check_target, replaced_file
from tism_scan.tracks import Track

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


def draw_locus(path: Path, scores: LocusScores) -> None:
    """Draw a locus, a panel for each track: a logo, and a heat map if every base has a value.

    The logo of TISM and ISM shows minus the mean of the three substitutions, that of the other methods the
    value of the reference base.

    Raises
    ------
    ExportError
        If there are too many tracks, the file cannot be written, or has another suffix.
    InputError
        If matplotlib or logomaker is not installed.
    """
    check_target(path, PICTURE_SUFFIXES)
    check_panels(len(scores.tracks))
    values = scores.values
    is_substitution = scores.settings.method in ("tism", "ism")
    unit = f"{_UNITS[scores.settings.method]} ({scores.settings.output_space})"
    figure = plot_attribution(
        -values.sum(1) / 3 if is_substitution else values,
        values if scores.settings.has_bases else None,
        X=one_hot(scores.codes),
        titles=column_names(scores.tracks),
        chrom=scores.chrom,
        start=scores.start,
        unit=unit,
    )
    with replaced_file(path) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=150)


def check_panels(n_tracks: int) -> None:
    """Raise unless so many tracks can be told apart in one picture.

    Raises
    ------
    ExportError
    """
    if n_tracks > MOST_PANELS:
        raise ExportError(
            f"a picture of {n_tracks:,} tracks was asked for; expected at most {MOST_PANELS}; choose fewer "
            "with --tracks, or put them together with --group"
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
