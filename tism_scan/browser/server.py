"""A web server on loopback for one folder, with what Python's own lacks and genome browsers need: ranges.

Pages of this server may read all of it, pages of named origins the folder, and no others anything.
"""

import errno
import io
import os
import re
from collections.abc import Collection, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from tism_scan.browser.connections import MOST_CONNECTIONS, CappedServer
from tism_scan.browser.origins import is_loopback
from tism_scan.errors import InputError

HOST = "127.0.0.1"
USUAL_PORT = 8765

INDEX = "index.html"
VIEW_HEADER = "X-Tism-Scan-View"  # tells the page that there are settings, for which others would answer 404
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.IGNORECASE)
_IDLE_SECONDS = 60
_PIECE_BYTES = 1 << 20
# What the platform says of a suffix differs, and a wrong type keeps a script from running.
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".xml": "application/xml",
    ".txt": "text/plain",
    ".tsv": "text/tab-separated-values",
    ".bed": "text/plain",
    ".fai": "text/plain",
    ".sizes": "text/plain",
}

Served = Mapping[str, Path | bytes]


class FolderServer(CappedServer):
    """Serves a folder, and some more files or bytes under names of their own.

    Parameters
    ----------
    root : Path
        The folder. Nothing outside it is served, whatever a path or a link in it says.
    extras : mapping from str to Path or bytes
        By path, such as ``_view/genome.fa``; a file of the folder comes first. They are private: only pages
        of this server may read them.
    port : int or None
        0 for any that is free; None for the usual one, or any if that is taken.
    origins : collection of str
        Whose pages may read the folder, see `tism_scan.browser.origins.origins_of`.
    most_connections : int

    Attributes
    ----------
    extras : dict from str to Path or bytes
        May be changed while it serves.

    Raises
    ------
    InputError
        If the port cannot be used.
    """

    def __init__(
        self,
        root: Path,
        extras: Served | None = None,
        port: int | None = None,
        *,
        origins: Collection[str] = (),
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.extras: dict[str, Path | bytes] = dict(extras or {})
        handler = partial(_Handler, root.resolve(), self.extras, origins)
        for candidate in (USUAL_PORT, 0) if port is None else (port,):
            try:
                super().__init__((HOST, candidate), handler, most_connections)
                return
            except (OSError, OverflowError) as error:
                if port is None and candidate and getattr(error, "errno", None) == errno.EADDRINUSE:
                    continue
                reason = getattr(error, "strerror", None) or error
                raise InputError(
                    f"port {candidate} cannot be used: {reason}; choose another --port, or leave it out"
                ) from None

    @property
    def address(self) -> str:
        """The address of the folder, with a slash at its end."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET, HEAD and OPTIONS (RFC 9110; ranges: section 14)."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # Headers and the body's start in one packet: in two, Nagle and a delayed ACK may add 40 ms.
    wbufsize = 1 << 16

    server: FolderServer

    def __init__(
        self, root: Path, extras: dict[str, Path | bytes], origins: Collection[str], *arguments: Any
    ) -> None:
        self.root, self.extras, self.origins = root, extras, origins
        self.readers: str | None  # the origin whose pages may read the answer
        super().__init__(*arguments)

    def handle_one_request(self) -> None:
        """Answer one request; until it comes, the connection may be closed for another's sake."""
        self.readers = None
        with self.server.idle(self.connection):
            try:
                is_there = bool(self.rfile.peek(1))  # type: ignore[attr-defined]  # it is a BufferedReader
            except OSError:  # too long idle, or gone
                is_there = False
        if is_there:
            super().handle_one_request()
        else:
            self.close_connection = True

    def do_GET(self) -> None:  # the name is http.server's
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_OPTIONS(self) -> None:
        if not self._is_welcome():
            return
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Allow", "GET, HEAD, OPTIONS")
        if self.readers is not None:
            self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Range, Content-Type, Cache-Control")
            self.send_header("Access-Control-Allow-Private-Network", "true")
            self.send_header("Access-Control-Max-Age", "3600")
        self.end_headers()

    def end_headers(self) -> None:
        """Say which pages of other hosts may read the answer."""
        self.send_header("Vary", "Origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if self.readers is not None:
            self.send_header("Access-Control-Allow-Origin", self.readers)
            self.send_header("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range")
        super().end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Keep the terminal quiet."""

    def _is_welcome(self) -> bool:
        """Return whether to answer a request, after saying why if not, and note who may read the answer."""
        origin = self.headers.get("Origin")
        is_private = self._name() in self.extras
        self.readers = origin if origin in self.origins and not is_private else None
        hosts = self.headers.get_all("Host", [])
        if len(hosts) == 1 and is_loopback(hosts[0]):
            return True
        self.readers, self.close_connection = None, True
        self.send_error(
            HTTPStatus.FORBIDDEN, explain="Only names of this machine, such as localhost, are served."
        )
        return False

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path, errors="replace").removeprefix("/") or INDEX

    def _answer(self, *, with_body: bool) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that is not read would be taken for the next request
        if not self._is_welcome():
            return
        name, body = self._open()
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with body:
            size = body.seek(0, os.SEEK_END)
            status, start, end = requested_span(self.headers.get("Range"), size)
            self.send_response(status)
            self.send_header("Content-Type", _content_type(name))
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header(VIEW_HEADER, "yes")
            if status == HTTPStatus.PARTIAL_CONTENT:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            if with_body:
                self._copy(body, start, end)

    def _copy(self, body: BinaryIO, start: int, end: int) -> None:
        body.seek(start)
        while start < end:
            piece = body.read(min(_PIECE_BYTES, end - start))
            if not piece:  # cut off since it was opened; the client must see that something is missing
                self.close_connection = True
                return
            self.wfile.write(piece)
            start += len(piece)

    def _open(self) -> tuple[str, BinaryIO | None]:
        """Return the name and the open file that the path names; None if there is none to be served."""
        name = self._name()
        path = file_within(self.root, name)
        if path is None and name in self.extras:
            extra = self.extras[name]
            if isinstance(extra, bytes):
                return name, io.BytesIO(extra)
            path = extra
        try:
            return name, None if path is None else open(path, "rb")
        except OSError:
            return name, None


def file_within(root: Path, name: str) -> Path | None:
    """Return the file of a folder that a name refers to, or None if there is none.

    Parameters
    ----------
    root : Path
        Without links, as `Path.resolve` gives it.
    name : str
        Parts between slashes. Hidden files, and whatever a link or ``..`` leads to outside, are not found.
    """
    parts = name.split("/")
    if "\0" in name or any(part.startswith(".") or not part or os.sep in part for part in parts):
        return None
    try:
        path = root.joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return path if path.is_relative_to(root) and path.is_file() else None


def requested_span(header: str | None, size: int) -> tuple[HTTPStatus, int, int]:
    """Return the status of an answer, and which bytes of a file it holds, from `start` to before `end`.

    Parameters
    ----------
    header : str or None
        The Range header. Anything but a single range of bytes is ignored, as RFC 9110 allows.
    size : int
        Length of the file.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[0].strip().endswith("=-"):
        return HTTPStatus.OK, 0, size
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return HTTPStatus.OK, 0, size
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
    return HTTPStatus.PARTIAL_CONTENT, start, end


def _content_type(name: str) -> str:
    suffix = Path(name).suffix.lower()
    kind = _TYPES.get(suffix, "application/octet-stream")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
