"""Where things are: under a path of this machine, or at a URL that every machine can reach."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tism_scan.errors import InputError

OBJECT_STORAGE = ("s3", "gs")
WEB = ("https", "http")
# One slash, too: a URL that passed through a `Path` has lost the other.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}([^/]*)/?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Url:
    """A place in object storage, or a file on the web.

    Attributes
    ----------
    scheme : str
        ``s3``, ``gs``, ``https`` or ``http``.
    host : str
        The bucket, or the server.
    key : str
        What follows the host, without the first slash.
    """

    scheme: str
    host: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key, without a query."""
        key = self.key.partition("?")[0] if self.scheme in WEB else self.key
        return key.rstrip("/").rpartition("/")[2]


Place = Path | Url


def cache_folder() -> Path:
    """Return where copies of what is elsewhere are kept for this user, whether or not it is there yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "tism-scan"


def is_url(given: str | Path | Url) -> bool:
    """Return whether something names a place elsewhere, rather than a path of this machine."""
    return isinstance(given, Url) or _URL.fullmatch(os.fspath(given)) is not None


def store_place(given: str | Path | Url) -> Place:
    """Return where a store is: a path, or a URL in object storage.

    Raises
    ------
    InputError
        If it is a URL of another kind, or one without a bucket or a prefix.
    """
    return _place(given, OBJECT_STORAGE, "a folder, s3://bucket/prefix or gs://bucket/prefix")


def file_place(given: str | Path | Url) -> Place:
    """Return where a file is: a path, or a URL in object storage or on the web.

    Raises
    ------
    InputError
        If it is a URL of another kind, or one without a host or a key.
    """
    return _place(given, OBJECT_STORAGE + WEB, "a path, or a URL of s3://, gs:// or https://")


def _place(given: str | Path | Url, schemes: tuple[str, ...], expected: str) -> Place:
    text = str(given)
    found = _URL.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, host, key = found[1].lower(), found[2], found[3]
    if scheme in OBJECT_STORAGE:
        key = "/".join(filter(None, key.split("/")))
    if scheme not in schemes or not host or not key or {".", ".."} & set(key.split("/")):
        raise InputError(f"{text!r} cannot be used; expected {expected}; correct it")
    return Url(scheme, host, key)
