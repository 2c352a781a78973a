"""igv.js, which draws the page: one version, checked by its digest, from a CDN, npm or the user's cache."""

import base64
import hashlib
import logging
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tism_scan.errors import InputError
from tism_scan.storage.atomic import replaced_file
from tism_scan.storage.places import cache_folder

VERSION = "3.8.10"
URL = f"https://cdn.jsdelivr.net/npm/igv@{VERSION}/dist/igv.min.js"
INTEGRITY = "sha384-b/GRD1DJ3Dgldpe6xYBLC9PzuduzTcS8Mm+lklLhsxW/fSCZgZnEyZib80jgh1li"
FILE = "igv.min.js"

_IN_PACKAGE = "package/dist/igv.min.js"
_LONGEST_BYTES = 50 << 20
_SECONDS = 20
_SETS_IGV = re.compile(rb"\bigv\s*=")
_EXPORT = re.compile(rb"(?:^|[\s;}])export(?:\s+default\b|\s*\{)")
_TAIL_BYTES = 4096

log = logging.getLogger(__name__)


def cached_igv_js() -> Path:
    """Return where the user's copy is kept, whether or not it is there yet."""
    return cache_folder() / f"igv-{VERSION}.min.js"


def fetch_igv_js() -> Path | None:
    """Return the user's copy of igv.js, fetched first if it is missing or damaged; None if it cannot be had.

    It comes from the CDN or, where that fails and npm is installed, from npm's registry.
    """
    path = cached_igv_js()
    if path.is_file() and is_genuine(path.read_bytes()):
        return path
    for source in (_from_cdn, _from_npm):
        content = source()
        if content is None or not is_genuine(content):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(path) as file:
                file.write(content)
        except (OSError, InputError) as error:
            log.warning("igv.js cannot be kept: %s", error)
            return None
        return path
    return None


def read_igv_js(path: Path) -> bytes:
    """Return a copy of igv.js that the user has; it may be of another version.

    Raises
    ------
    InputError
        If it cannot be read, or is no igv.js that a page can load.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {str(path)!r}: {error.strerror}; expected dist/igv.min.js of the npm package igv"
        ) from None
    # A build for bundlers (igv.esm.js) ends in an export, which no script of a page may hold.
    is_for_pages = _SETS_IGV.search(content) and not _EXPORT.search(content[-_TAIL_BYTES:])
    if b"createBrowser" not in content or not is_for_pages:
        raise InputError(
            f"{str(path)!r} is no igv.js for web pages; expected dist/igv.min.js of the npm package igv; get "
            f"it with `npm pack igv@{VERSION}`"
        )
    return content


def is_genuine(content: bytes) -> bool:
    """Return whether bytes are the pinned version's, by their SHA-384."""
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    return f"sha384-{digest}" == INTEGRITY


def _from_cdn() -> bytes | None:
    try:
        with urllib.request.urlopen(URL, timeout=_SECONDS) as response:
            content: bytes = response.read(_LONGEST_BYTES)
            return content
    except (urllib.error.URLError, OSError, ValueError) as error:
        log.info("%s cannot be fetched: %s", URL, error)
        return None


def _from_npm() -> bytes | None:
    npm = shutil.which("npm")
    if npm is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"igv@{VERSION}", "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=3 * _SECONDS)
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as package:
                member = package.extractfile(_IN_PACKAGE)
                return None if member is None else member.read(_LONGEST_BYTES)
        except (subprocess.SubprocessError, OSError, ValueError, KeyError, tarfile.TarError) as error:
            log.info("npm cannot fetch igv.js: %s", error)
            return None
