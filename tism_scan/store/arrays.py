"""A plan laid out as Zarr arrays: their names, their metadata, and the objects that their shards are."""

import json
import re
import warnings
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block

_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_COMPRESSORS = (BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=4), Crc32cCodec())


def metadata_of(plan: ScanPlan, *, consolidated: bool) -> dict[str, bytes]:
    """Return the metadata of a plan's group and arrays, by key.

    Parameters
    ----------
    plan : ScanPlan
    consolidated : bool
        Whether the group's gathers that of all arrays.
    """
    memory = MemoryStore()
    attributes = {"tism_scan": {"plan": plan.digest(), **_described(plan)}}
    group = zarr.create_group(memory, attributes=attributes)
    for chrom in plan.wanted:
        _create_array(group, plan, chrom)
    if consolidated:
        with warnings.catch_warnings():
            # It warns that other readers may pass over consolidated metadata, which does no harm.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(memory)
    return {key: buffer.to_bytes() for key, buffer in memory._store_dict.items()}


def encode_shard(plan: ScanPlan, block: Block, scores: NDArray[np.float32]) -> bytes:
    """Return the object that Zarr itself would store for a block of a group of tracks.

    Parameters
    ----------
    plan : ScanPlan
    block : Block
    scores : float32 (T, len(block)), or (T, 4, len(block))
        As many tracks as a shard of the plan holds, or fewer in the last group.
    """
    memory = MemoryStore()
    # Where the tracks or the chrom end within the shard, so does this array, as the store's own does.
    twin = zarr.create_array(memory, shape=scores.shape, **_layout(plan, plan.chrom_block_bp(block.chrom)))
    twin[:] = rounded(scores, plan.keep_bits)
    (key,) = (key for key in memory._store_dict if key != "zarr.json")
    return memory._store_dict[key].to_bytes()


def rounded(scores: NDArray[np.float32], keep_bits: int | None) -> NDArray[np.float32]:
    """Return scores with one NaN only, rounded to some bits of mantissa, half to even."""
    canonical = np.where(np.isnan(scores), np.float32(np.nan), scores).astype(np.float32)
    if keep_bits is None or keep_bits == 23:
        return canonical
    drop = 23 - keep_bits
    bits = canonical.view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((bits >> np.uint32(drop)) & np.uint32(1))
    kept = (((bits + half) >> np.uint32(drop)) << np.uint32(drop)).view(np.float32)
    # NaN and infinity stay, and so do the largest numbers, which would be rounded to infinity.
    return np.where(np.isfinite(kept), kept, canonical)


def _layout(plan: ScanPlan, block_bp: int) -> dict[str, Any]:
    """Return how the arrays of a chrom are cut, compressed and filled."""
    bases = (4,) if plan.scoring.values == "tism" else ()
    return {
        "dtype": "float32",
        "shards": (plan.tracks_per_shard, *bases, block_bp),
        "chunks": (1, *(1 for _ in bases), block_bp),
        "compressors": _COMPRESSORS,
        "fill_value": float("nan"),
        "config": {"write_empty_chunks": True},
    }


def _create_array(group: zarr.Group, plan: ScanPlan, chrom: str) -> None:
    """Add the array of a chrom to a group.

    The position's dimension bears the chrom's name: dimensions of one name and several lengths would keep
    xarray from opening the group.
    """
    name = node_name(chrom)
    bases = {"base": 4} if plan.scoring.values == "tism" else {}
    axes = {"track": len(plan.scoring.tracks), **bases, f"position_{name}": plan.chroms[chrom]}
    group.create_array(
        name,
        shape=tuple(axes.values()),
        dimension_names=tuple(axes),
        attributes={"chrom": chrom},
        **_layout(plan, plan.chrom_block_bp(chrom)),
    )


def fits_plan(array: "zarr.Array[Any]", plan: ScanPlan, chrom: str) -> bool:
    """Return whether an array that Zarr opened is the one that a plan has for a chrom.

    One flipped bit in its shape or in the separator of its keys would make all of it seem empty.
    """
    twin = zarr.create_group(MemoryStore())
    _create_array(twin, plan, chrom)
    present, expected = (
        each.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()
        for each in (array, twin[node_name(chrom)])
    )
    return is_equivalent(present, expected)


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
    memory = MemoryStore({"zarr.json": prototype.buffer.from_bytes(content)})
    written = zarr.open(memory, mode="r").metadata.to_buffer_dict(prototype)["zarr.json"]
    described: dict[str, Any] = json.loads(written.to_bytes())
    gathered = described.pop("consolidated_metadata", None) or {}
    return {"": described, **gathered.get("metadata", {})}


def _described(plan: ScanPlan) -> dict[str, Any]:
    """Return what a reader without this package needs to know."""
    scoring = plan.scoring
    return {
        "tracks": [track.to_json() for track in scoring.tracks],
        "values": "mean TISM" if scoring.values == "mean" else "TISM, bases in A, C, G, T order",
        "missing": "NaN: not A, C, G or T, not wanted, or not scored yet",
        "stride": scoring.stride,
        "stitch": scoring.stitch,
        "strands": scoring.strands,
        "output_space": scoring.output_space,
    }


def node_name(chrom: str) -> str:
    """Return a chrom's name as an array's: what is not plain is written ``=XX``, as in e-mail.

    No two chroms share a name, and none leaves the store or hides its own files.
    """
    if _SAFE.fullmatch(chrom) and not chrom.startswith("__") and chrom != "zarr.json":
        return chrom
    raw = chrom.encode()
    # An empty name becomes "=".
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"={byte:02X}" for byte in raw) or "="
