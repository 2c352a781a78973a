"""Objects on S3, Google Cloud Storage and what speaks like them."""

import contextlib
import copy
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from typing import Any, Self

from tism_scan.errors import AccessError, StorageError, TismScanError
from tism_scan.storage.buckets import explanation, is_busy, names_no_bucket, open_bucket, require_obstore
from tism_scan.storage.places import Url

N_RETRIES = 10  # of a server error or a slow answer, about a minute in all
N_RETRIES_AT_FIRST = 3  # so that a wrong address is reported soon
ANSWER_S, TRANSFER_S = 30, 600
LARGE_BYTES = 1 << 20  # sending more may well take longer than an answer may
N_KEYS_PER_REQUEST = 1000
N_TRIES_OF_CONDITIONAL_PUT = 5
PROBE = ".scan/probe"
PROBE_IDLE_S = 180.0
_WRITER = "tism-scan-writer"

log = logging.getLogger(__name__)


class ObjectFolder:
    """A `Folder` below a prefix of a bucket: one object is one PUT, whole or not there.

    Parameters
    ----------
    place : Url
        ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Raises
    ------
    AccessError
        If obstore is not installed, or there are no credentials.
    """

    def __init__(self, place: Url) -> None:
        self.place = place
        self._obstore = require_obstore()
        self._is_exclusive = False
        self._fence: Callable[[], None] | None = None
        self.client = self._client(ANSWER_S)

    @property
    def identity(self) -> str:
        """What tells it from a copy of it."""
        return str(self.place)

    def fenced(self, fence: Callable[[], None]) -> Self:
        """Return the same folder for a writer that has to own it.

        An object is put on the condition that what is under its key has not changed since before the fence
        was called.
        """
        folder = copy.copy(self)
        folder._fence = fence
        return folder

    def put(self, key: str, content: bytes | memoryview) -> None:
        """Publish an object, whole or not at all; what was under the key is replaced.

        Raises
        ------
        AccessError
            If the bucket is gone, or may not be written.
        StorageError
            If the service does not answer, after all retries.
        """
        with self._explained(key, "write"):
            if self._fence is None:
                self._obstore.put(self._client_for(content), key, content, use_multipart=False)
            else:
                self._put_fenced(key, content, self._fence)

    def put_new(self, key: str, content: bytes) -> bool:
        """Publish an object unless the key is taken, and return whether it was published.

        Of several callers at once, on one machine or many, exactly one gets True.

        Raises
        ------
        AccessError, StorageError
            As `put`; also if the service cannot write on condition.
        """
        if not self._is_exclusive:
            self._check_conditions()
        if self._fence is not None:
            self._fence()
        return self._put_new(key, content)

    def get(self, key: str) -> bytes | None:
        """Return an object, or None where there is none.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        with self._explained(key, "read"):
            try:
                return bytes(self._obstore.get(self.client, key).bytes())
            except FileNotFoundError as error:
                if names_no_bucket(error):
                    raise
                return None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of every object below a prefix, by key.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        with self._explained(prefix, "list"):
            return {entry["path"]: entry["size"] for batch in self._list(prefix) for entry in batch}

    def remove(self, key: str) -> None:
        """Remove an object, if it is there.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        with self._explained(key, "remove"):
            self._remove([key])

    def is_there(self) -> bool:
        """Return whether anything is stored here; a wrong address is reported soon.

        Raises
        ------
        AccessError
            If there is no such bucket, or it may not be listed.
        StorageError
            If the service does not answer.
        """
        with self._explained("", "list"):
            try:
                return self._has_entries(self._hasty_client)
            except self._obstore.exceptions.GenericError as error:
                if not is_busy(error):
                    raise
                return self._has_entries(self.client)  # the address is right, and worth waiting for

    def stranger(self, own: str) -> str | None:
        """Return the name of something here that is not below a key of our own, or None; from two requests.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        with self._explained("", "list"):
            # Keys come in the order of their bytes, and "0" is next to "/": the second looks past our own.
            for offset in (None, f"{own}0"):
                for entry in next(iter(self._list("", offset=offset)), ()):
                    name = str(entry["path"]).partition("/")[0]
                    if name != own:
                        return name
        return None

    def clear(self, last: tuple[str, ...], kept: str) -> None:
        """Remove everything but what is below a key; what is at or below some others last, in their order.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        spared = tuple(f"{key}/" for key in (*last, kept))
        with self._explained("", "remove"):
            for batch in self._list(""):
                if self._fence is not None:
                    self._fence()
                paths = [entry["path"] for entry in batch]
                self._remove([path for path in paths if not f"{path}/".startswith(spared)])
            for key in last:
                self._remove([*self.sizes(key), key])

    def sweep(self, idle_s: float = PROBE_IDLE_S) -> list[str]:
        """Remove what broken-off writers left so long ago, and return the keys.

        A PUT leaves nothing behind; only an interrupted conditional-write probe can. Its age is measured by
        the service's own clock, since ours may be wrong.
        """
        if not self.sizes(PROBE):
            return []
        now = f"{PROBE}/{uuid.uuid4().hex}"
        self.put(now, b"")
        with self._explained(PROBE, "list"):
            written = {
                entry["path"]: entry["last_modified"] for batch in self._list(PROBE) for entry in batch
            }
        self.remove(now)
        before = written.pop(now) - timedelta(seconds=idle_s)
        swept = sorted(key for key, when in written.items() if when <= before)
        for key in swept:
            self.remove(key)
        return swept

    @contextlib.contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turn what the service answers another library that reads here into an error that says so."""
        try:
            yield
        except self._obstore.exceptions.BaseError as error:
            raise explanation(error, self.place, f"{self.place}/{key}", "read") from None

    @contextlib.contextmanager
    def _explained(self, key: str, doing: str) -> Iterator[None]:
        """Turn what the service or the network answers into an error that says so, naming the object."""
        try:
            yield
        except (self._obstore.exceptions.BaseError, FileNotFoundError) as error:
            url = f"{self.place}/{key}" if key else str(self.place)
            raise explanation(error, self.place, url, doing) from None

    def _client(self, answer_s: float | None, n_retries: int | None = None) -> Any:
        waits: dict[str, Any] = {"timeout": timedelta(seconds=TRANSFER_S)}
        if answer_s is not None:
            waits["read_timeout"] = timedelta(seconds=answer_s)
        return open_bucket(self.place, self.place.key, waits, N_RETRIES if n_retries is None else n_retries)

    def _client_for(self, content: bytes | memoryview) -> Any:
        return self._patient_client if len(content) > LARGE_BYTES else self.client

    @cached_property
    def _patient_client(self) -> Any:
        """Waits for an answer as long as sending takes."""
        return self._client(None)

    @cached_property
    def _hasty_client(self) -> Any:
        return self._client(ANSWER_S, N_RETRIES_AT_FIRST)

    def _has_entries(self, client: Any) -> bool:
        return bool(next(iter(self._list("", client=client)), None))

    def _list(self, prefix: str, *, offset: str | None = None, client: Any = None) -> Any:
        """Return the entries below a prefix and past an offset, a request's worth at a time."""
        return self._obstore.list(
            client or self.client, prefix or None, offset=offset, chunk_size=N_KEYS_PER_REQUEST
        )

    def _remove(self, keys: list[str]) -> None:
        # Google, which is asked for one after another, says if one is not there.
        for key in [keys] if self.place.scheme == "s3" else keys:
            try:
                if key:
                    self._obstore.delete(self.client, key)
            except FileNotFoundError as error:
                if names_no_bucket(error):
                    raise

    def _put_fenced(self, key: str, content: bytes | memoryview, fence: Callable[[], None]) -> None:
        """Publish on the condition that a key holds what it held when the fence let us through."""
        client = self._client_for(content)
        mode: Any = "create"  # where nothing is, a late object of a former owner belongs to no record
        for i_try in range(N_TRIES_OF_CONDITIONAL_PUT):
            fence()
            try:
                self._obstore.put(client, key, content, mode=mode, use_multipart=False)
                return
            except (
                self._obstore.exceptions.AlreadyExistsError,
                self._obstore.exceptions.PreconditionError,
                FileNotFoundError,
            ) as error:
                if names_no_bucket(error):
                    raise
            except self._obstore.exceptions.GenericError as error:
                self._raise_unless_slow(error, i_try)
            mode = self._as_it_is(key)
        raise self._interfered(key)

    def _as_it_is(self, key: str) -> Any:
        """Return the condition that what is under a key does not change."""
        try:
            found = self._obstore.head(self.client, key)
        except FileNotFoundError:
            return "create"
        return {name: found[name] for name in ("e_tag", "version") if found[name] is not None}

    def _interfered(self, key: str) -> StorageError:
        return StorageError(f"{self.place}/{key} cannot be written: others keep interfering; try again")

    def _put_new(self, key: str, content: bytes) -> bool:
        """Publish on condition; the object bears who wrote it, for an answer may be lost on the way."""
        client, writer = self._client_for(content), uuid.uuid4().hex
        with self._explained(key, "write"):
            for i_try in range(N_TRIES_OF_CONDITIONAL_PUT):
                try:
                    self._obstore.put(
                        client,
                        key,
                        content,
                        mode="create",
                        use_multipart=False,
                        attributes={_WRITER: writer},
                    )
                    return True
                except self._obstore.exceptions.AlreadyExistsError:
                    found = self._writer_of(key)
                    if found is not None:
                        return found == writer
                except self._obstore.exceptions.GenericError as error:
                    self._raise_unless_slow(error, i_try)
        # Two writes at once may both be refused, and nothing be there: S3 asks to try again.
        raise self._interfered(key)

    def _writer_of(self, key: str) -> str | None:
        """Return who wrote an object on condition, "" if nobody known did, or None if it is not there."""
        try:
            attributes = self._obstore.get(self.client, key).attributes
        except FileNotFoundError:
            return None
        return next((value for name, value in attributes.items() if name.lower() == _WRITER), "")

    def _check_conditions(self) -> None:
        """Raise unless the service writes on condition: some pass over the condition without a word."""
        key = f"{PROBE}/{uuid.uuid4().hex}"
        try:
            is_kept = self._put_new(key, b"") and not self._put_new(key, b"")
            if is_kept and not self._keeps_versions(key):
                log.warning(
                    "%s is on a service that passes over If-Match: a run that is suspended, and goes on "
                    "after another run took the store over, may spoil a block; do not suspend runs",
                    self.place,
                )
        except TismScanError as error:
            if not re.search(r"\b(501|NotImplemented|not supported)\b", str(error)):
                raise
            is_kept = False
        self.remove(key)
        if not is_kept:
            raise AccessError(
                f"{self.place} is on a service that cannot write on condition (If-None-Match, If-Match), "
                "which keeps two runs from writing one store; expected one such as S3, Google Cloud Storage "
                "or a recent MinIO; update it, or use a folder"
            )
        self._is_exclusive = True

    def _keeps_versions(self, other: str) -> bool:
        """Return whether an object is kept from who expects another version of it, such as another key's."""
        key = f"{PROBE}/{uuid.uuid4().hex}"
        with self._explained(key, "write"):
            self._obstore.put(self.client, key, b"kept", use_multipart=False)
            try:
                return self._is_refused(key, self._as_it_is(other))
            finally:
                self._remove([key])

    def _is_refused(self, key: str, mode: Any) -> bool:
        """Return whether the service refuses to write on a condition that is not met."""
        for i_try in range(N_TRIES_OF_CONDITIONAL_PUT):
            try:
                self._obstore.put(self.client, key, b"", mode=mode, use_multipart=False)
                return False
            except self._obstore.exceptions.PreconditionError:
                return True
            except self._obstore.exceptions.GenericError as error:
                self._raise_unless_slow(error, i_try)
        raise self._interfered(key)

    def _raise_unless_slow(self, error: Exception, i_try: int) -> None:
        """Raise what a conditional write met, unless its answer is late, and there are tries left.

        The library itself does not try such a write again.
        """
        if i_try == N_TRIES_OF_CONDITIONAL_PUT - 1 or "kind: Timeout" not in str(error):
            raise error
