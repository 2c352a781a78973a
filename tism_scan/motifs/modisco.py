"""The patterns that TF-MoDISco (modisco-lite) found, as motifs.

References
----------
The trimming is that of `modisco report`: positions whose contribution is at least 0.3 of the highest.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tism_scan.errors import InputError
from tism_scan.motifs.motif import Motif
from tism_scan.optional import required

_SIGNS = {"pos_patterns": "pos", "neg_patterns": "neg"}
_TRIMMED_BELOW = 0.3


def read_patterns(path: Path) -> list[Motif]:
    """Return the patterns of an h5 file of ``modisco motifs``: those of positive scores first.

    Raises
    ------
    InputError
        If h5py is missing, the file is damaged, or none of TF-MoDISco's.
    """
    h5py: Any = required("h5py", "MoDISco's h5 files", "'tism-scan[h5]'")
    motifs = []
    try:
        with h5py.File(path, "r") as file:
            if not set(_SIGNS) & set(file):
                raise KeyError(f"no group {' or '.join(_SIGNS)}")
            for group, sign in _SIGNS.items():
                patterns = file.get(group, {})
                for name in sorted(patterns, key=lambda name: (len(name), name)):
                    motifs.append(_motif(f"{sign}.{name}", patterns[name]))
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is not what `modisco motifs` writes ({error}); expected its h5 file"
        ) from None
    return motifs


def _motif(name: str, pattern: Any) -> Motif:
    """Return one pattern, without the ends that contribute little."""
    sequence = np.asarray(pattern["sequence"], dtype=np.float64)
    heights = np.abs(np.asarray(pattern["contrib_scores"], dtype=np.float64)).sum(axis=1)
    if sequence.ndim != 2 or sequence.shape[1] != 4 or len(heights) != len(sequence):
        raise ValueError(f"{name} has a sequence of shape {sequence.shape}; expected (width, 4)")
    kept = np.flatnonzero(heights >= _TRIMMED_BELOW * heights.max())
    within = sequence[kept[0] : kept[-1] + 1] + 1e-9  # a position may be without any base
    return Motif(name, np.ascontiguousarray((within / within.sum(axis=1, keepdims=True)).T))
