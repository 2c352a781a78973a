"""What is done, what failed, and under which plan: small objects in ``.scan/``, beside the scores.

A finished shard has a marker, an object whose name holds the shard's address, size and CRC-32, and the plan.
It is empty, or names the kind of device that computed the shard if that is not the scan's first kind. The
marker is published after the shard, so a marker never promises what is not there. A marker or a failure of
another plan counts for nothing: who wrote it was stopped while another began the store anew. Nothing is ever
inferred from the scores themselves.
"""

import hashlib
import io
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tism_scan.errors import StoreError
from tism_scan.genome.spans import Spans
from tism_scan.plan.probes import Probes
from tism_scan.plan.scan_plan import NEWER_FORMAT, ScanPlan
from tism_scan.storage.folder import Content, Folder

ROOT = ".scan"
RUN_KEY = f"{ROOT}/run.json"
DONE = f"{ROOT}/done"
FAILED = f"{ROOT}/failed"
DEVICES = f"{ROOT}/devices"
FIRST_DEVICE = f"{DEVICES}/first.txt"
SPANS = f"{ROOT}/spans"
MOST_SPANS_IN_RECORD = 10_000  # more are kept as an array, beside it
_MARKER = re.compile(r"(\d+)\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f]{8})(?:\.([0-9a-f]{16}))?")
_LAST_UNSIGNED_FORMAT = 2  # up to which markers and failures did not name their plan


class ShardAddress(NamedTuple):
    """Which object of the store: positions of array, block and group of tracks.

    Arrays are numbered as the chroms of the genome; the pack of short ones comes after all of them.
    """

    i_array: int
    i_block: int
    i_group: int


class Checksum(NamedTuple):
    """Size in bytes and CRC-32 of an object.

    Not CRC32C: each part of a shard ends in its own, and the CRC32C of such parts is the same whatever is in
    them. It would still tell flipped bits, but not one shard from another of its layout and size.
    """

    size: int
    crc32: int


@dataclass(frozen=True)
class Failure:
    """A block that was given up.

    Attributes
    ----------
    chrom, i_block
        Which block.
    error : str
        What the last attempt ended with.
    n_attempts : int
    """

    chrom: str
    i_block: int
    error: str
    n_attempts: int


