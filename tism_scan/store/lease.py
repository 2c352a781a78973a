"""One driver at a time: a lease with a generation number and a nonce, kept beside the scores.

The holder of the highest generation owns the store. A new generation is made with an exclusive create, so of
several takers one wins. Generations never restart: the lease outlives the store's deletion, and the nonce
tells its owner from one that begins at 1 after somebody removed the folder by hand.

The owner's heartbeat rewrites its object; one that has not changed for three minutes on the taker's own
clock, or whose process is gone from this very host, is taken over. Whoever writes for the owner makes sure
that it still is one (`Tenure.check`) with each object that is published.
"""

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import TracebackType

import psutil

from tism_scan.errors import LeaseError, ReadOnlyError, TismScanError
from tism_scan.storage.folder import Folder
from tism_scan.storage.hosts import this_host
from tism_scan.storage.read_only import reason_of_refusal
from tism_scan.store.ledger import ROOT

HEARTBEAT_S = 30.0
STALE_S = 180.0
LEASE = f"{ROOT}/lease"
_NAME = re.compile(rf"{LEASE}/([0-9]+)\.json")

# Nonces of what this process gave back: on a full disk the record may not say so.
_GIVEN_BACK: set[str] = set()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who holds a lease.

    Attributes
    ----------
    host : str
        Name of the machine, and where on it process numbers mean the same: see `this_host`.
    pid : int
    started : float
        When the process began: it tells a process from a later one of the same number. In seconds since the
        machine was started, which do not change when its clock is set.
    n_beats : int
        Grows by one with each heartbeat.
    released : bool
        The owner is done.
    nonce : str
        A random number of this one ownership.
    identity : str
        The folder's, to its host: a copy of the store has copied the lease, too, and is not held by it.
    """

    host: str
    pid: int
    started: float
    n_beats: int = 0
    released: bool = False
    nonce: str = ""
    identity: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('#')[0]}"

    def is_gone(self, folder: Folder) -> bool:
        """Return whether the owner released the lease of a folder, or ran on this host and has ended.

        On this host it is also gone if it held another folder, of which this one is a copy.
        """
        if self.released or self.nonce in _GIVEN_BACK:
            return True
        if self.host != this_host():
            return False
        if self.identity and self.identity != folder.identity:
            return True
        try:
            is_another = abs(_started(self.pid) - self.started) > 2
            return bool(is_another or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


@dataclass(frozen=True)
class Tenure:
    """One ownership of a store: what its owner gives to those who write in its name.

    Attributes
    ----------
    generation : int
    nonce : str
    """

    generation: int
    nonce: str

    def is_over(self, folder: Folder) -> bool:
        """Return whether a later generation of the folder's lease exists, or this one is another's."""
        if _last_generation(folder) != self.generation:
            return True
        content = folder.get(_key(self.generation))
        try:
            return content is None or _owner(self.generation, content).nonce != self.nonce
        except LeaseError:  # damaged; who takes a lease leaves a whole record, and ours is repaired soon
            return False

    def check(self, folder: Folder) -> None:
        """Raise LeaseError if the ownership is over, or the store is not where it was."""
        if not self.is_over(folder):
            return
        if _last_generation(folder) == 0:
            raise LeaseError(
                f"{folder.place} is not there any more: it was moved or deleted, and this process stopped; "
                "scan into its new place, or remove what is left at this one and start again"
            )
        raise LeaseError(
            f"another process took {folder.place} over, and this one stopped; what it finished is kept"
        )


class Lease:
    """Ownership of a store, held from `acquire` to `release` and kept alive by a thread.

    Use it as a context manager.

    Parameters
    ----------
    folder : Folder
        The store's root.
    heartbeat_s, stale_s : float
        Seconds between heartbeats, and without one until the lease may be taken over.
    on_lost : callable, optional
        Called from the heartbeat's thread if the lease is lost: to another process, or with the store.

    Attributes
    ----------
    swept : list of str
        Keys of unfinished objects that earlier owners left, removed by `acquire`.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        stale_s: float = STALE_S,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self.heartbeat_s, self.stale_s = heartbeat_s, stale_s
        self.on_lost = on_lost
        self.owner = Owner(this_host(), os.getpid(), _started(os.getpid()))
        self.tenure = Tenure(0, "")
        self.swept: list[str] = []
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self, *, break_lock: bool = False) -> "Lease":
        """Take the lease, or say who holds it.

        An owner on another host is watched: one heartbeat shows that it lives, `stale_s` without one that it
        does not.

        Parameters
        ----------
        break_lock : bool
            Take it whoever holds it now, unless somebody else takes it in the same moment.

        Raises
        ------
        LeaseError
            If another process holds it and is alive, or its record is damaged.
        """
        while True:
            if break_lock:
                generation, break_lock = _last_generation(self.folder), False
            else:
                generation = self._free_generation()
            if self._claim(generation + 1):
                break
        self._ended.clear()
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beating.start()
        try:
            for old in range(max(1, generation - 2), generation + 1):
                self.folder.remove(_key(old))
            self.swept = self.folder.sweep()  # what a former owner was about to put in its place stays out
        except BaseException:
            self.release()
            raise
        return self

    def acquire_if_writable(self, *, break_lock: bool = False) -> str:
        """Take the lease, unless the store can only be read; return why, or nothing.

        Whether another process writes the store is looked at all the same. Parameters and errors are those of
        `acquire`.
        """
        try:
            self.acquire(break_lock=break_lock)
        except (OSError, ReadOnlyError) as error:
            refusal = reason_of_refusal(error)
            if not refusal:
                raise
            return refusal
        return ""

    def release(self) -> None:
        """Give the lease back; the store may be taken at once."""
        self._ended.set()
        if self._beating is not None:
            self._beating.join()
            self._beating = None
            _GIVEN_BACK.add(self.owner.nonce)
            for _ in range(2):  # if neither succeeds, the next run finds this process gone, or waits
                with contextlib.suppress(OSError, TismScanError):
                    self._show(replace(self.owner, released=True))
                    break

    @property
    def generation(self) -> int:
        """The number of this ownership, 0 before the first."""
        return self.tenure.generation

    def is_held(self) -> bool:
        """Return whether the store is still ours."""
        return not self.tenure.is_over(self.folder)

    def owned(self) -> Folder:
        """Return the folder for writing, as long as it is ours."""
        return self.folder.fenced(partial(self.tenure.check, self.folder))

    def _show(self, owner: Owner) -> None:
        """Publish who holds the lease.

        Raises
        ------
        LeaseError
            If it is not ours any more.
        """
        self.owned().put(_key(self.generation), _content(owner))

    def __enter__(self) -> "Lease":
        return self if self._beating else self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _free_generation(self) -> int:
        """Return the last generation if nobody holds it any more, else raise."""
        generation, owner = current_owner(self.folder)
        if owner is not None and not self._is_abandoned(generation, owner):
            raise LeaseError(
                f"the store is being written by {owner}; wait for it to end, or, if you know that it "
                "has, add --break-lock"
            )
        return generation

    def _claim(self, generation: int) -> bool:
        """Take a generation, and return whether it was free and is the last."""
        self.owner = replace(
            self.owner, nonce=os.urandom(16).hex(), identity=self.folder.identity, released=False
        )
        self.tenure = Tenure(generation, self.owner.nonce)
        try:
            is_new = self.folder.put_new(_key(generation), _content(self.owner))
        except BaseException:
            _GIVEN_BACK.add(self.owner.nonce)
            with contextlib.suppress(OSError, TismScanError):  # the record may be there in spite of the error
                if self.is_held():
                    self.folder.remove(_key(generation))
            raise
        if not is_new:
            return False
        if self.is_held():
            return True
        # The number was free because an owner of a later one had cleared it away.
        self.folder.remove(_key(generation))
        return False

    def _is_abandoned(self, generation: int, owner: Owner) -> bool:
        """Return whether an owner has gone, watching it as long as it takes to know."""
        if owner.is_gone(self.folder):
            return True
        if owner.host == this_host():
            return False
        log.warning("the store is held by %s; waiting up to %.0f s for a sign of life", owner, self.stale_s)
        deadline = time.monotonic() + self.stale_s
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self.heartbeat_s / 4))
            now = current_owner(self.folder)
            if now != (generation, owner):
                return now[1] is None or now[1].is_gone(self.folder)
        return True

    def _beat(self) -> None:
        """Show, until the lease is released, that its owner is alive."""
        while not self._ended.wait(self.heartbeat_s):
            self.owner = replace(self.owner, n_beats=self.owner.n_beats + 1)
            try:
                self._show(self.owner)
            except LeaseError:
                log.error("this process does not hold the store any more; stopping")
                if self.on_lost is not None:
                    self.on_lost()
                return
            except (OSError, TismScanError) as error:
                log.warning("no heartbeat could be written: %s", error)


