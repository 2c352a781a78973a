"""Scores on disk or in object storage: a Zarr v3 group with one array per chrom, written block by block.

An array holds float32 ``(track, position)``, or ``(track, base, position)`` for all of TISM, NaN where there
is no score. One shard is one block of a group of tracks; its inner chunks are one track (and base) wide, so
that the export of one track reads its own bytes only. Any Zarr v3 reader opens it.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, MemoryStore, ObjectStore

from tism_scan.errors import PlanError, StoreError
from tism_scan.folder import Folder, open_folder
from tism_scan.ledger import ROOT, RUN_KEY, Checksum, Failure, Ledger, ShardAddress
from tism_scan.object_storage import ObjectFolder
from tism_scan.places import Place, Url
from tism_scan.plan import ScanPlan
from tism_scan.tiling import Block

MAX_NODE_NAME = 200
METADATA_THREADS = 16
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_COMPRESSORS = (BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=4), Crc32cCodec())


class ScoreStore:
    """The scores of one scan, and the record of what is done.

    Make one with `create`, or open one that exists with `open`.

    Attributes
    ----------
    folder : Folder
        Where its objects are.
    plan : ScanPlan
    ledger : Ledger
    """

    def __init__(self, path: str | Place, plan: ScanPlan) -> None:
        self.plan = plan
        self.folder = open_folder(path)
        self.ledger = Ledger(self.folder)
        self._chroms = tuple(plan.chroms)
        self._i_chrom = {chrom: i for i, chrom in enumerate(self._chroms)}
        self._nodes = tuple(map(_node_name, self._chroms))
        self._group: zarr.Group | None = None

    @property
    def path(self) -> Place:
        """Where the store is, for every process: an absolute path, or a URL."""
        return self.folder.place

    @classmethod
    def create(
        cls, path: str | Place, plan: ScanPlan, provenance: Mapping[str, Any] | None = None
    ) -> "ScoreStore":
        """Return the store of a plan: a new one, or the one that is there if its plan is equal.

        Call it in the driver, before any worker starts. It may be called again after an interruption at any
        point.

        Parameters
        ----------
        path : str, Path or Url
            A folder that is absent, empty, or holds a store; ``s3://bucket/prefix`` or
            ``gs://bucket/prefix`` for one in object storage.
        plan : ScanPlan
        provenance : Mapping, optional
            Versions and names for the record.

        Raises
        ------
        StoreError
            If the folder cannot be written, holds something else, or a store that was made under another
            plan; every field that differs is named, with both values.
        StorageFullError
            If there is no room left.
        AccessError
            If there is no such bucket, or it may not be used.
        """
        _check_node_names(plan)
        store = cls(path, plan)
        try:
            _refuse_foreign(store.folder)
            if not store.ledger.start(plan, provenance or {}):
                store._refuse_other_plan()
            store._write_metadata(consolidated=False)
        except OSError as error:
            raise StoreError(
                f"cannot write to {store.path}: {error.strerror}; choose another --out"
            ) from None
        return store

    @classmethod
    def open(cls, path: str | Place) -> "ScoreStore":
        """Return a store that exists.

        Raises
        ------
        StoreError
            If there is none at this path, or its record is damaged.
        AccessError
            If there is no such bucket, or it may not be used.
        """
        folder = open_folder(path)
        where = folder.place
        try:
            if not folder.is_there():
                raise StoreError(f"{where} is not there; expected a store that `tism-scan run` made")
            plan = Ledger(folder).plan()
        except OSError as error:
            raise StoreError(f"cannot read {where}: {error.strerror}; check who may read it") from None
        if plan is None:
            raise StoreError(f"{where} is not a store of scores: {RUN_KEY} is missing in it; check the path")
        return cls(where, plan)

    def delete(self) -> None:
        """Delete the store, its record last, so that a deletion that was cut short can be repeated.

        Raises
        ------
        StoreError
            If a file of it cannot be deleted.
        """
        try:
            self.folder.clear(last=RUN_KEY)
        except OSError as error:
            raise StoreError(f"cannot delete {self.path}: {error.strerror}; delete it by hand") from None

    def publish_block(self, block: Block, scores: NDArray[np.float32]) -> None:
        """Write the scores of a block, durably, and mark it done.

        Publishing a block again, by this or another process, is harmless.

        Parameters
        ----------
        block : Block
        scores : float32 (T, len(block)), or (T, 4, len(block)) for ``values="tism"``
            NaN where there is no score.

        Raises
        ------
        ValueError
            If the shape does not fit the block.
        StorageFullError
            If there is no room left; nothing is marked done then.
        """
        expected = (len(self.plan.scoring.tracks), *self._bases, len(block))
        if scores.shape != expected:
            raise ValueError(f"scores of {block} have shape {scores.shape}, expected {expected}")
        for i_group in range(self.plan.n_shards_per_block):
            first = i_group * self.plan.tracks_per_shard
            shard = encode_shard(self.plan, block, scores[first : first + self.plan.tracks_per_shard])
            address = ShardAddress(self._i_chrom[block.chrom], block.i_block, i_group)
            self.folder.put(self._shard_key(address), shard)
            self.ledger.mark_done(address, _checksum(shard))

    def done_blocks(self) -> set[tuple[str, int]]:
        """Return the chrom and position of every finished block, from listings and no reads.

        A block is finished if every shard of it has a marker, and an object of the marker's size.
        """
        marked = self._marked()
        sizes: dict[str, int] = {}
        for i_chrom in {address.i_chrom for address in marked}:
            sizes |= self.folder.sizes(f"{self._nodes[i_chrom]}/c")
        n_done: dict[tuple[str, int], int] = {}
        for address, checksums in marked.items():
            size = sizes.get(self._shard_key(address))
            if any(checksum.size == size for checksum in checksums):
                block = (self._chroms[address.i_chrom], address.i_block)
                n_done[block] = n_done.get(block, 0) + 1
        return {block for block, n in n_done.items() if n == self.plan.n_shards_per_block}

    def pending(self, *, retry_failed: bool = False) -> Iterator[Block]:
        """Yield the blocks that are still to be computed, chrom by chrom.

        Parameters
        ----------
        retry_failed : bool
            Whether blocks that were given up count as pending, too.
        """
        passed_by = self.done_blocks()
        if not retry_failed:
            passed_by |= {(failure.chrom, failure.i_block) for failure in self.ledger.failures()}
        for block in self.plan.all_blocks():
            if (block.chrom, block.i_block) not in passed_by:
                yield block

    def mark_failed(self, block: Block, error: str, n_attempts: int) -> None:
        """Record that a block was given up."""
        failure = Failure(block.chrom, block.i_block, error, n_attempts)
        self.ledger.mark_failed(self._i_chrom[block.chrom], failure)

    def forget_failure(self, block: Block) -> None:
        """Forget that a block was given up."""
        self.ledger.forget_failure(self._i_chrom[block.chrom], block)

    def verify(self) -> list[Block]:
        """Return the blocks whose objects are damaged, and make them pending again.

        Every marked object is read and compared with its marker.
        """
        damaged: dict[Block, None] = {}
        for address, checksums in sorted(self._marked().items()):
            shard = self.folder.get(self._shard_key(address))
            if shard is not None and _checksum(shard) in checksums:
                continue
            for checksum in checksums:
                self.ledger.unmark(address, checksum)
            chrom = self._chroms[address.i_chrom]
            block_bp = self.plan.chrom_block_bp(chrom)
            lattice = self.plan.scoring.lattice
            damaged[lattice.block(chrom, self.plan.chroms[chrom], block_bp, address.i_block)] = None
        return list(damaged)

    def consolidate(self) -> None:
        """Gather the metadata of all arrays in the group's own, which saves readers a listing."""
        self._write_metadata(consolidated=True)

    def read(self, chrom: str, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return mean TISM of one track, float32 (end - start,), NaN where there is no score.

        Raises
        ------
        StoreError
            If an object of the store is damaged.
        AccessError, StorageError
            If object storage refuses, or does not answer.
        """
        if chrom not in self.plan.wanted:
            return np.full(end - start, np.nan, dtype=np.float32)
        try:
            with self.folder.explained(self._nodes[self._i_chrom[chrom]]):
                scores = np.asarray(self._array(chrom)[i_track, ..., start:end], dtype=np.float32)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"{self.path} is damaged at {chrom}:{start + 1:,}-{end:,} ({error}); run `tism-scan verify`, "
                "then the same `tism-scan run` again"
            ) from None
        return scores if scores.ndim == 1 else -scores.sum(axis=0) / np.float32(3)

    @property
    def _bases(self) -> tuple[int, ...]:
        """Return the lengths of the axes between track and position."""
        return (4,) if self.plan.scoring.values == "tism" else ()

    def _marked(self) -> dict[ShardAddress, list[Checksum]]:
        """Return what the ledger records as done, of the chroms of the plan."""
        done = self.ledger.done()
        return {address: sums for address, sums in done.items() if address.i_chrom < len(self._chroms)}

    def _refuse_other_plan(self) -> None:
        """Raise if the recorded plan is not ours."""
        recorded = self.ledger.plan()
        if recorded is not None and recorded.digest() != self.plan.digest():
            raise StoreError(
                f"{self.path} was made under another plan: {'; '.join(recorded.differences(self.plan))}; use "
                "the same settings, another --out, or --overwrite"
            )

    def _array(self, chrom: str) -> "zarr.Array[Any]":
        if self._group is None:
            self._group = zarr.open_group(_reading(self.folder), mode="r")
        array = self._group[self._nodes[self._i_chrom[chrom]]]
        if not isinstance(array, zarr.Array):
            raise StoreError(f"{self.path} is damaged: {chrom} is no array in it; restore its zarr.json")
        return array

    def _shard_key(self, address: ShardAddress) -> str:
        bases = "0/" * len(self._bases)
        return f"{self._nodes[address.i_chrom]}/c/{address.i_group}/{bases}{address.i_block}"

    def _write_metadata(self, *, consolidated: bool) -> None:
        """Publish what is missing of the group's and the arrays' metadata."""
        memory = MemoryStore()
        attributes = {"tism_scan": {"plan": self.plan.digest(), **_described(self.plan)}}
        group = zarr.create_group(memory, attributes=attributes)
        for chrom in self.plan.wanted:
            _create_array(group, self.plan, chrom)
        if consolidated:
            with warnings.catch_warnings():
                # It warns that other readers may pass over consolidated metadata, which does no harm.
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(memory)

        def publish(key: str) -> None:
            content, present = memory._store_dict[key].to_bytes(), self.folder.get(key)
            if present is None or (consolidated and present != content):
                self.folder.put(key, content)

        with ThreadPoolExecutor(METADATA_THREADS) as threads:  # a genome may have hundreds of chroms
            for _ in threads.map(publish, memory._store_dict):
                pass


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
    twin[:] = _rounded(scores, plan.keep_bits)
    (key,) = (key for key in memory._store_dict if key != "zarr.json")
    return memory._store_dict[key].to_bytes()


def _rounded(scores: NDArray[np.float32], keep_bits: int | None) -> NDArray[np.float32]:
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


def _checksum(content: bytes) -> Checksum:
    return Checksum(len(content), google_crc32c.value(content))


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
    name = _node_name(chrom)
    bases = {"base": 4} if plan.scoring.values == "tism" else {}
    axes = {"track": len(plan.scoring.tracks), **bases, f"position_{name}": plan.chroms[chrom]}
    group.create_array(
        name,
        shape=tuple(axes.values()),
        dimension_names=tuple(axes),
        attributes={"chrom": chrom},
        **_layout(plan, plan.chrom_block_bp(chrom)),
    )


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


def _node_name(chrom: str) -> str:
    """Return a chrom's name as an array's: what is not plain is written ``=XX``, as in e-mail.

    No two chroms share a name, and none leaves the store or hides its own files.
    """
    if _SAFE.fullmatch(chrom) and not chrom.startswith("__") and chrom != "zarr.json":
        return chrom
    raw = chrom.encode()
    # An equals sign alone is the name of nothing.
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"={byte:02X}" for byte in raw) or "="


def _check_node_names(plan: ScanPlan) -> None:
    too_long = [chrom for chrom in plan.wanted if len(_node_name(chrom)) > MAX_NODE_NAME]
    if too_long:
        raise PlanError(
            f"the name of chrom {too_long[0][:40]!r}... is too long to be a file's; shorten it in the FASTA"
        )


def _refuse_foreign(folder: Folder) -> None:
    """Raise if a folder holds anything that is not a store of ours."""
    if not folder.is_there() and isinstance(folder.place, Url):
        return
    found = folder.stranger(own=ROOT)
    if found is not None and folder.get(RUN_KEY) is None:
        raise StoreError(f"{folder.place} holds other files ({found}, ...); choose another --out or empty it")


def _reading(folder: Folder) -> LocalStore | ObjectStore[Any]:
    """Return a folder as Zarr reads it."""
    if isinstance(folder, ObjectFolder):
        return ObjectStore(folder.client, read_only=True)
    return LocalStore(Path(str(folder.place)), read_only=True)
