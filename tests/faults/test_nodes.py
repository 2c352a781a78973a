"""Nodes that come and go, are slow, or lose their head."""

import json
import re

import pytest
import ray
from drivers import driver_environment
from fault_workers import HeldWorker, SlowNodeWorker, assert_scores_are_codes
from ray.cluster_utils import Cluster
from ray_heads import started_head
from waiting import lines_of_log, repeated_without_reason, wait_until

from tism_scan.ray_scan.driver import scan_on_ray
from tism_scan.ray_scan.pool import IN_FLIGHT_PER_ACTOR
from tism_scan.store.lease import current_owner
from tism_scan.store.score_store import ScoreStore

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
CHANGES = {False: 1, True: 20}


@pytest.fixture(scope="module")
def cluster():
    """A head that computes nothing, for nodes to be added, and this process as the driver."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in driver_environment().items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def store(scan, tmp_path):
    return ScoreStore.create(tmp_path / "scores.zarr", scan.plan)


def scan_with(worker_class, store, scan, **settings):
    return scan_on_ray(store, scan.genome, scan.weights, worker_class=worker_class, **settings)


def nodes_in(store, event="done"):
    return {node for what, _, _, node in lines_of_log(store) if what == event}


@pytest.mark.timeout(900)
def test_blocks_of_a_lost_node_are_computed_by_one_that_joins(cluster, scan, tmp_path, is_full_dose):
    for i_change in range(CHANGES[is_full_dose]):
        store = ScoreStore.create(tmp_path / str(i_change) / "scores.zarr", scan.plan)
        nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
        joined, hold = [], store.path.parent / "hold"

        def exchange(progress, store=store, nodes=nodes, joined=joined, hold=hold):
            if progress.n_blocks >= 5 and not joined:
                hold.touch()  # so that blocks are left for the new node, however long it takes to join
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                joined.append(cluster.add_node(num_cpus=1))
            elif joined and joined[0].node_id[:8] in nodes_in(store, "begin"):
                hold.unlink(missing_ok=True)

        progress = scan_with(HeldWorker, store, scan, on_progress=exchange)
        assert not progress.failed
        assert list(store.pending()) == []
        assert_scores_are_codes(store, scan)
        (new,) = joined
        assert new.node_id[:8] in nodes_in(store)
        for node in [*nodes, new]:
            cluster.remove_node(node)
    print(f"{CHANGES[is_full_dose]} nodes lost and added")  # noqa: T201  # the figure that is reported


def test_slow_node_gets_fewer_blocks_and_does_not_hold_up_the_others(cluster, scan, store):
    slow, quick = (cluster.add_node(num_cpus=1) for _ in range(2))
    (store.path.parent / "slow").write_text(slow.node_id)
    assert not scan_with(SlowNodeWorker, store, scan).failed
    for node in (slow, quick):
        cluster.remove_node(node)
    done_by = [node for event, _, _, node in lines_of_log(store) if event == "done"]
    assert done_by.count(quick.node_id[:8]) > 3 * done_by.count(slow.node_id[:8])
    # What the slow node has in flight at the end is given to the quick one, and may end on its way there.
    assert len(repeated_without_reason(lines_of_log(store))) <= IN_FLIGHT_PER_ACTOR
    assert_scores_are_codes(store, scan)


@pytest.fixture
def head():
    with started_head() as head:
        yield head


@pytest.mark.timeout(900)
def test_driver_ends_with_one_line_when_its_head_is_lost_and_the_store_resumes(
    head, scan, tmp_path, start_driver, is_full_dose
):
    for is_restarted in (False, True) if is_full_dose else (False,):
        store = ScoreStore.create(tmp_path / str(is_restarted) / "scores.zarr", scan.plan)
        driver = start_driver(store.path, "fault_workers:CodesWorker", address=head.address)
        assert wait_until(lambda store=store: len(store.done_blocks()) >= 3)
        head.kill()
        if is_restarted:
            head.start()
        output, errors = driver.communicate(timeout=180)
        said = errors.splitlines()[-1]
        assert re.search(rf"ScanError: the Ray cluster at [\d.]+:{head.port} is gone; what is finished", said)
        assert json.loads(output.splitlines()[-1])["n_blocks"] >= 1  # the last may not have been told
        assert current_owner(store.folder)[1].released
        if not is_restarted:
            head.start()
        again = start_driver(store.path, "fault_workers:CodesWorker", address=head.address)
        assert again.wait(180) == 0
        assert_scores_are_codes(store, scan)