def current_owner(folder: Folder) -> tuple[int, Owner | None]:
    """Return the last generation and who holds it; 0 and None if nobody ever did.

    Raises
    ------
    LeaseError
        If its record is damaged.
    """
    for _ in range(10):
        generation = _last_generation(folder)
        if generation == 0:
            return 0, None
        content = folder.get(_key(generation))
        if content is not None:  # else it was taken over between the listing and the reading
            return generation, _owner(generation, content)
    raise LeaseError("the store's lease keeps changing hands; wait for the other processes to end")


def _last_generation(folder: Folder) -> int:
    """Return the highest generation that was ever taken, or 0."""
    found = (_NAME.fullmatch(key) for key in folder.sizes(LEASE))
    return max((int(name[1]) for name in found if name), default=0)


def _owner(generation: int, content: bytes) -> Owner:
    """Return the owner that a lease names."""
    try:
        described = json.loads(content)
        return Owner(
            str(described["host"]),
            int(described["pid"]),
            float(described["started"]),
            int(described["n_beats"]),
            bool(described["released"]),
            str(described.get("nonce", "")),  # format 2 had neither
            str(described.get("identity", "")),
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise LeaseError(
            f"{_key(generation)} is damaged: it names no process; if you know that none is writing the "
            "store, add --break-lock"
        ) from None


def _key(generation: int) -> str:
    return f"{LEASE}/{generation}.json"


def _content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _started(pid: int) -> float:
    """Return when a process began, in seconds since the machine was started."""
    booted = psutil.boot_time()  # first: psutil before 7 adds what this call returned last
    return float(psutil.Process(pid).create_time() - booted)
