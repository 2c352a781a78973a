"""Objects on S3, Google Cloud Storage and what speaks like them.

This is the package's only door to obstore, an optional library. Credentials come the usual ways: S3's from
the environment, the profiles in ``~/.aws``, a container's or machine's role, as boto3 finds them; Google's
from its application default credentials. Settings such as ``AWS_ENDPOINT_URL`` are obstore's own.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from tism_scan.errors import AccessError, StorageError, TismScanError
from tism_scan.places import Url

INSTALL = "pip install 'tism-scan[cloud]'"
# A server error or a slow answer is tried again after 0.1 s at first, and 15 s at most: a minute in all.
N_RETRIES = 10
N_RETRIES_AT_FIRST = 3  # so that a wrong address is told of soon
BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2}
CONNECT_S, ANSWER_S, TRANSFER_S, RETRY_S = 10, 30, 600, 180
LARGE_BYTES = 1 << 20  # sending more may well take longer than an answer may
N_KEYS_PER_REQUEST = 1000
N_TRIES_OF_PUT_NEW = 5
PROBE = ".scan/probe"
_WRITER = "tism-scan-writer"
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Decode|Body|Interrupted)\b")
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket (does not|doesn't) exist", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|token request|[Cc]redential")


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
        self._obstore = _obstore()
        self._is_exclusive = False
        self.client = self._client(ANSWER_S)

    def put(self, key: str, content: bytes) -> None:
        """Publish an object, whole or not at all; what was under the key is replaced.

        Raises
        ------
        AccessError
            If the bucket is gone, or may not be written.
        StorageError
            If the service does not answer, after all retries.
        """
        client = self._patient_client if len(content) > LARGE_BYTES else self.client
        with self._explained(key, "write"):
            self._obstore.put(client, key, content, use_multipart=False)

    def put_new(self, key: str, content: bytes) -> bool:
        """Publish an object unless the key is taken, and return whether it was published.

        Of several callers at once, on one machine or many, exactly one is told yes.

        Raises
        ------
        AccessError, StorageError
            As `put`; also if the service cannot write on condition.
        """
        if not self._is_exclusive:
            self._check_exclusive()
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
                if _NO_BUCKET.search(str(error)):
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
        """Return whether anything lies here; a wrong address is told of soon.

        Raises
        ------
        AccessError
            If there is no such bucket, or it may not be listed.
        StorageError
            If the service does not answer.
        """
        with self._explained("", "list"):
            return bool(next(iter(self._list("", client=self._hasty_client)), None))

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

    def clear(self, last: str) -> None:
        """Remove everything, one object last.

        Raises
        ------
        AccessError, StorageError
            As `put`.
        """
        with self._explained("", "remove"):
            for batch in self._list(""):
                self._remove([entry["path"] for entry in batch if entry["path"] != last])
            self._remove([last])

    def sweep(self, idle_s: float) -> list[str]:
        """Remove what broken-off writers left so long ago, and return the keys.

        A PUT leaves nothing behind; only a question that was broken off may.
        """
        before = datetime.now(UTC) - timedelta(seconds=idle_s)
        with self._explained(PROBE, "list"):
            entries = [entry for batch in self._list(PROBE) for entry in batch]
        swept = sorted(entry["path"] for entry in entries if entry["last_modified"] <= before)
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

    @cached_property
    def _patient_client(self) -> Any:
        """Waits for an answer as long as sending takes."""
        return self._client(None)

    @cached_property
    def _hasty_client(self) -> Any:
        return self._client(ANSWER_S, N_RETRIES_AT_FIRST)

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
                if _NO_BUCKET.search(str(error)):
                    raise

    def _put_new(self, key: str, content: bytes) -> bool:
        """Publish on condition; the object bears who wrote it, for an answer may be lost on the way."""
        writer = uuid.uuid4().hex
        with self._explained(key, "write"):
            for i_try in range(N_TRIES_OF_PUT_NEW):
                try:
                    self._obstore.put(
                        self.client,
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
                    if i_try == N_TRIES_OF_PUT_NEW - 1 or "kind: Timeout" not in str(error):
                        raise
        # Two writes at once may both be refused, and nothing be there: S3 asks to try again.
        raise StorageError(f"{self.place}/{key} cannot be written: others keep interfering; try again")

    def _writer_of(self, key: str) -> str | None:
        """Return who wrote an object on condition, "" if nobody known did, or None if it is not there."""
        try:
            attributes = self._obstore.get(self.client, key).attributes
        except FileNotFoundError:
            return None
        return next((value for name, value in attributes.items() if name.lower() == _WRITER), "")

    def _check_exclusive(self) -> None:
        """Raise unless the service writes on condition: some pass over the condition without a word."""
        key = f"{PROBE}/{uuid.uuid4().hex}"
        try:
            is_kept = self._put_new(key, b"") and not self._put_new(key, b"")
        except TismScanError as error:
            if not re.search(r"\b(501|NotImplemented|not supported)\b", str(error)):
                raise
            is_kept = False
        self.remove(key)
        if not is_kept:
            raise AccessError(
                f"{self.place} is on a service that cannot write on condition (If-None-Match), which keeps "
                "two runs from writing one store; expected one such as S3, Google Cloud Storage or a recent "
                "MinIO; update it, or use a folder"
            )
        self._is_exclusive = True


class RemoteObject:
    """One object, open for reading.

    Attributes
    ----------
    version : str
        Changes if the object does.
    """

    def __init__(self, place: Url) -> None:
        self._place, self._obstore = place, _obstore()
        waits = {"read_timeout": timedelta(seconds=ANSWER_S), "timeout": timedelta(days=1)}
        with self._explained():
            self._found = self._obstore.get(open_bucket(place, None, waits, N_RETRIES), place.key)
        meta = self._found.meta
        self.version = f"{meta['e_tag']} {meta['last_modified']} {meta['size']}"

    def chunks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises
        ------
        StorageError
            If the service does not go on, after all retries.
        """
        with self._explained():
            for chunk in self._found.stream(min_chunk_size=LARGE_BYTES):
                yield bytes(chunk)

    def close(self) -> None:
        """Let it go."""
        self._found = None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._obstore.exceptions.BaseError, FileNotFoundError) as error:
            raise explanation(error, self._place, str(self._place), "read") from None


