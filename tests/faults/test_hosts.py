"""Two hosts: network namespaces with addresses of their own, and a link between them that can be cut."""

import os
import shutil
import subprocess
import threading
import time

import pytest
from fault_workers import assert_scores_are_codes
from ray_heads import ray_start, started_head
from waiting import lines_of_log, wait_until

from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
NEAR, FAR = f"tsn{os.getpid()}", f"tsf{os.getpid()}"
NEAR_IP, FAR_IP = "10.77.0.1", "10.77.0.2"
# How long the link is cut: Ray takes a node for dead after about half a minute, and forgives less.
CUTS_S = {False: (3,), True: (3, 10, 75, 75, 75)}


def ip(*arguments, netns=None):
    command = ["ip", *(["-n", netns] if netns else []), *arguments]
    subprocess.run(command, check=True, capture_output=True)


def inside(netns):
    return ("ip", "netns", "exec", netns)


@pytest.fixture(scope="module")
def hosts():
    """Two network namespaces with a link between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and iproute2")
    if subprocess.run(["ip", "netns", "add", NEAR], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    ip("netns", "add", FAR)
    try:
        ip("link", "add", "near", "netns", NEAR, "type", "veth", "peer", "name", "far", "netns", FAR)
        for netns, link, address in ((NEAR, "near", NEAR_IP), (FAR, "far", FAR_IP)):
            ip("address", "add", f"{address}/24", "dev", link, netns=netns)
            ip("link", "set", "lo", "up", netns=netns)
            ip("link", "set", link, "up", netns=netns)
        yield
    finally:
        for netns in (NEAR, FAR):
            ip("netns", "delete", netns)


@pytest.mark.timeout(1400)
def test_link_between_two_hosts_may_be_cut_and_restored(hosts, scan, tmp_path, start_driver, is_full_dose):
    for i_cut, cut_s in enumerate(CUTS_S[is_full_dose]):
        store = ScoreStore.create(tmp_path / str(i_cut) / "scores.zarr", scan.plan)
        with started_head(ip=NEAR_IP, n_cpus=1, prefix=inside(NEAR)) as head:
            ray_start(inside(FAR), f"--address={head.address}", f"--node-ip-address={FAR_IP}", "--num-cpus=1")
            driver = start_driver(
                store.path,
                "fault_workers:UnhurriedWorker",
                address=head.address,
                n_actors=0,
                prefix=inside(NEAR),
            )
            assert wait_until(lambda store=store: len(nodes_at_work(store)) == 2)
            ip("link", "set", "far", "down", netns=FAR)
            restore = threading.Timer(cut_s, ip, ("link", "set", "far", "up"), {"netns": FAR})
            restore.start()
            began = time.monotonic()
            output, errors = driver.communicate(timeout=240)
            print(f"cut for {cut_s} s, ended {time.monotonic() - began:.0f} s later")  # noqa: T201
            restore.join()
        assert driver.returncode == 0, errors
        assert '"failed": {}' in output
        assert list(store.pending()) == []
        assert verify_store(store.path, full=True).is_sound
        assert_scores_are_codes(store, scan)


def nodes_at_work(store):
    return {node for event, _, _, node in lines_of_log(store) if event == "begin"}
