"""Results of a list, part by part, under a plan, so that the work on it can go on after an interruption.

A part is one object, of whatever bytes its worker makes, or those that a subclass names. Who may write,
what is done, and what failed are kept as for a store of scores, in ``.scan/``. Beside it, ``.scan/input/``
has what the workers read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Self

from tism_scan.errors import PlanError, StoreError
from tism_scan.plan.parts import Part, PartsPlan
from tism_scan.plan.probes import Probes
from tism_scan.storage.folder import Folder, open_folder, reading_threads
from tism_scan.storage.places import Place
from tism_scan.store.lease import Tenure
from tism_scan.store.ledger import ROOT, RUN_KEY, Checksum, Failure, Ledger, ShardAddress, checksum_of
from tism_scan.store.owned import OwnedStore

INPUT = f"{ROOT}/input"
PARTS = "parts"
_NONE_IS_THERE = "is not there, or holds no parts of results; run the command that makes them"


@dataclass(frozen=True)
class PartsInOrder:
    """Parts that are still to be computed.

    Attributes
    ----------
    parts : tuple of Part
    """

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Number of their items."""
        return sum(part.size for part in self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


class PartStore(OwnedStore[PartsPlan]):
    """The results of one list, and the record of what is done.

    Make one with `create`, or open one that exists with `open`.

    Attributes
    ----------
    folder : Folder
    plan : PartsPlan
    ledger : Ledger
    """

    items = ""  # what the list of a subclass is of, as its plan says
    roots: tuple[str, ...] = (PARTS,)  # where the objects of parts are
    deleted_last = (RUN_KEY, INPUT)  # while there is a record, its inputs are whole

    def __init__(self, folder: Folder, plan: PartsPlan) -> None:
        self.folder, self.plan = folder, plan
        self.ledger = Ledger(folder, plan.digest()[:16])

    @classmethod
    def create(
        cls,
        path: str | Place,
        plan: PartsPlan,
        inputs: Iterable[tuple[str, bytes]] = (),
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
    ) -> Self:
        """Return the store of a plan: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        path : str, Path or Url
            A folder that is absent, empty, or holds such a store; ``s3://bucket/prefix`` or
            ``gs://bucket/prefix`` for one in object storage.
        plan : PartsPlan
        inputs : iterable of (str, bytes)
            Names and contents of what the workers read with `read_input`; it is gone through, and kept, only
            if the store is new.
        provenance : Mapping, optional
            What to record, as JSON, beside the versions.
        overwrite : bool
            Delete the store that is there first.
        break_lock : bool
            Take the store even if another process seems to write it.

        Raises
        ------
        LeaseError
            If there is something to write, and another process is writing the store.
        StoreError
            If the folder cannot be written, holds something else, or results of another plan; every field
            that differs is named, with both values.
        StorageFullError
            If there is no room left.
        AccessError
            If there is no such bucket, or it may not be used.
        """
        store = cls(open_folder(path), plan)
        store._begin_unless_begun(
            lambda owned, described: owned._record(inputs, described),
            provenance,
            overwrite=overwrite,
            break_lock=break_lock,
        )
        return store

    @classmethod
    def open(cls, path: str | Place, tenure: Tenure | None = None) -> Self:
        """Return a store that exists.

        Parameters
        ----------
        path : str, Path or Url
        tenure : Tenure, optional
            Of the store's owner, to write in its name.

        Raises
        ------
        StoreError
            If there is none at this path, or its record is damaged.
        AccessError
            If there is no such bucket, or it may not be used.
        """
        folder = open_folder(path)
        plan = recorded_plan(Ledger(folder))
        if plan is None:
            raise StoreError(f"{folder.place} {_NONE_IS_THERE}")
        if cls.items not in ("", plan.items):
            raise StoreError(f"{folder.place} is a store of {plan.items}; expected one of {cls.items}")
        store = cls(folder, plan)
        return store if tenure is None else store._written_by(tenure)

    @property
    def size(self) -> int:
        """Number of items in the list."""
        return self.plan.n_items

    @property
    def has_small_units(self) -> bool:
        """Whether parts are small; how much a worker holds of them is not known here."""
        return False

    @property
    def counts(self) -> str:
        """What `size` counts."""
        return self.plan.items

    def read_input(self, name: str) -> bytes:
        """Return what was given to the workers under a name.

        Raises
        ------
        StoreError
            If it is missing.
        """
        content = self.folder.get(f"{INPUT}/{name}")
        if content is None:
            raise StoreError(f"{INPUT}/{name} is missing in {self.path}; delete that folder, and run again")
        return content

    def publish(self, part: Part, content: bytes, device: str = "") -> None:
        """Write the results of a part, durably, and mark it done; to publish it again is harmless.

        Parameters
        ----------
        part : Part
        content : bytes
        device : str
            What `Ledger.note_device` returned to who computed them.

        Raises
        ------
        StorageFullError
            If there is no room left; nothing is marked done then.
        """
        self._publish(part, [content], device)

    def _publish(self, part: Part, contents: Iterable[bytes], device: str) -> None:
        """Write the objects of a part, and mark each of them done."""
        for (address, key), content in zip(self.objects(part), contents, strict=True):
            self.folder.put(key, content)
            self.ledger.mark_done(address, checksum_of(content), device)

    def objects(self, part: Part) -> list[tuple[ShardAddress, str]]:
        """Return the address and the key of each object of a part."""
        return [(ShardAddress(0, part.i_part, 0), f"{PARTS}/{part.i_part:07d}")]

    def is_laid_out(self) -> bool:
        """Return whether all is there that has to be before the first part."""
        return True

    def lay_out(self) -> None:
        """Write, under a plan that is recorded, what has to be there before the first part."""

    def read(self, part: Part) -> bytes:
        """Return the results of a finished part.

        Raises
        ------
        StoreError
            If they are missing, or not what was published; the part is pending then.
        """
        contents = self._sound(part, self.ledger.done())
        if contents is None:
            raise self._damaged(part)
        return contents[0]

    def results(self) -> Iterator[tuple[Part, bytes | None]]:
        """Yield each part with its results, in the list's order; None for one that failed every attempt.

        Raises
        ------
        StoreError
            As `read`; also for a part that is pending.
        """
        marked, failed = self.ledger.done(), {failure.i_block for failure in self.ledger.failures()}
        for part in self.plan.parts():
            contents = self._sound(part, marked)
            if contents is None and part.i_part not in failed:
                raise self._damaged(part)
            yield part, None if contents is None else contents[0]

    def damaged(self, *, full: bool = True) -> list[Part]:
        """Return the finished parts that are damaged.

        Parameters
        ----------
        full : bool
            Whether every object is read and its checksum compared; otherwise sizes are, from listings.
        """
        marked, sizes = self.ledger.done(), self._sizes()
        parts = [part for part in self.plan.parts() if all(at in marked for at, _ in self.objects(part))]

        def is_damaged(part: Part) -> bool:
            has_sizes = self._has_sizes(part, marked, sizes)
            return (full or not has_sizes) and self._sound(part, marked) is None

        with reading_threads() as readers:
            return list(compress(parts, readers.map(is_damaged, parts)))

    def make_pending(self, part: Part, marked: Mapping[ShardAddress, Sequence[Checksum]]) -> None:
        """Have a part computed again; what is marked as done is given, since it takes a listing."""
        for address, _ in self.objects(part):
            for checksum in marked.get(address, ()):
                self.ledger.unmark(address, checksum)

    def pending(self, *, retry_failed: bool = False) -> Iterator[Part]:
        """Yield the parts that are still to be computed, in the list's order.

        Parameters
        ----------
        retry_failed : bool
            Whether parts that were given up count as pending, too.
        """
        sizes, marked = self._sizes(), self.ledger.done()
        failed = set() if retry_failed else {failure.i_block for failure in self.ledger.failures()}
        for part in self.plan.parts():
            if part.i_part not in failed and not self._has_sizes(part, marked, sizes):
                yield part

    def in_order(self, *, retry_failed: bool = False) -> PartsInOrder:
        """Return the parts that `pending` yields."""
        return PartsInOrder(tuple(self.pending(retry_failed=retry_failed)))

    def mark_failed(self, part: Part, error: str, n_attempts: int) -> None:
        """Record that a part was given up."""
        self.ledger.mark_failed(0, Failure(self.plan.items, part.i_part, error, n_attempts))

    def forget_failure(self, part: Part) -> None:
        """Forget that a part was given up."""
        self.ledger.forget_failure(0, part.i_part)

    def consolidate(self) -> None:
        """Do nothing: each part is whole by itself."""

    def _sizes(self) -> dict[str, int]:
        """Return the size of every object of the parts, by key, from listings."""
        return {key: size for root in self.roots for key, size in self.folder.sizes(root).items()}

    def _has_sizes(
        self, part: Part, marked: Mapping[ShardAddress, Sequence[Checksum]], sizes: Mapping[str, int]
    ) -> bool:
        """Return whether each object of a part is marked as done, and has the size that was recorded."""
        return all(
            any(checksum.size == sizes.get(key) for checksum in marked.get(address, ()))
            for address, key in self.objects(part)
        )

    def _sound(self, part: Part, marked: Mapping[ShardAddress, Sequence[Checksum]]) -> list[bytes] | None:
        """Return the objects of a part if they are what was published."""
        contents = []
        for address, key in self.objects(part):
            content, checksums = self.folder.get(key), marked.get(address, ())
            if content is None or checksum_of(content) not in checksums:
                return None
            contents.append(content)
        return contents

    def _damaged(self, part: Part) -> StoreError:
        """Make a part pending, and return the error that says so."""
        self.make_pending(part, self.ledger.done())
        return StoreError(f"{part} are missing or damaged in {self.path}; run the same command again")

    def _recorded_plan(self) -> PartsPlan | None:
        return recorded_plan(self.ledger)

    def _with_folder(self, folder: Folder) -> Self:
        return type(self)(folder, self.plan)

    def _record(self, inputs: Iterable[tuple[str, bytes]], provenance: Mapping[str, Any]) -> None:
        """Keep the inputs, and then record the plan: where there is one, the inputs are whole."""
        for name, content in inputs:
            self.folder.put(f"{INPUT}/{name}", content)
        described = {
            "digest": self.plan.digest(),
            "plan": self.plan.to_json(),
            "provenance": dict(provenance),
        }
        if self.plan.probes is not None:
            described["probes"] = self.plan.probes.to_json()
        self.ledger.record(described)


def recorded_plan(ledger: Ledger) -> PartsPlan | None:
    """Return the recorded plan, or None if there is none.

    Raises
    ------
    StoreError
        If the record is damaged, or that of a store of scores.
    """
    place = ledger.folder.place
    try:
        if isinstance(place, Path) and place.is_file():
            raise StoreError(f"{place} is a file; expected a folder")
        described = ledger.recorded()
        if described is None:
            return None
        plan = PartsPlan.from_json(described["plan"])
        probes = described.get("probes")
        if plan.digest() != described["digest"]:
            raise StoreError(f"{RUN_KEY} was altered: its plan does not fit its digest; restore the file")
        return plan if probes is None else plan.with_probes(Probes.from_json(probes))
    except OSError as error:
        raise StoreError(f"cannot read {place}: {error.strerror}; check who may read it") from None
    except PlanError as error:
        raise StoreError(f"{place} holds other results: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StoreError(f"{RUN_KEY} is damaged: its plan cannot be read; restore the file") from None
