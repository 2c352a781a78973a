"""Which blocks a worker may still publish, when two workers compute the same one."""

import contextlib
import threading
from collections.abc import Hashable, Iterator


class Publishing:
    """Keeps a worker from publishing a block that another has published.

    Two devices round differently, so the second result would replace the first, and a worker that is ended
    between the scores and their marker would leave scores that do not fit the first one's marker. So the
    loser is told before it is ended.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now: set[Hashable] = set()
        self._abandoned: set[Hashable] = set()

    @contextlib.contextmanager
    def of(self, block: Hashable) -> Iterator[bool]:
        """Yield whether a block may be published, within this context and not later."""
        with self._changed:
            may_publish = block not in self._abandoned
            self._abandoned.discard(block)
            if may_publish:
                self._now.add(block)
        try:
            yield may_publish
        finally:
            with self._changed:
                self._now.discard(block)
                self._changed.notify_all()

    def abandon(self, block: Hashable) -> None:
        """Return when this worker will not touch a block's objects any more."""
        with self._changed:
            self._abandoned.add(block)
            self._changed.wait_for(lambda: block not in self._now)
