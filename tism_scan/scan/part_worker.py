"""What computes the parts of a list."""

import time
from abc import abstractmethod
from functools import partial
from typing import ClassVar, Generic, TypeVar

from tism_scan.plan.parts import Part
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.worker import E, Worker
from tism_scan.store.parts import PartStore

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class PartWorker(Worker[Part, E], Generic[E, I, R]):
    """Turns parts into published results. A subclass says what is read, computed of it, and published."""

    store: PartStore
    store_class: ClassVar[type[PartStore]] = PartStore

    def open_store(self) -> PartStore:
        """Return the driver's store."""
        self.store = self.store_class.open(self.setup.store, self.setup.tenure)
        return self.store

    @abstractmethod
    def fetch(self, part: Part) -> I:
        """Return what a part is computed of, while the model may work on another."""

    @abstractmethod
    def compute(self, fetched: I) -> tuple[R, int]:
        """Return a part's results, and how many of its items were computed; called in the model's thread."""

    @abstractmethod
    def publish(self, part: Part, results: R) -> None:
        """Write the results of a part into the store."""

    def process(self, part: Part) -> BlockReport:
        """Compute a part and publish it, unless `abandon` was called for it.

        Raises
        ------
        LeaseError
            If the store is not the driver's any more; nothing is published then.
        """
        fetched, began = self.fetch(part), time.monotonic()
        results, n_computed = self._computed(part, partial(self.compute, fetched))
        report = BlockReport(part, n_computed, time.monotonic() - began)
        self._publish(part, partial(self.publish, part, results))
        return report
