"""What a folder of bigWigs was made from, so that an interrupted export goes on where it ended.

``.export.json`` in the folder holds a line for each finished file: the digest of all that decides its
content, and the file's size and time. A file counts as finished while all three are as recorded.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tism_scan.bigwig import BigWigSummary
from tism_scan.export.track_export import TrackExport
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.ledger import Checksum, ShardAddress
from tism_scan.store.score_store import ScoreStore

NAME = ".export.json"
FORMAT = 1  # a change of what is written for the same scores raises it, too


class ExportRecord:
    """The record of one folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = LocalFolder(folder)
        self._files: dict[str, dict[str, Any]] = {}
        # A record that cannot be read counts as absent: the files are written again.
        with contextlib.suppress(ValueError, AttributeError, KeyError):
            found = json.loads(self._folder.get(NAME) or b"{}")
            if found.get("format") == FORMAT:
                self._files = dict(found["files"])

    def finished(self, file: TrackExport, recipe: str) -> BigWigSummary | None:
        """Return what a file holds if it was made by this recipe and was not touched since."""
        entry = self._files.get(file.path.name)
        if entry is None or entry.get("recipe") != recipe or entry.get("stamp") != _stamp(file.path):
            return None
        with contextlib.suppress(TypeError, KeyError):
            return BigWigSummary(file.path, **entry["summary"])
        return None

    def add(self, summary: BigWigSummary, recipe: str) -> None:
        """Note that a file is finished, durably."""
        held = {name: value for name, value in asdict(summary).items() if name != "path"}
        self._files[summary.path.name] = {
            "recipe": recipe,
            "stamp": _stamp(summary.path),
            "summary": held,
        }
        content = json.dumps({"format": FORMAT, "files": self._files}, indent=1)
        self._folder.put(NAME, content.encode())


def recipe_of(file: TrackExport, store: ScoreStore, content: str) -> str:
    """Return the SHA-256 of all that decides a file's content.

    Parameters
    ----------
    file : TrackExport
    store : ScoreStore
    content : str
        See `content_of`.
    """
    parts = {
        "format": FORMAT,
        "plan": store.plan.digest(),
        "content": content,
        "track": file.i_track,
        "base": file.base,
        "names": list(file.names.items()),
        "chroms": file.chroms,
        "keep_bits": file.keep_bits,
        "writer": file.writer,
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Finished:
    """What a store has finished at a moment, to be compared with later ones.

    Parameters
    ----------
    store : ScoreStore
    """

    def __init__(self, store: ScoreStore) -> None:
        self._store = store
        self._marked = store.ledger.done()
        self._blocks = store.done_blocks(self._marked)

    def is_still_there(self) -> bool:
        """Return whether nothing of it was removed or computed again; more may be finished."""
        now = Finished(self._store)
        return self._marked.items() <= now._marked.items() and self._blocks <= now._blocks

    def content(self) -> str:
        """Return what `content_of` returned at that moment."""
        return _digest_of(self._marked)


def content_of(store: ScoreStore) -> str:
    """Return the SHA-256 of the sizes and checksums of all objects that the store has marked as finished.

    So a block that an incomplete export left out makes another file, and so does one that was computed again
    with another result, as far as that compresses to another size: an object's parts end in their own
    checksums, and all such objects of one layout have the same checksum as a whole.
    """
    return _digest_of(store.ledger.done())


def _digest_of(marked: Mapping[ShardAddress, list[Checksum]]) -> str:
    in_order = sorted((address, sorted(checksums)) for address, checksums in marked.items())
    return hashlib.sha256(json.dumps(in_order).encode()).hexdigest()


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, None if it is absent."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
