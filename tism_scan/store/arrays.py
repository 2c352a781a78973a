"""A plan laid out as Zarr arrays: their names, their metadata, and the objects that their shards are."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from tism_scan.plan.packing import PACK
from tism_scan.plan.scan_plan import Codec, ScanPlan
from tism_scan.plan.scoring import ONE_GRADIENT
from tism_scan.plan.tiling import Block
from tism_scan.storage.digests import n_joined
from tism_scan.store.shards import BLOSC, compressed, places_in_order, shard_of

GROUP = "zarr.json"
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def metadata_of(
    plan: ScanPlan, *, consolidated: bool, coordinates: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Return the metadata of a plan's group and arrays, by key.

    Parameters
    ----------
    plan : ScanPlan
    consolidated : bool
        Whether the group's gathers that of all arrays.
    coordinates : mapping from str to bytes, optional
        The objects of `coordinates_of` that the store has; stores of earlier releases have none.
    """
    group = written_group(MemoryStore(), {"tism_scan": {"plan": plan.digest(), **_described(plan)}})
    nodes = {node_name(array): array_metadata(plan, array) for array in plan.arrays}
    if consolidated:
        group |= gathered(nodes | metadata_among(coordinates or {}))
    return {GROUP: as_bytes(group)} | {
        f"{name}/{GROUP}": as_bytes(described) for name, described in nodes.items()
    }


