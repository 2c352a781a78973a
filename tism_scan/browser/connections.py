"""A server of threads that stays alive however many clients come: connections are capped, idle ones go."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

MOST_CONNECTIONS = 64

_WAIT_SECONDS = 1.0
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class CappedServer(ThreadingHTTPServer):
    """Answers each connection in a thread, so many of them at once.

    One more closes the connection that has waited longest for its client's next request, which browsers take
    in their stride; where all are busy it waits a second, then gets 503.

    Parameters
    ----------
    address : tuple of str and int
    handler : callable
        It makes a handler, and waits for a client's requests within `CappedServer.idle`.
    most_connections : int

    Raises
    ------
    OSError, OverflowError
        If the port cannot be used.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, most_connections: int) -> None:
        self._slots = threading.BoundedSemaphore(most_connections)
        self._idle: dict[socket.socket, None] = {}  # the longest idle one first
        super().__init__(address, handler)

    @contextlib.contextmanager
    def idle(self, connection: socket.socket) -> Iterator[None]:
        """Hold a connection as one that may be closed for another's sake."""
        self._idle[connection] = None
        try:
            yield
        finally:
            self._idle.pop(connection, None)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, or with 503."""
        if not self._slots.acquire(blocking=False):
            self._close_longest_idle()
            if not self._slots.acquire(timeout=_WAIT_SECONDS):
                self._turn_away(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, then let another in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, which browsers do all the time."""

    def _close_longest_idle(self) -> None:
        # Threads add and remove while we look.
        with contextlib.suppress(StopIteration, RuntimeError, KeyError, OSError):
            connection = next(iter(self._idle))
            self._idle.pop(connection)
            connection.shutdown(socket.SHUT_RDWR)

    def _turn_away(self, request: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request.setblocking(False)
            # What is left unread would make the closing a reset, which may overtake the answer.
            with contextlib.suppress(BlockingIOError):
                request.recv(1 << 16)
            request.send(_BUSY)
        self.shutdown_request(request)
