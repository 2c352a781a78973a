"""A server of this package at work in a thread."""

import threading
from contextlib import contextmanager


@contextmanager
def serving(server):
    """Let a server answer, and yield its address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
