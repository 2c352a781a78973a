"""A cluster that is watched: what its nodes have, and whether its head is there."""

import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import RayError

from tism_scan.errors import ScanError

NODES_KNOWN_FOR_S = 0.5
ANSWER_S = 5.0  # of the nodes, on a machine that is very busy
CONNECT_S = 20  # well before Ray itself would end this process, after 60 without a head


def amounts_on(nodes: Iterable[dict[str, Any]], resource: str) -> list[float]:
    """Return how much of a resource each live node has; nodes without any are left out."""
    amounts = [node["Resources"].get(resource, 0) for node in nodes if node["Alive"]]
    return [amount for amount in amounts if amount > 0]


class ClusterWatch:
    """What nodes a cluster has, and whether its head is there; two threads ask, so that nobody waits.

    Once the head is gone, calls of Ray's may wait for a minute and then end the process, or end it at once
    if another head has taken its place. So the head's port is watched by a connection of our own, which
    breaks when its process ends, and `check` raises before Ray is asked for anything more.

    Attributes
    ----------
    address : str
        Of the head; empty for a cluster at ``ray://``, whose client notices by itself.
    """

    def __init__(self) -> None:
        self._nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        self.address = _head_address()
        self._ended = threading.Event()
        self._is_lost = threading.Event()
        watches = [self._list_nodes, *([self._watch_head] if self.address else [])]
        self._threads = [threading.Thread(target=watch, name="cluster", daemon=True) for watch in watches]
        for thread in self._threads:
            thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether the head is gone, and Ray must not be asked for anything."""
        return self._is_lost.is_set()

    def check(self) -> None:
        """Raise if the head is gone.

        Raises
        ------
        ScanError
        """
        if self.is_lost:
            raise ScanError(
                f"the Ray cluster at {self.address} is gone; what is finished is kept: start the cluster, "
                "and the same command resumes"
            )

    def amounts(self, resource: str) -> list[float]:
        """Return how much of a resource each live node has; nodes without any are left out."""
        return amounts_on(self._nodes, resource)

    def close(self) -> None:
        """End the watch, once Ray has answered: left before, it may abort this process."""
        self._ended.set()
        for thread in self._threads:
            thread.join(1.0 if self.is_lost else ANSWER_S)

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._is_lost.is_set()

    def _list_nodes(self) -> None:
        while not self._ended.wait(NODES_KNOWN_FOR_S) and not self._is_lost.is_set():
            with contextlib.suppress(RayError, OSError, RuntimeError):  # the next call may know
                self._nodes = ray.nodes()  # type: ignore[no-untyped-call]

    def _watch_head(self) -> None:
        while not self._is_over():
            try:
                self._wait_until_closed()
            except OSError:
                if not self._ended.is_set():
                    self._is_lost.set()

    def _wait_until_closed(self) -> None:
        """Return when the head closes the connection, which it may if that is idle; raise if it is gone."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):  # a head whose machine is off closes nothing
                for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            connection.settimeout(NODES_KNOWN_FOR_S)
            while not self._is_over():
                try:
                    if not connection.recv(4096):
                        break
                except ConnectionError:
                    break
                except TimeoutError as error:
                    if error.errno is not None:  # of keepalive's, and not of our own patience
                        raise


def _head_address() -> str:
    """Return ``host:port`` of the cluster's head, or nothing if a client is connected from outside."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        return ""
    return str(ray.get_runtime_context().gcs_address)