class Ledger:
    """The record of one scan, kept in a folder.

    Parameters
    ----------
    folder : Folder
        The store's root.
    signature : str, optional
        The first 16 digits of the plan's digest. Without it, only the plan can be read.
    """

    def __init__(self, folder: Folder, signature: str = "") -> None:
        self.folder, self.signature = folder, signature

    def start(self, plan: ScanPlan, provenance: Mapping[str, Any]) -> bool:
        """Record the plan unless one is recorded already, and return whether it was recorded.

        Parameters
        ----------
        plan : ScanPlan
        provenance : Mapping
            Versions and names for the record; they are no part of the plan.
        """
        planned = plan.to_json()
        if sum(map(len, plan.wanted.values())) > MOST_SPANS_IN_RECORD:
            content = spans_file(plan.wanted, tuple(plan.chroms))
            key = f"{SPANS}/{hashlib.sha256(content).hexdigest()}.npy"
            self.folder.put(key, content)
            planned |= {"format": max(NEWER_FORMAT, planned["format"]), "wanted": key}
        described: dict[str, Any] = {"digest": plan.digest(), "plan": planned, "provenance": dict(provenance)}
        if plan.probes is not None:  # beside the plan, where earlier releases do not mind it
            described["probes"] = plan.probes.to_json()
        return self.record(described)

    def record(self, described: Mapping[str, Any]) -> bool:
        """Record a plan with its digest unless one is recorded, and return whether it was recorded."""
        return self.folder.put_new(RUN_KEY, _in_lines(described).encode())

    def plan(self) -> ScanPlan | None:
        """Return the recorded plan, or None if nothing was started here.

        Raises
        ------
        StoreError
            If the record is damaged.
        """
        described = self.recorded()
        if described is None:
            return None
        try:
            planned = described["plan"]
            if "items" in planned:  # of `tism_scan.plan.parts`
                raise StoreError(
                    f"{self.folder.place} is a store of {planned['items']}; expected one that `tism-scan "
                    "run` made; name another"
                )
            if isinstance(planned.get("wanted"), str):
                planned = planned | {"wanted": self._spans(planned["wanted"], dict(planned["chroms"]))}
            plan = ScanPlan.from_json(planned)
            if "probes" in described:
                plan = replace(plan, probes=Probes.from_json(described["probes"]))
        except (AttributeError, EOFError, IndexError, KeyError, RecursionError, TypeError, ValueError):
            raise StoreError(f"{RUN_KEY} is damaged: its plan cannot be read; restore the file") from None
        if plan.digest() != described["digest"]:
            raise StoreError(f"{RUN_KEY} was altered: its plan does not fit its digest; restore the file")
        return plan

    def _spans(self, key: str, chroms: Mapping[str, int]) -> list[tuple[str, Spans]]:
        """Return what a file of spans holds.

        Raises
        ------
        StoreError
            If it is missing, or not the one that was recorded.
        """
        content = self.folder.get(key) if key.startswith(f"{SPANS}/") else None
        if content is None or key != f"{SPANS}/{hashlib.sha256(content).hexdigest()}.npy":
            fault = "is missing" if content is None else "is damaged"
            raise StoreError(f"{key} {fault}; expected the spans that {RUN_KEY} names; restore the file")
        return spans_of_file(content, tuple(chroms))

    def provenance(self) -> dict[str, Any]:
        """Return the versions and names that were recorded at the start; nothing if they cannot be read."""
        recorded = (self.recorded() or {}).get("provenance")
        return dict(recorded) if isinstance(recorded, dict) else {}

    def recorded(self) -> dict[str, Any] | None:
        """Return what was recorded at the start: ``plan``, ``digest`` and more; None if nothing was.

        Raises
        ------
        StoreError
            If the record is damaged.
        """
        content = self.folder.get(RUN_KEY)
        if content is None:
            return None
        try:
            described: dict[str, Any] = json.loads(content)
        except (RecursionError, ValueError):
            raise StoreError(f"{RUN_KEY} is damaged: it is not JSON; restore the file") from None
        if not isinstance(described, dict) or not {"digest", "plan"} <= described.keys():
            raise StoreError(f"{RUN_KEY} is damaged: it holds no plan; restore the file")
        return described

    def mark_done(self, address: ShardAddress, checksum: Checksum, device: str = "") -> None:
        """Record that a shard is published; call it only after the shard is.

        Parameters
        ----------
        address : ShardAddress
        checksum : Checksum
        device : str
            What `note_device` returned to the worker that computed it.
        """
        self.folder.put(f"{_marker_key(address, checksum)}.{self.signature}", device.encode())

    def device_of(self, address: ShardAddress, checksum: Checksum) -> str:
        """Return the kind of device that computed a shard; nothing if it was not recorded."""
        marker = self.folder.get(f"{_marker_key(address, checksum)}.{self.signature}")
        named = marker if marker is None or marker else self.folder.get(FIRST_DEVICE)
        return (named or b"").decode(errors="replace")

    def unmark(self, address: ShardAddress, checksum: Checksum) -> None:
        """Make a shard pending again."""
        self.folder.remove(f"{_marker_key(address, checksum)}.{self.signature}")
        if self._takes_unsigned:
            self.folder.remove(_marker_key(address, checksum))

    def done(self) -> dict[ShardAddress, list[Checksum]]:
        """Return the recorded checksums of every marked shard, from one listing.

        A shard that two workers published has one checksum or two.
        """
        marked: dict[ShardAddress, list[Checksum]] = {}
        for key in self.folder.sizes(DONE):
            found = _MARKER.fullmatch(key.rpartition("/")[2])
            if found and self._is_ours(found[6]):
                *address, size = map(int, found.groups()[:4])
                checksum = Checksum(size, int(found[5], 16))
                checksums = marked.setdefault(ShardAddress(*address), [])
                if checksum not in checksums:
                    checksums.append(checksum)
        return marked

    def foreign_markers(self) -> list[str]:
        """Return the keys of markers of other plans."""
        found = ((key, _MARKER.fullmatch(key.rpartition("/")[2])) for key in self.folder.sizes(DONE))
        return sorted(key for key, marker in found if marker and not self._is_ours(marker[6]))

    def _is_ours(self, signature: str | None) -> bool:
        """Return whether a record is of our plan, by what it bears."""
        return signature == self.signature if signature else self._takes_unsigned

    @cached_property
    def _takes_unsigned(self) -> bool:
        """Whether the store is of an earlier release, whose records bear no plan."""
        plan = (self.recorded() or {}).get("plan")
        return isinstance(plan, dict) and plan.get("format") == _LAST_UNSIGNED_FORMAT

    def mark_failed(self, i_array: int, failure: Failure) -> None:
        """Record that a block was given up."""
        described = asdict(failure) | {"plan": self.signature}
        self.folder.put(_failure_key(i_array, failure.i_block), json.dumps(described).encode())

    def forget_failure(self, i_array: int, i_block: int) -> None:
        """Make a failed block pending again."""
        self.folder.remove(_failure_key(i_array, i_block))

    def note_device(self, name: str) -> str:
        """Record that a kind of device computes blocks, and return what its markers are to say of it.

        Those of the first kind say nothing: most stores have one kind, and an empty object takes no room.
        """
        if not (self.folder.sizes(DEVICES) or self.folder.sizes(DONE)):  # of no earlier release
            self.folder.put_new(FIRST_DEVICE, name.encode())
        if self.folder.get(FIRST_DEVICE) == name.encode():
            return ""
        key = f"{DEVICES}/{hashlib.sha256(name.encode()).hexdigest()[:12]}.txt"
        if self.folder.get(key) is None:
            self.folder.put(key, name.encode())
        return name

    def devices(self) -> list[str]:
        """Return the kinds of devices that computed blocks."""
        contents = map(self.folder.get, self.folder.sizes(DEVICES))
        return sorted({content.decode(errors="replace") for content in contents if content})

    def failures(self) -> list[Failure]:
        """Return the blocks that were given up, ordered by chrom name and position.

        Raises
        ------
        StoreError
            If the record of one is damaged.
        """
        contents = {key: self.folder.get(key) for key in self.folder.sizes(FAILED)}
        found = [_failure(key, content) for key, content in contents.items() if content is not None]
        failures = [failure for failure, signature in found if self._is_ours(signature)]
        return sorted(failures, key=lambda failure: (failure.chrom, failure.i_block))

    def damaged_failures(self) -> list[str]:
        """Return the keys of records of failed blocks that cannot be read."""
        damaged = []
        for key in self.folder.sizes(FAILED):
            try:
                _failure(key, self.folder.get(key) or b"")
            except StoreError:
                damaged.append(key)
        return damaged


