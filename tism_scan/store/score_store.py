"""Scores on disk or in object storage: a Zarr v3 group with one array per chrom, written block by block.

An array holds float32 ``(track, position)``, ``(track, base, position)`` for all of TISM, or ``(track,
statistic, position)`` for mean and standard deviation, NaN where there is no score. One shard is one block of
a group of tracks; its inner chunks are one track (and value) wide, so that the export of one track reads its
own bytes only. Any Zarr v3 reader opens it.
"""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import PlanError, StoreError
from tism_scan.plan.order import WidestFirst
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block
from tism_scan.storage.folder import Folder, open_folder
from tism_scan.storage.places import Place
from tism_scan.store.arrays import (
    GROUP,
    coordinates_of,
    encode_shard,
    is_equivalent,
    is_gathered,
    metadata_of,
    node_name,
)
from tism_scan.store.lease import Tenure
from tism_scan.store.ledger import RUN_KEY, Checksum, Failure, Ledger, ShardAddress, checksum_of
from tism_scan.store.owned import OwnedStore
from tism_scan.store.reading import StoredScores

MAX_NODE_NAME = 200
_CHROMS_SHOWN = 5
METADATA_THREADS = 16


class ScoreStore(StoredScores, OwnedStore[ScanPlan]):
    """The scores of one scan, and the record of what is done.

    Make one with `create`, or open one that exists with `open`.

    Attributes
    ----------
    folder : Folder
        Where its objects are.
    plan : ScanPlan
    ledger : Ledger
    """

    def __init__(self, folder: Folder, plan: ScanPlan) -> None:
        super().__init__(folder, plan)
        self.ledger = Ledger(folder, plan.digest()[:16])

    @classmethod
    def create(
        cls,
        path: str | Place,
        plan: ScanPlan,
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
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
            What to record, as JSON, beside the versions.
        overwrite : bool
            Delete the store that is there first. Its lease is held until the new one exists, and stays.
        break_lock : bool
            Take the store even if another process seems to write it.

        Raises
        ------
        LeaseError
            If there is something to write, and another process is writing the store.
        StoreError
            If the folder cannot be written, holds something else, or a store that was made under another
            plan; every field that differs is named, with both values.
        StorageFullError
            If there is no room left.
        AccessError
            If there is no such bucket, or it may not be used.
        """
        folder = open_folder(path)
        plan = plan if overwrite else _as_recorded(plan, folder)
        _check_node_names(plan)
        plan.check_listable()
        store = cls(folder, plan)
        store._begin_unless_begun(
            lambda owned, described: owned.ledger.start(plan, described),
            provenance,
            overwrite=overwrite,
            break_lock=break_lock,
        )
        return store

    @classmethod
    def open(cls, path: str | Place, tenure: Tenure | None = None) -> "ScoreStore":
        """Return a store that exists.

        Parameters
        ----------
        path : str, Path or Url
        tenure : Tenure, optional
            Of the store's owner, to write in its name: see `held_by`.

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
            if isinstance(where, Path) and where.is_file():
                raise StoreError(f"{where} is a file; expected the folder that `tism-scan run` made")
            if not folder.is_there():
                raise StoreError(f"{where} is not there; expected a store that `tism-scan run` made")
            plan = Ledger(folder).plan()
        except OSError as error:
            raise StoreError(f"cannot read {where}: {error.strerror}; check who may read it") from None
        if plan is None:
            raise StoreError(f"{where} is not a store of scores: {RUN_KEY} is missing in it; check the path")
        store = cls(folder, plan)
        return store if tenure is None else store._written_by(tenure)

    def publish_block(self, block: Block, scores: NDArray[np.float32], device: str = "") -> None:
        """Write the scores of a block, durably, and mark it done.

        Publishing a block again, by this or another process, is harmless.

        Parameters
        ----------
        block : Block
        scores : float32 (T, len(block)), or (T, 4 or 2, len(block)) for ``values="tism"`` or "mean+sd"
            NaN where there is no score.
        device : str
            What `Ledger.note_device` returned to who computed them.

        Raises
        ------
        ValueError
            If the shape does not fit the block.
        StorageFullError
            If there is no room left; nothing is marked done then.
        """
        expected = (len(self.plan.scoring.tracks), *self._values, len(block))
        if scores.shape != expected:
            raise ValueError(f"scores of {block} have shape {scores.shape}, expected {expected}")
        for i_group in range(self.plan.n_shards_per_block):
            first = i_group * self.plan.tracks_per_shard
            shard = encode_shard(self.plan, block, scores[first : first + self.plan.tracks_per_shard])
            address = ShardAddress(self._i_array[block.chrom], block.i_block, i_group)
            self.folder.put(self.shard_key(address), shard)
            self.ledger.mark_done(address, checksum_of(shard), device)

    def device_of(self, block: Block) -> str:
        """Return the kind of device that computed a finished block; nothing if it was not recorded."""
        address = self.addresses(block)[0]
        shard = self.folder.get(self.shard_key(address))
        return "" if shard is None else self.ledger.device_of(address, checksum_of(shard))

    def done_blocks(
        self, marked: Mapping[ShardAddress, Sequence[Checksum]] | None = None
    ) -> set[tuple[str, int]]:
        """Return the array and position of every finished block, from listings and no reads.

        A block is finished if every shard of it has a marker, and an object of the marker's size.

        Parameters
        ----------
        marked : Mapping from ShardAddress to sequence of Checksum, optional
            What the ledger records as done, from `Ledger.done`; it is listed by default.
        """
        marked = self._marked(self.ledger.done() if marked is None else marked)
        sizes = self.shard_sizes({address.i_array for address in marked})
        n_done: dict[tuple[str, int], int] = {}
        for address, checksums in marked.items():
            size = sizes.get(self.shard_key(address))
            if any(checksum.size == size for checksum in checksums):
                block = (self._array_names[address.i_array], address.i_block)
                n_done[block] = n_done.get(block, 0) + 1
        return {block for block, n in n_done.items() if n == self.plan.n_shards_per_block}

    def pending(self, *, retry_failed: bool = False) -> Iterator[Block]:
        """Yield the blocks that are still to be computed, array by array.

        Parameters
        ----------
        retry_failed : bool
            Whether blocks that were given up count as pending, too.
        """
        skipped = self.done_blocks()
        if not retry_failed:
            skipped |= {(failure.chrom, failure.i_block) for failure in self.ledger.failures()}
        for block in self.plan.all_blocks():
            if (block.chrom, block.i_block) not in skipped:
                yield block

    def in_order(self, *, retry_failed: bool = False) -> WidestFirst:
        """Return the blocks that `pending` yields, those with most wanted bases first."""
        return WidestFirst(self.plan, self.pending(retry_failed=retry_failed))

    @property
    def size(self) -> int:
        """The sizes of all blocks that hold a wanted base, together."""
        return sum(block.size for block in self.plan.all_blocks())

    @property
    def has_small_units(self) -> bool:
        """Whether a block is one object."""
        return self.plan.n_shards_per_block == 1

    @property
    def counts(self) -> str:
        """What `size` counts."""
        return "bases"

    def check_complete(self, chroms: Collection[str]) -> None:
        """Raise unless every wanted block of some chroms is computed.

        Raises
        ------
        StoreError
            The chroms are named, with the number of their blocks that are missing.
        """
        asked = set(chroms)
        missing = Counter(
            chrom
            for block in self.pending(retry_failed=True)
            for chrom in self.plan.chroms_of(block)
            if chrom in asked
        )
        if missing:
            shown = [
                f"{chrom} ({n} block{'s' * (n > 1)})" for chrom, n in list(missing.items())[:_CHROMS_SHOWN]
            ]
            shown += ["..."] if len(missing) > _CHROMS_SHOWN else []
            command = "run" if self.plan.selection is None else "refine"
            raise StoreError(
                f"{self.path} is not complete: {', '.join(shown)} still to be computed; run the same "
                f"`tism-scan {command}` again, choose other --chroms, or add --allow-incomplete to leave gaps"
            )

    def mark_failed(self, block: Block, error: str, n_attempts: int) -> None:
        """Record that a block was given up."""
        failure = Failure(block.chrom, block.i_block, error, n_attempts)
        self.ledger.mark_failed(self._i_array[block.chrom], failure)

    def forget_failure(self, block: Block) -> None:
        """Forget that a block was given up."""
        self.ledger.forget_failure(self._i_array[block.chrom], block.i_block)

    def block_at(self, address: ShardAddress) -> Block | None:
        """Return the block that a shard belongs to, or None if the plan has no such shard."""
        if address.i_array >= len(self._array_names) or address.i_group >= self.plan.n_shards_per_block:
            return None
        return self.plan.block(self._array_names[address.i_array], address.i_block)

    def addresses(self, block: Block) -> list[ShardAddress]:
        """Return where the shards of a block are."""
        i_array = self._i_array[block.chrom]
        return [ShardAddress(i_array, block.i_block, i) for i in range(self.plan.n_shards_per_block)]

    def shard_key(self, address: ShardAddress) -> str:
        """Return the key of a shard's object."""
        values = "0/" * len(self._values)
        return f"{self._nodes[address.i_array]}/c/{address.i_group}/{values}{address.i_block}"

    def shard_sizes(self, i_arrays: Iterable[int]) -> dict[str, int]:
        """Return the size of every object of some arrays, by key, from listings."""
        sizes: dict[str, int] = {}
        for i_array in i_arrays:
            sizes |= self.folder.sizes(f"{self._nodes[i_array]}/c")
        return sizes

    def unsound_metadata(self) -> dict[str, bytes]:
        """Return what the plan asks for of each metadata object that is missing or says something else."""
        coordinates = self._coordinates()
        plain = metadata_of(self.plan, consolidated=False)
        gathered = metadata_of(self.plan, consolidated=True, coordinates=coordinates)
        unsound = {key: content for key, content in coordinates.items() if self.folder.get(key) != content}
        for key, content in plain.items():
            present = self.folder.get(key)
            expected = gathered[key] if is_gathered(present) else content
            if present != expected and not is_equivalent(present, expected):
                unsound[key] = content
        return unsound

    def is_laid_out(self) -> bool:
        """Return whether the arrays are there, whose group is published last."""
        return self.folder.get(GROUP) is not None

    def lay_out(self) -> None:
        """Write the names of tracks and bases, and what is missing of the arrays' metadata."""
        for key, content in coordinates_of(self.plan).items():
            self.folder.put(key, content)
        self._write_metadata(consolidated=False)

    def consolidate(self) -> None:
        """Gather the metadata of all arrays in the group's own, once, which saves readers a listing."""
        self._write_metadata(consolidated=True)

    def _marked(
        self, done: Mapping[ShardAddress, Sequence[Checksum]]
    ) -> dict[ShardAddress, Sequence[Checksum]]:
        """Return what is of the arrays of the plan."""
        return {address: sums for address, sums in done.items() if address.i_array < len(self._array_names)}

    def _recorded_plan(self) -> ScanPlan | None:
        return self.ledger.plan()

    def _with_folder(self, folder: Folder) -> "ScoreStore":
        return ScoreStore(folder, self.plan)

    def _write_metadata(self, *, consolidated: bool) -> None:
        """Publish what is missing of the arrays' and, last, the group's metadata."""
        coordinates = self._coordinates() if consolidated else {}
        metadata = metadata_of(self.plan, consolidated=consolidated, coordinates=coordinates)

        def publish(key: str) -> None:
            content, present = metadata[key], self.folder.get(key)
            # What is there stays: a user may have added attributes.
            if present is None or (is_gathered(content) and not is_gathered(present)):
                self.folder.put(key, content)

        with ThreadPoolExecutor(METADATA_THREADS) as threads:  # a genome may have hundreds of chroms
            for _ in threads.map(publish, metadata.keys() - {GROUP}):
                pass
        publish(GROUP)

    def _coordinates(self) -> dict[str, bytes]:
        """Return the objects that name tracks and bases, if the store has any; earlier releases made none."""
        objects = coordinates_of(self.plan)
        return objects if any(self.folder.get(key) is not None for key in objects) else {}


def _as_recorded(plan: ScanPlan, folder: Folder) -> ScanPlan:
    """Return a plan with what earlier releases chose otherwise as in the store that is there."""
    recorded = None
    with contextlib.suppress(OSError):  # the beginning of it says it better
        recorded = Ledger(folder).plan()
    if recorded is None:
        return plan
    plan = replace(plan, codec=recorded.codec)
    if plan.is_packed:
        in_arrays = replace(plan, is_packed=False)  # one for each short chrom
        if recorded.digest() == in_arrays.digest():
            return in_arrays
    return plan


def _check_node_names(plan: ScanPlan) -> None:
    too_long = [chrom for chrom in plan.arrays if len(node_name(chrom)) > MAX_NODE_NAME]
    if too_long:
        raise PlanError(
            f"the name of chrom {too_long[0][:40]!r}... is too long to be a file's; shorten it in the FASTA"
        )
