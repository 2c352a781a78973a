"""What is known of a cluster, without a Ray that runs."""

import socket
import threading
import time

import pytest

from tism_scan.errors import ScanError
from tism_scan.ray_scan import watch as watch_module
from tism_scan.ray_scan.watch import ClusterWatch

NODES = [
    {"Alive": True, "Resources": {"CPU": 2.0}},
    {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
    {"Alive": False, "Resources": {"CPU": 4.0, "GPU": 4.0}},
]


class Head:
    """Accepts connections, as the head of a cluster does."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                self.connections.append(self.server.accept()[0])
            except OSError:
                return

    def hang_up(self):
        for connection in self.connections:
            connection.close()

    def end(self):
        # A listening socket stays open for as long as another thread accepts on it.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.hang_up()


@pytest.fixture
def head():
    head = Head()
    yield head
    head.server.close()
    head.hang_up()


@pytest.fixture
def watch(head, monkeypatch):
    monkeypatch.setattr(watch_module.ray, "nodes", lambda: NODES)
    monkeypatch.setattr(watch_module, "_head_address", lambda: head.address)
    monkeypatch.setattr(watch_module, "NODES_KNOWN_FOR_S", 0.05)
    watch = ClusterWatch()
    assert becomes(lambda: head.connections)
    yield watch
    watch.close()


def becomes(is_so, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def is_lost(watch):
    try:
        watch.check()
    except ScanError:
        return True
    return False


def test_resources_are_those_of_the_live_nodes_that_have_any(watch):
    assert watch.amounts("CPU") == [2.0, 8.0]
    assert watch.amounts("GPU") == [1.0]
    assert watch.amounts("TPU") == []


def test_node_that_joins_is_seen(watch, monkeypatch):
    monkeypatch.setattr(
        watch_module.ray, "nodes", lambda: [*NODES, {"Alive": True, "Resources": {"CPU": 3.0}}]
    )
    assert becomes(lambda: watch.amounts("CPU") == [2.0, 8.0, 3.0])


def test_head_that_ends_is_missed_at_once(watch, head):
    assert not is_lost(watch)
    head.end()
    assert becomes(lambda: is_lost(watch), patience_s=5)
    with pytest.raises(ScanError, match=f"the Ray cluster at {head.address} is gone; what is"):
        watch.check()


def test_head_that_hangs_up_on_an_idle_connection_is_not_missed(watch, head):
    n_before = len(head.connections)
    head.hang_up()
    assert becomes(lambda: len(head.connections) > n_before)
    assert not is_lost(watch)


def test_nodes_that_cannot_be_listed_for_once_are_those_known_before(watch, monkeypatch):
    def fail():
        raise RuntimeError

    monkeypatch.setattr(watch_module.ray, "nodes", fail)
    time.sleep(0.2)
    assert watch.amounts("CPU") == [2.0, 8.0]


def test_watch_that_is_closed_leaves_no_thread(watch):
    threads = list(watch._threads)
    watch.close()
    assert becomes(lambda: not any(thread.is_alive() for thread in threads))


def test_client_from_outside_watches_no_head(head, monkeypatch):
    monkeypatch.setattr(watch_module.ray, "nodes", lambda: NODES)
    monkeypatch.setattr(watch_module, "_head_address", lambda: "")
    watch = ClusterWatch()
    watch.check()
    assert len(watch._threads) == 1
    watch.close()


def test_ray_is_not_left_while_it_is_asked_for_its_nodes(watch, monkeypatch):
    """It aborts this process if its answer comes while it shuts down."""
    is_asked = threading.Event()

    def slow():
        is_asked.set()
        time.sleep(2)
        return NODES

    monkeypatch.setattr(watch_module.ray, "nodes", slow)
    assert is_asked.wait(10)
    watch.close()
    assert not any(thread.is_alive() for thread in watch._threads)
