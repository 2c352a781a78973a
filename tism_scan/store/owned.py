"""A store that one process at a time writes, under a plan that is recorded in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

from tism_scan.errors import StoreError
from tism_scan.plan.probes import Probes
from tism_scan.plan.scoring import Scoring
from tism_scan.storage.folder import Folder
from tism_scan.storage.places import Place, Url
from tism_scan.store.lease import LEASE, Lease, Tenure
from tism_scan.store.ledger import ROOT, RUN_KEY, Ledger
from tism_scan.store.provenance import versions, warn_of_other_versions


class RecordedPlan(Protocol):
    """What is asked of a plan that another is compared with."""

    @property
    def scoring(self) -> Scoring: ...  # noqa: D102

    @property
    def probes(self) -> Probes | None: ...  # noqa: D102

    def digest(self) -> str: ...  # noqa: D102

    def differences(self, other: Self, /) -> list[str]: ...  # noqa: D102


P = TypeVar("P", bound=RecordedPlan)


class OwnedStore(ABC, Generic[P]):
    """What stores of any plan have in common: who may write them, and which plan they are of.

    Attributes
    ----------
    folder : Folder
    plan : P
    ledger : Ledger
    """

    folder: Folder
    plan: P
    ledger: Ledger
    deleted_last: tuple[str, ...] = (RUN_KEY,)

    @property
    def path(self) -> Place:
        """Where it is."""
        return self.folder.place

    @abstractmethod
    def _recorded_plan(self) -> P | None:
        """Return the plan that is recorded, or None if none is."""

    @abstractmethod
    def _with_folder(self, folder: Folder) -> Self:
        """Return the same store in a folder that is for its owner."""

    @abstractmethod
    def is_laid_out(self) -> bool:
        """Return whether all that a new store holds beside its record is there."""

    @abstractmethod
    def lay_out(self) -> None:
        """Write, under a plan that is recorded, what a new store holds beside its record."""

    def _begin_unless_begun(
        self,
        record: Callable[[Self, Mapping[str, Any]], object],
        provenance: Mapping[str, Any] | None,
        *,
        overwrite: bool,
        break_lock: bool,
    ) -> None:
        """Make the store if it is not there yet, or not whole, under its lease.

        Parameters
        ----------
        record : callable
            Records the plan, in this store in the name of the lease's owner, with the versions and the
            provenance.
        provenance : Mapping or None
            What is recorded beside the versions.
        overwrite : bool
            Delete what is there first.
        break_lock : bool
            Take it even if another process seems to write it.

        Raises
        ------
        LeaseError
            If there is something to write, and another process is writing the store.
        StoreError
            If the folder cannot be written, holds something else, or a store of another plan.
        """
        now = versions()
        try:
            _refuse_foreign(self.folder)
            if overwrite or not self._is_recorded() or not self.is_laid_out():
                with Lease(self.folder).acquire(break_lock=break_lock) as lease:
                    owned = self._written_by(lease.tenure)
                    if overwrite:
                        owned.delete()
                    if not owned._is_recorded():  # nor by another process, since we looked
                        record(owned, now | dict(provenance or {}))
                    owned.lay_out()
        except OSError as error:
            raise StoreError(f"cannot write to {self.path}: {error.strerror}; choose another --out") from None
        warn_of_other_versions(self.ledger.provenance(), now)

    def held_by(self, tenure: Tenure) -> Self:
        """Return the store for writing in the name of its owner; once another takes it, LeaseError is raised.

        Parameters
        ----------
        tenure : Tenure
            Of the store's `Lease`.

        Raises
        ------
        StoreError
            If the store was deleted, or begun anew under another plan, since it was opened.
        """
        if not self._is_recorded():
            raise StoreError(f"{self.path} was deleted while it was about to be written; run the same again")
        return self._written_by(tenure)

    def _written_by(self, tenure: Tenure) -> Self:
        return self._with_folder(self.folder.fenced(partial(tenure.check, self.folder)))

    def delete(self) -> None:
        """Delete the store, its record late, so that a deletion that was cut short can be repeated.

        The record of who may write stays, so that who wrote until now does not write into the next store.

        Raises
        ------
        StoreError
            If a file of it cannot be deleted.
        """
        try:
            self.folder.clear(last=self.deleted_last, kept=LEASE)
        except OSError as error:
            raise StoreError(f"cannot delete {self.path}: {error.strerror}; delete it by hand") from None

    def _is_recorded(self) -> bool:
        """Return whether there is a plan; raise if it is not ours."""
        recorded = self._recorded_plan()
        if recorded is not None and recorded.digest() != self.plan.digest():
            raise StoreError(
                f"{self.path} was made under another plan: {'; '.join(recorded.differences(self.plan))}; use "
                "the same settings, another --out, or --overwrite"
            )
        if recorded is not None and recorded.probes is not None and self.plan.probes is not None:
            difference = recorded.probes.difference(self.plan.probes, self.plan.scoring.tracks)
            if difference is not None:
                raise StoreError(
                    f"{self.path} was made with a model that computes something else: {difference}; use the "
                    "code that made it, another --out, or --overwrite"
                )
        return recorded is not None


def _refuse_foreign(folder: Folder) -> None:
    """Raise if a folder holds anything that is not a store of ours."""
    if not folder.is_there() and isinstance(folder.place, Url):
        return
    found = folder.stranger(own=ROOT)
    if found is not None and folder.get(RUN_KEY) is None:
        raise StoreError(f"{folder.place} holds other files ({found}, ...); choose another --out or empty it")
