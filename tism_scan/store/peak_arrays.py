"""The rows of a set of peaks laid out as Zarr arrays.

============= ======= =================================== ===================================================
array         dtype   dimensions                          what it holds
============= ======= =================================== ===================================================
scores        float32 (peak, track, base, position), or   the values of the method; 0 at what is not A, C, G
                      (peak, track, position)             or T; NaN where a peak is not computed yet
sequence      uint8   (peak, position)                    A 0, C 1, G 2, T 3, else 4
chrom, name   str     (peak,)                             as in the file of peaks
start         int64   (peak,)                             of the row, 0-based; below 0 before the chrom
track, base   str     (track,), (base,)                   names
============= ======= =================================== ===================================================

A part of the peaks is one shard of `scores`, with an inner chunk for each track, and one chunk of `sequence`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from tism_scan.genome.alphabet import BASES, N_CODE, Codes
from tism_scan.genome.peaks import PeakSet
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.peak_plan import PeakSettings
from tism_scan.store.arrays import (
    GROUP,
    as_bytes,
    compressors,
    gathered,
    labels_of,
    metadata_among,
    written_group,
)
from tism_scan.store.shards import BLOSC

SCORES, SEQUENCE = "scores", "sequence"
_OF_CODES = compressors(BLOSC["zstd"] | {"typesize": 1})
_MEANT = {
    "tism": "TISM: about the change of the output if a base replaced the sequence's own; 0 at that base",
    "mean-tism": "minus the mean TISM of the three substitutions",
    "ism": "the change of the output if a base replaces the sequence's own; 0 at that base",
    "mean-ism": "minus the mean effect of the three substitutions",
    "gradient": "the gradient of the output",
    "gradxinput": "the gradient of the output at the sequence's own base",
    "corrected": "the gradient minus its mean over the four bases",
    "hypothetical": "the gradient minus its mean under the background",
    "deepliftshap": "hypothetical contributions of DeepLIFT/SHAP against dinucleotide shuffles",
}


def peak_objects(plan: PartsPlan, peaks: PeakSet, *, consolidated: bool = False) -> dict[str, bytes]:
    """Return all objects but those of the parts, by key; the group's own comes last.

    Parameters
    ----------
    plan : PartsPlan
    peaks : PeakSet
    consolidated : bool
        Whether the group's metadata gathers that of all arrays.
    """
    settings = PeakSettings.of(plan)
    arrays = {
        SCORES: (settings.row_shape, _score_options(plan, settings)),
        SEQUENCE: ((settings.width,), _code_options(plan, settings)),
    }
    names = {SCORES: ("peak", "track", *_bases(settings), "position"), SEQUENCE: ("peak", "position")}
    objects = {}
    for name, (row_shape, options) in arrays.items():
        memory = MemoryStore()
        shape = (plan.n_items, *row_shape)
        zarr.create_array(memory, shape=shape, dimension_names=names[name], **options)
        objects[f"{name}/{GROUP}"] = memory._store_dict[GROUP].to_bytes()
    objects |= labels_of("chrom", "peak", [peaks.labels[i] for i in peaks.i_chrom.tolist()])
    objects |= labels_of("name", "peak", peaks.names())
    objects |= _starts(peaks, settings)
    objects |= labels_of("track", "track", [track.name for track in plan.scoring.tracks])
    if settings.method.has_bases:
        objects |= labels_of("base", "base", list(BASES))
    group = written_group(MemoryStore(), {"tism_scan": _described(plan, settings)})
    if consolidated:
        group |= gathered(metadata_among(objects))
    return objects | {GROUP: as_bytes(group)}


def encode_rows(plan: PartsPlan, scores: NDArray[np.float32]) -> bytes:
    """Return the object that Zarr itself would store for the scores of a part, float32 (n, *row_shape)."""
    return _only_object(scores, _score_options(plan, PeakSettings.of(plan)))


def encode_codes(plan: PartsPlan, codes: Codes) -> bytes:
    """Return the object that Zarr itself would store for the sequence of a part, uint8 (n, width)."""
    return _only_object(codes, _code_options(plan, PeakSettings.of(plan)))


def _only_object(values: NDArray[Any], options: Mapping[str, Any]) -> bytes:
    """Return the one object that Zarr stores for an array of such options.

    Where an array of the store ends within its last chunk or shard, so do these values.
    """
    memory = MemoryStore()
    twin = zarr.create_array(memory, shape=values.shape, **options)
    twin[:] = values
    (key,) = (key for key in memory._store_dict if key != GROUP)
    return memory._store_dict[key].to_bytes()


def rows_key(i_part: int, settings: PeakSettings) -> str:
    """Return the key of the scores of a part."""
    return f"{SCORES}/c/{i_part}" + "/0" * len(settings.row_shape)


def codes_key(i_part: int) -> str:
    """Return the key of the sequence of a part."""
    return f"{SEQUENCE}/c/{i_part}/0"


def _bases(settings: PeakSettings) -> tuple[str, ...]:
    return ("base",) if settings.method.has_bases else ()


def _score_options(plan: PartsPlan, settings: PeakSettings) -> dict[str, Any]:
    n_tracks, *rest = settings.row_shape
    return {
        "dtype": "float32",
        "shards": (plan.items_per_part, n_tracks, *rest),
        "chunks": (plan.items_per_part, 1, *rest),
        "compressors": compressors(BLOSC["zstd"]),
        "fill_value": float("nan"),
        "config": {"write_empty_chunks": True},
    }


def _code_options(plan: PartsPlan, settings: PeakSettings) -> dict[str, Any]:
    return {
        "dtype": "uint8",
        "chunks": (plan.items_per_part, settings.width),
        "compressors": _OF_CODES,
        "fill_value": N_CODE,
        "config": {"write_empty_chunks": True},
    }


def _starts(peaks: PeakSet, settings: PeakSettings) -> dict[str, bytes]:
    memory = MemoryStore()
    n = len(peaks)
    array = zarr.create_array(
        memory,
        shape=(n,),
        chunks=(n,),
        dtype="int64",
        compressors=None,
        fill_value=0,
        dimension_names=("peak",),
        config={"write_empty_chunks": True},
    )
    array[:] = peaks.centers - settings.width // 2
    return {f"start/{key}": value.to_bytes() for key, value in memory._store_dict.items()}


def _described(plan: PartsPlan, settings: PeakSettings) -> dict[str, Any]:
    """Return what a reader without this package needs to know."""
    method = settings.method
    return {
        "plan": plan.digest(),
        "tracks": [track.to_json() for track in method.tracks],
        "method": method.method,
        "values": _MEANT[method.method] + (", bases in A, C, G, T order" if method.has_bases else ""),
        "missing": "0 at what is not A, C, G or T; NaN where a peak is not computed yet",
        "strands": method.strands,
        "output_space": method.output_space,
        "path": list(method.path),
        "input_bp": settings.input_bp,
    }
