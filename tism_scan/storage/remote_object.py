"""One object of a bucket, open for reading."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from tism_scan.storage.buckets import explanation, open_bucket, require_obstore
from tism_scan.storage.object_folder import ANSWER_S, LARGE_BYTES, N_RETRIES
from tism_scan.storage.places import Url


class RemoteObject:
    """One object, open for reading.

    Attributes
    ----------
    version : str
        Changes if the object does.
    """

    def __init__(self, place: Url) -> None:
        self._place, self._obstore = place, require_obstore()
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