def checksum_of(content: Content) -> Checksum:
    """Return the size and CRC-32 of an object."""
    return Checksum(len(content), zlib.crc32(content))


def spans_file(wanted: Mapping[str, Spans], chroms: Sequence[str]) -> bytes:
    """Return the spans of some chroms as a file of NumPy's: int64 (n, 3), number of chrom, start and end."""
    number = {chrom: i for i, chrom in enumerate(chroms)}
    rows = [np.insert(spans.pairs(), 0, number[chrom], axis=1) for chrom, spans in wanted.items()]
    file = io.BytesIO()
    np.save(file, np.concatenate(rows))
    return file.getvalue()


def spans_of_file(content: bytes, chroms: Sequence[str]) -> list[tuple[str, Spans]]:
    """Return the spans of each chrom that `spans_file` put into a file."""
    rows = np.load(io.BytesIO(content))
    firsts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    parts = np.split(rows[:, 1:], firsts[1:])
    return [(chroms[i], Spans(part)) for i, part in zip(rows[firsts, 0].tolist(), parts, strict=True)]


def _failure(key: str, content: bytes) -> tuple[Failure, str]:
    """Return what the record of a failure holds, and which plan it bears."""
    try:
        described = json.loads(content)
        failure = Failure(
            str(described["chrom"]),
            int(described["i_block"]),
            str(described["error"]),
            int(described["n_attempts"]),
        )
        return failure, str(described.get("plan", ""))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise StoreError(
            f"{key} is damaged: it holds no failed block; remove this file, and its block is tried again"
        ) from None


def _in_lines(described: Mapping[str, Any]) -> str:
    """Return JSON with a line for each field; json.dumps with an indent is slow for a million spans."""
    fields = (
        (key, _in_lines(value) if isinstance(value, dict) else json.dumps(value))
        for key, value in described.items()
    )
    return "{" + ",".join(f"\n{json.dumps(key)}: {text}" for key, text in fields) + "\n}"


def _marker_key(address: ShardAddress, checksum: Checksum) -> str:
    return f"{DONE}/{'.'.join(map(str, address))}.{checksum.size}.{checksum.crc32:08x}"


def _failure_key(i_array: int, i_block: int) -> str:
    return f"{FAILED}/{i_array}.{i_block}.json"
