"""What a folder of bigWigs was made from, so that an interrupted export goes on where it ended.

``.export.json`` in the folder holds a line for each finished file: the digest of all that decides its
content, and the file's size and time. A file counts as finished while all three are as recorded.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tism_scan.bigwig import BigWigSummary
from tism_scan.errors import ExportError
from tism_scan.export.track_export import TrackExport
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.ledger import Checksum, ShardAddress
from tism_scan.store.score_store import ScoreStore

NAME = ".export.json"
FORMAT = 1  # a change of what is written for the same scores raises it, too


@dataclass(frozen=True)
class Source:
    """Where the scores of a file are from.

    Attributes
    ----------
    scan : str
        The digest of the scan's plan.
    is_exact : bool
        Whether they are exact ISM of bases of that scan.
    is_of_bases : bool
        Whether there is a file for each alternative base.
    names : str
        A digest of the chroms' names in the file.
    """

    scan: str
    is_exact: bool
    is_of_bases: bool
    names: str


def source_of(plan: ScanPlan, names: Mapping[str, str], *, is_of_bases: bool) -> Source:
    """Return where scores are from, by the plan of their store and the names that chroms get."""
    digest = hashlib.sha256(json.dumps(list(names.items())).encode()).hexdigest()[:16]
    scan = plan.digest() if plan.selection is None else plan.selection.scan
    return Source(scan, plan.selection is not None, is_of_bases, digest)


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

    def beside(self, source: Source) -> list[tuple[Source, BigWigSummary]]:
        """Return the untouched files of the same scan that hold the other kind of its scores.

        So to a scan's own files those of its exact ISM, and to these the scan's own.
        """
        found = []
        for name, entry in self._files.items():
            path, other = self._folder.root / name, self.source(name)
            if other is None or (other.scan, other.is_exact) != (source.scan, not source.is_exact):
                continue
            with contextlib.suppress(TypeError, KeyError):
                if entry["stamp"] == _stamp(path):
                    found.append((other, BigWigSummary(path, **entry["summary"])))
        return found

    def source(self, name: str) -> Source | None:
        """Return where a file's scores are from, None if an earlier release wrote it, or nobody did."""
        with contextlib.suppress(TypeError, KeyError):
            return Source(**self._files[name]["source"])
        return None

    def check(self, paths: Sequence[Path], source: Source, *, overwrite: bool) -> None:
        """Raise unless files can stand beside those there; forget another scan's that may be overwritten.

        Raises
        ------
        ExportError
            If the folder has files of another scan and nothing may be overwritten, or one of the files is of
            the other kind, or the others name the chroms otherwise or are of an earlier release, which did
            not record where they are from.
        """
        if source.is_exact and any(self.source(name) is None for name in self._files):
            raise ExportError(
                f"{self._folder.root} was exported by an earlier release, and its page would lose these "
                "tracks; expected them to be recorded; run that export again first, which keeps its files"
            )
        for name in self._of_another_scan(source):
            if not overwrite:
                raise ExportError(
                    f"{str(self._folder.root)!r} holds bigWigs of another scan, such as {name}, which its "
                    "page would lose; expected one scan in a folder; choose another --out, or --overwrite"
                )
            del self._files[name]
        for path in paths:
            found = self.source(path.name)
            if found is not None and found.is_exact != source.is_exact and path.exists():
                kind = "exact ISM" if found.is_exact else "scores of the scan"
                raise ExportError(
                    f"{str(path)!r} holds the {kind} of another track; expected no file of that name; choose "
                    "another --out"
                )
        for other, summary in self.beside(source):
            if other.names != source.names:
                raise ExportError(
                    f"{str(summary.path)!r} names the chroms otherwise; expected one set of names in a "
                    "folder; give the same --chrom-alias, or choose another --out"
                )

    def _of_another_scan(self, source: Source) -> list[str]:
        found = {name: self.source(name) for name in self._files if (self._folder.root / name).exists()}
        return [name for name, other in found.items() if other is not None and other.scan != source.scan]

    def add(self, summary: BigWigSummary, recipe: str, source: Source) -> None:
        """Note that a file is finished, durably."""
        held = {name: value for name, value in asdict(summary).items() if name != "path"}
        self._files[summary.path.name] = {
            "recipe": recipe,
            "source": asdict(source),
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
        "base": "sd" if file.is_sd else file.base,
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
    with another result.
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
