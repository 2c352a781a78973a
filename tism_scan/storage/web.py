"""Files from web servers."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from tism_scan.errors import AccessError, StorageError
from tism_scan.storage.places import Url

ANSWER_S = 30
CHUNK_BYTES = 1 << 20
_PASSING = (408, 429)  # with all from 500 on, what may be gone the next time


class Page:
    """A file on a web server, open for reading.

    Attributes
    ----------
    version : str
        Changes if the file does; "" if the server does not say.
    """

    def __init__(self, url: Url, answer: Any) -> None:
        self._url, self._answer = url, answer
        told = [answer.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]
        self.version = " ".join(told) if any(told[:2]) else ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises
        ------
        StorageError
            If the connection breaks before its end.
        """
        left = self._answer.headers.get("Content-Length")
        n_left = None if left is None else int(left)
        while chunk := self._read():
            n_left = None if n_left is None else n_left - len(chunk)
            yield chunk
        if n_left:
            raise StorageError(f"{self._url} cannot be read (the connection broke); try again")

    def close(self) -> None:
        """Let the connection go."""
        self._answer.close()

    def _read(self) -> bytes:
        try:
            return bytes(self._answer.read(CHUNK_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise StorageError(
                f"{self._url} cannot be read ({type(error).__name__}: {error}); try again"
            ) from None


def open_page(url: Url) -> Page:
    """Return a file on a web server, open for reading.

    Raises
    ------
    AccessError
        If there is none, or it may not be read.
    StorageError
        If the server does not answer, or has a passing fault; it is worth another try.
    """
    try:
        return Page(url, urllib.request.urlopen(str(url), timeout=ANSWER_S))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code in _PASSING:
            raise StorageError(f"{url} cannot be read ({error.code} {error.reason}); try again") from None
        raise AccessError(f"{url} cannot be read ({error.code} {error.reason}); check the address") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise StorageError(f"{url} cannot be read ({reason}); check the address, or try again") from None
