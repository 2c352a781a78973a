"""Which files beside the data an export wrote, so that it never overwrites one that somebody else did.

``.written.json`` in the folder holds the SHA-256 of what each file was to hold, the last two times. It is
written before the files are, so that an export that was killed between knows its own.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tism_scan.errors import ExportError
from tism_scan.storage.atomic import file_digest, replaced_file
from tism_scan.storage.folder import LocalFolder

NAME = ".written.json"
FORMAT = 1

_REMEMBERED = 2


class Manifest:
    """The manifest of one folder.

    Parameters
    ----------
    folder : Path
    adopts : bool
        Whether files of a folder without a manifest count as written by export.
    """

    def __init__(self, folder: Path, *, adopts: bool = False) -> None:
        self._folder = folder
        self._adopts = adopts and not (folder / NAME).exists()
        self._digests: dict[str, list[str]] = {}
        # One that cannot be read knows no file.
        with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
            found = json.loads((folder / NAME).read_bytes())
            if found["format"] == FORMAT:
                self._digests = {str(name): list(map(str, seen)) for name, seen in found["files"].items()}

    def check(self, names: Iterable[str]) -> None:
        """Raise unless files of these names can be written without the loss of another's.

        Raises
        ------
        ExportError
            If a file was not written by export, or was changed since.
        """
        faults = [fault for name in names if (fault := self._fault(name))]
        if faults:
            raise ExportError(
                f"{'; '.join(faults)}; expected no file of that name, since export never overwrites what it "
                "did not write; move it away, or choose another --out"
            )

    def write(self, contents: Mapping[str, bytes]) -> list[Path]:
        """Return the files that it writes, each whole or not at all.

        Parameters
        ----------
        contents : mapping from str to bytes
            By name.

        Raises
        ------
        ExportError
            If a file was not written by export, or cannot be written.
        """
        self.check(contents)
        for name, content in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            seen = [each for each in self._digests.get(name, []) if each != digest]
            self._digests[name] = [*seen[1 - _REMEMBERED :], digest]
        record = json.dumps({"format": FORMAT, "files": self._digests}, indent=1)
        LocalFolder(self._folder).put(NAME, record.encode())
        for name, content in contents.items():
            with replaced_file(self._folder / name) as file:
                file.write(content)
        return [self._folder / name for name in contents]

    def _fault(self, name: str) -> str | None:
        path = self._folder / name
        if self._adopts or not (path.exists() or path.is_symlink()):
            return None
        if name not in self._digests or path.is_symlink() or not path.is_file():
            return f"{str(path)!r} was not written by export"
        if file_digest(path) not in self._digests[name]:
            return f"{str(path)!r} was changed after export wrote it"
        return None
