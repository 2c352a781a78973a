"""What the loop that computes, on Ray or in one process, asks of a store and of what it is made of.

A scan's store of blocks is one such work. A list whose results are kept in parts is another: see
`tism_scan.store.parts`.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Protocol, Self, TypeVar

from tism_scan.plan.probes import Probes
from tism_scan.plan.scoring import Scoring
from tism_scan.storage.folder import Folder
from tism_scan.storage.places import Place
from tism_scan.store.lease import Tenure
from tism_scan.store.ledger import Ledger


class Unit(Hashable, Protocol):
    """What is computed, published and resumed as one; as text, what users read of it."""

    @property
    def size(self) -> int:
        """How much of the work it is: bases, or whatever the work counts."""
        ...


U = TypeVar("U", bound=Unit)
U_co = TypeVar("U_co", bound=Unit, covariant=True)


class Units(Protocol[U_co]):
    """Units in the order in which they are to be computed, without all of them in memory."""

    @property
    def size(self) -> int:
        """The sum of their sizes."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[U_co]: ...


class Plan(Protocol):
    """The identity of a work: what its numbers depend on."""

    @property
    def scoring(self) -> Scoring:
        """Tracks, windows and strands."""
        ...

    @property
    def genome_digest(self) -> str:
        """SHA-256 of the FASTA."""
        ...

    @property
    def chroms(self) -> Mapping[str, int]:
        """Every chrom of the genome and its length, bp."""
        ...

    @property
    def model(self) -> str:
        """Name of the network."""
        ...

    @property
    def weights_digest(self) -> str:
        """SHA-256 of its weights."""
        ...

    @property
    def probes(self) -> Probes | None:
        """What the model computes on two fixed windows."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 of all that the numbers depend on."""
        ...


class Work(Protocol[U]):
    """A store that is computed unit by unit, by one driver at a time."""

    folder: Folder
    ledger: Ledger

    @property
    def path(self) -> Place:
        """Where it is."""
        ...

    @property
    def plan(self) -> Plan:
        """Its identity."""
        ...

    @property
    def size(self) -> int:
        """The sum of the sizes of all its units."""
        ...

    @property
    def counts(self) -> str:
        """What sizes count, in the plural."""
        ...

    @property
    def has_small_units(self) -> bool:
        """Whether the results of a few units fit into any node's memory beside each other."""
        ...

    def held_by(self, tenure: Tenure) -> Self:
        """Return it for writing in the name of its owner."""
        ...

    def pending(self, *, retry_failed: bool = False) -> Iterator[U]:
        """Yield the units that are still to be computed."""
        ...

    def in_order(self, *, retry_failed: bool = False) -> Units[U]:
        """Return the units that are still to be computed, in the order that is best for many workers."""
        ...

    def mark_failed(self, unit: U, error: str, n_attempts: int, /) -> None:
        """Record that a unit was given up."""
        ...

    def forget_failure(self, unit: U, /) -> None:
        """Forget that a unit was given up."""
        ...

    def consolidate(self) -> None:
        """Do what is left to do once no unit is pending."""
        ...