def metadata_among(objects: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the metadata of arrays that are among some objects, by the arrays' names."""
    suffix = f"/{GROUP}"
    return {
        key.removesuffix(suffix): json.loads(content)
        for key, content in objects.items()
        if key.endswith(suffix)
    }


def gathered(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group's metadata holds of that of its arrays, so that readers need no listing."""
    return {"consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": dict(nodes)}}


def array_metadata(plan: ScanPlan, array: str) -> dict[str, Any]:
    """Return the metadata of the array of a chrom, or of the pack.

    The position's dimension bears the array's name: dimensions of one name and several lengths would keep
    xarray from opening the group.
    """
    name, length, pack = node_name(array), plan.arrays[array], plan.pack
    described = _template(_layout(plan, plan.array_block_bp(array)), len(plan.scoring.tracks))
    described["shape"][-1] = length
    described["dimension_names"][-1] = f"position_{name}"
    described["attributes"] = {"chrom": array}
    if array == PACK and pack:
        described["attributes"] = {
            "chroms": pack.chroms,
            "starts": pack.starts.tolist(),
            "lengths": pack.lengths.tolist(),
        }
    return described


def coordinates_of(plan: ScanPlan) -> dict[str, bytes]:
    """Return the objects of arrays that name the tracks, and their values, by key: xarray finds them.

    There are none if a chrom bears such a name. Positions have no array: they are the indices, 0-based.
    """
    names = {"track": [track.name for track in plan.scoring.tracks]}
    if plan.scoring.axis is not None:
        axis, of_axis = plan.scoring.axis
        names[axis] = list(of_axis)
    if names.keys() & set(map(node_name, plan.arrays)):
        return {}
    objects: dict[str, bytes] = {}
    for dimension, labels in names.items():
        objects |= labels_of(dimension, dimension, labels)
    return objects


def labels_of(name: str, dimension: str, labels: Sequence[str]) -> dict[str, bytes]:
    """Return the objects of an array of texts along a dimension, by key."""
    memory = MemoryStore()
    array = zarr.create_array(
        memory,
        shape=(len(labels),),
        chunks=(len(labels),),
        dtype=str,
        compressors=None,
        fill_value="",
        dimension_names=(dimension,),
    )
    array[:] = np.array(labels, dtype=object)
    return {f"{name}/{key}": value.to_bytes() for key, value in memory._store_dict.items()}


def encode_shard(plan: ScanPlan, block: Block, scores: NDArray[np.float32]) -> memoryview:
    """Return the object that Zarr itself would store for a block of a group of tracks.

    Parameters
    ----------
    plan : ScanPlan
    block : Block
    scores : float32 (T, len(block)), or (T, 4, len(block))
        As many tracks as a shard of the plan holds, or fewer in the last group.
    """
    layout = _layout(plan, plan.array_block_bp(block.chrom))
    n_past_end = layout.block_bp - len(block)

    def chunk(place: tuple[int, ...]) -> bytes:
        kept = rounded(scores[place], plan.keep_bits)
        padded = np.pad(kept, (0, n_past_end), constant_values=np.nan) if n_past_end else kept
        return compressed(padded, plan.codec)

    # Of the tracks that the last group lacks, the store's array has no chunk.
    present = places_in_order(scores.shape[:-1])
    return shard_of(((place, chunk(place)) for place in present), layout.grid, 4 * layout.block_bp)


def compressors(blosc: Mapping[str, Any]) -> tuple[BloscCodec, Crc32cCodec]:
    """Return how Zarr is told to compress chunks, and to check them."""
    return BloscCodec(**blosc, shuffle="bitshuffle"), Crc32cCodec()


def rounded(scores: NDArray[np.float32], keep_bits: int | None) -> NDArray[np.float32]:
    """Return scores with one NaN only, rounded to some bits of mantissa, half to even."""
    canonical = scores.astype(np.float32)
    canonical[np.isnan(canonical)] = np.nan
    if keep_bits is None or keep_bits == 23:
        return canonical
    drop = np.uint32(23 - keep_bits)
    bits = canonical.view(np.uint32)
    kept = bits >> drop
    kept &= np.uint32(1)
    kept += (np.uint32(1) << (drop - np.uint32(1))) - np.uint32(1)
    kept += bits
    kept &= np.uint32(0xFFFFFFFF) << drop
    # NaN and infinity stay, and so do the largest numbers, which would be rounded to infinity.
    return np.where(np.isfinite(kept.view(np.float32)), kept.view(np.float32), canonical)


class _Layout(NamedTuple):
    """How an array is cut.

    Attributes
    ----------
    n_tracks : int
        Of a shard.
    axis : tuple of str and tuple of str, or None
        See `Scoring.axis`.
    block_bp : int
    codec : {"lz4", "zstd"}
    """

    n_tracks: int
    axis: tuple[str, tuple[str, ...]] | None
    block_bp: int
    codec: Codec

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks a shard has, of tracks, and of values if each base has several."""
        return (self.n_tracks, len(self.axis[1])) if self.axis else (self.n_tracks,)

    def options(self) -> dict[str, Any]:
        """Return how Zarr is told to cut, compress and fill such an array."""
        return {
            "dtype": "float32",
            "shards": (*self.grid, self.block_bp),
            "chunks": (*(1 for _ in self.grid), self.block_bp),
            "compressors": compressors(BLOSC[self.codec]),
            "fill_value": float("nan"),
            "config": {"write_empty_chunks": True},
        }


def _layout(plan: ScanPlan, block_bp: int) -> _Layout:
    return _Layout(plan.tracks_per_shard, plan.scoring.axis, block_bp, plan.codec)


def _template(layout: _Layout, n_tracks: int) -> dict[str, Any]:
    """Return the metadata, as Zarr itself writes them, of an array that is laid out in some way."""
    described: dict[str, Any] = json.loads(_template_text(layout, n_tracks))
    return described


@lru_cache
def _template_text(layout: _Layout, n_tracks: int) -> str:
    memory = MemoryStore()
    values = {layout.axis[0]: len(layout.axis[1])} if layout.axis else {}
    axes = {"track": n_tracks, **values, "position": layout.block_bp}
    zarr.create_array(memory, shape=tuple(axes.values()), dimension_names=tuple(axes), **layout.options())
    return memory._store_dict[GROUP].to_bytes().decode()


def written_group(memory: MemoryStore, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group, as Zarr itself writes them."""
    zarr.create_group(memory, attributes=dict(attributes))
    described: dict[str, Any] = json.loads(memory._store_dict[GROUP].to_bytes())
    return described


def as_bytes(described: Mapping[str, Any]) -> bytes:
    """Return metadata as the content of an object."""
    return json.dumps(described, separators=(",", ":")).encode()


def fits_plan(array: "zarr.Array[Any]", plan: ScanPlan, name: str) -> bool:
    """Return whether an array that Zarr opened is the one that a plan has for a chrom, or the pack.

    One flipped bit in its shape or in the separator of its keys would make all of it seem empty.
    """
    present = array.metadata.to_buffer_dict(default_buffer_prototype())[GROUP].to_bytes()
    return is_equivalent(present, as_bytes(array_metadata(plan, name)))


def is_gathered(content: bytes | None) -> bool:
    """Return whether a group's metadata object holds that of its arrays, too.

    The key alone says nothing: before 3.1.4, Zarr wrote a null under it.
    """
    try:
        described = json.loads(content or b"")
    except (RecursionError, ValueError):
        return False
    return isinstance(described, dict) and bool(described.get("consolidated_metadata"))


def is_equivalent(present: bytes | None, expected: bytes) -> bool:
    """Return whether Zarr reads the same from two metadata objects, of which one may be another release's.

    Attributes that a user added are no difference.
    """
    try:
        if json.loads(present or b"") == json.loads(expected):
            return True
        theirs, ours = _as_read(present or b""), _as_read(expected)
    except Exception:  # bits at random can make Zarr fail in any way
        return False
    if theirs.keys() != ours.keys():
        return False
    for name, described in ours.items():
        attributes = theirs[name].pop("attributes")
        if any(attributes.get(key) != value for key, value in described.pop("attributes").items()):
            return False
    return theirs == ours


def _as_read(content: bytes) -> dict[str, dict[str, Any]]:
    """Return what Zarr makes of a metadata object: its own node, and those that are gathered in it."""
    prototype = default_buffer_prototype()
    memory = MemoryStore({GROUP: prototype.buffer.from_bytes(content)})
    written = zarr.open(memory, mode="r").metadata.to_buffer_dict(prototype)[GROUP]
    described: dict[str, Any] = json.loads(written.to_bytes())
    gathered = described.pop("consolidated_metadata", None) or {}
    return {"": described, **gathered.get("metadata", {})}


def _described(plan: ScanPlan) -> dict[str, Any]:
    """Return what a reader without this package needs to know."""
    scoring = plan.scoring
    kind = "TISM" if plan.selection is None else "exact ISM"
    n_models = n_joined(plan.weights_digest)
    return {
        "tracks": [track.to_json() for track in scoring.tracks],
        "values": {
            "mean": f"mean {kind}",
            "tism": f"{kind}, bases in A, C, G, T order",
            "mean+sd": f"mean {kind}, and its standard deviation (n - 1) over {n_models} models",
        }[scoring.values],
        "missing": "NaN: not A, C, G or T, not wanted, or not scored yet",
        "stride": scoring.stride,
        "stitch": scoring.stitch,
        "strands": scoring.strands,
        "output_space": scoring.output_space,
    } | ({} if scoring.path == ONE_GRADIENT else {"path": list(scoring.path)})


def node_name(chrom: str) -> str:
    """Return a chrom's name as an array's: what is not plain is written ``=XX``, as in e-mail.

    No two chroms share a name, and none leaves the store or hides its own files.
    """
    if _SAFE.fullmatch(chrom) and not chrom.startswith("__") and chrom != GROUP:
        return chrom
    raw = chrom.encode()
    # An empty name becomes "=".
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"={byte:02X}" for byte in raw) or "="