def open_bucket(place: Url, prefix: str | None, waits: dict[str, Any], n_retries: int) -> Any:
    """Return obstore's client for a bucket.

    Raises
    ------
    AccessError
        If obstore is not installed, or there are no credentials.
    """
    obstore = _obstore()
    settings: dict[str, Any] = {
        "prefix": prefix,
        "client_options": {"connect_timeout": timedelta(seconds=CONNECT_S), **waits},
        "retry_config": {
            "max_retries": n_retries,
            "retry_timeout": timedelta(seconds=RETRY_S),
            "backoff": BACKOFF,
        },
    }
    try:
        if place.scheme == "gs":
            settings["client_options"]["allow_http"] = os.environ.get("GOOGLE_BASE_URL", "").startswith(
                "http:"
            )
            return obstore.store.GCSStore(place.host, **settings)
        if _is_true(os.environ.get("AWS_ALLOW_HTTP", "")):
            settings["client_options"]["allow_http"] = True
        return obstore.store.S3Store(place.host, **settings, **_s3_settings(place))
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise explanation(error, place, str(place), "open") from None


def _s3_settings(place: Url) -> dict[str, Any]:
    """Return what boto3 knows of credentials, region and endpoint, beside what obstore itself knows."""
    if _is_true(os.environ.get("AWS_SKIP_SIGNATURE", "")):
        return {}
    try:
        import botocore.exceptions
        import botocore.session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    try:
        session = botocore.session.Session()
        scoped = session.get_scoped_config()
        if session.get_credentials() is None:
            raise _no_credentials(place, "none were found")
    except botocore.exceptions.BotoCoreError as error:
        raise _no_credentials(place, str(error)) from None
    settings: dict[str, Any] = {"credential_provider": Boto3CredentialProvider(session)}
    if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        settings["region"] = session.get_config_variable("region") or "us-east-1"
    if "endpoint_url" in scoped and not any(name.startswith("AWS_ENDPOINT") for name in os.environ):
        settings["endpoint"] = scoped["endpoint_url"]
    return settings


def _obstore() -> Any:
    """Return obstore, or say how to install it."""
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    return obstore


def _not_installed(error: ModuleNotFoundError) -> AccessError:
    return AccessError(f"object storage needs the package {error.name}; run: {INSTALL}")


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on", "y")


def _no_credentials(place: Url, reason: str) -> AccessError:
    how = (
        "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
        if place.scheme == "gs"
        else "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_SKIP_SIGNATURE=true "
        "for a public bucket"
    )
    return AccessError(f"there are no credentials for {place} ({reason}); {how}")


def explanation(error: Exception, place: Url, url: str, doing: str) -> TismScanError:
    """Return an error of ours for one of obstore's, whose text is the only place that tells them apart."""
    text = str(error)
    first_line = " ".join(text.split("Debug source:")[0].split())
    status, code = _STATUS.search(text), _CODE.search(text)
    reason = " ".join([*(found[1] for found in (status, code) if found)])
    done = {"write": "written", "read": "read", "list": "listed", "remove": "removed"}.get(doing, "opened")
    if _NO_BUCKET.search(text) or (isinstance(error, FileNotFoundError) and doing == "write"):
        return AccessError(
            f"there is no bucket {place.host!r} for {place}; expected one that exists: make it, or correct "
            "the name, AWS_ENDPOINT_URL or AWS_REGION"
        )
    if isinstance(error, FileNotFoundError):
        return AccessError(f"there is nothing at {url}; check it")
    if "169.254." in first_line or (status is None and _NO_CREDENTIALS.search(first_line)):
        return _no_credentials(place, "none were found, and this machine has no role")
    if status is not None and status[1] in ("401", "403"):
        return AccessError(
            f"{url} may not be {done} with these credentials ({reason}); check them, and what they allow"
        )
    if (status is not None and status[1].startswith("3")) or "redirect" in first_line.lower():
        return AccessError(f"{place} is in another region; set AWS_REGION to that of the bucket")
    if not reason:
        kind = _KIND.search(text)
        kinds = {
            "Connect": "no connection",
            "Timeout": "no answer in time",
            "Request": "the connection broke",
        }
        reason = kinds.get(kind[1], "") if kind else ""
        reason = reason or first_line.rpartition(" - ")[2][:200]
    return StorageError(
        f"{url} cannot be {done} ({reason}); what is finished is kept: run the same command again once the "
        "service answers"
    )
