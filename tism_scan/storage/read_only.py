"""Folders and buckets that may be read, and not written: an archive, a colleague's, a public one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tism_scan.errors import ReadOnlyError
from tism_scan.storage.places import Place

_RECORD = ".scan"  # where a store that exists has its record
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def refusal_explained(what: str, place: Place, remedy: str) -> Iterator[None]:
    """Turn a refusal to write into an error that says what was to be written, and what to do.

    Parameters
    ----------
    what : str
        What is about to be written.
    place : Path or Url
        The store.
    remedy : str

    Raises
    ------
    ReadOnlyError
    """
    try:
        yield
    except (OSError, ReadOnlyError) as error:
        reason = reason_of_refusal(error)
        if not reason:
            raise
        raise cannot_write(what, place, reason, remedy) from None


def reason_of_refusal(error: OSError | ReadOnlyError) -> str:
    """Return why a place may be read and not written, or nothing if an error says something else."""
    if isinstance(error, ReadOnlyError):
        return error.reason
    return error.strerror or str(error) if error.errno in _REFUSED else ""


def check_may_write(what: str, place: Place, remedy: str) -> None:
    """Raise if what a long call writes in the end cannot be written, as far as its folder says.

    Parameters and errors are those of `refusal_explained`.
    """
    if isinstance(place, Path) and not os.access(place / _RECORD, os.W_OK):
        raise cannot_write(what, place, "it is read-only for you", remedy)


def cannot_write(what: str, place: Place, reason: str, remedy: str) -> ReadOnlyError:
    """Return the error that says what cannot be written, into which store, why, and what to do."""
    return ReadOnlyError(
        f"cannot write {what} into {place} ({reason}); expected a store that can be written; {remedy}", reason
    )
