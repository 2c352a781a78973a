import os
import subprocess
import sys

import pytest
import ray
from ray.cluster_utils import Cluster

from tism_scan.errors import ClusterError
from tism_scan.ray_scan import nodes
from tism_scan.ray_scan.cluster import RayOptions, connected

# Run by every Python of a node: it hides this package there, but for what Ray has brought.
HIDE = """
import sys
from importlib.machinery import PathFinder


class Hider:
    def find_spec(name, path=None, target=None):
        if name == "tism_scan":
            brought = [entry for entry in sys.path if "py_modules" in entry]
            found = PathFinder.find_spec(name, brought)
            if found is None:
                raise ModuleNotFoundError("No module named 'tism_scan'", name=name)
            return found


sys.meta_path.insert(0, Hider)
"""


@pytest.fixture(scope="module")
def bare_cluster(tmp_path_factory):
    """Return the address of a cluster whose node lacks this package."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(HIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False},
            shutdown_at_exit=False,
        )
    yield cluster.address
    cluster.shutdown()


@pytest.mark.cluster
def test_node_that_lacks_the_package_is_named_before_anything_runs(bare_cluster):
    node = os.uname().nodename
    with (
        pytest.raises(ClusterError, match=rf"^node {node} lacks tism_scan; .*pip install .* --ship-package$"),
        connected(RayOptions(bare_cluster)),
    ):
        pytest.fail("nothing may run")
    assert not ray.is_initialized()


class Busy:
    def begin(self):
        return __import__("tism_scan").__file__


@pytest.mark.cluster
def test_package_is_brought_to_a_node_that_lacks_it_and_is_found_there_by_a_look_that_takes_no_cpu(
    bare_cluster, caplog
):
    with connected(RayOptions(bare_cluster, ships_package=True)):
        busy = ray.remote(Busy).options(num_cpus=1).remote()  # all that the node has
        where = ray.get(busy.begin.remote())
        nodes.check_nodes()
    assert "py_modules" in where
    assert "does not say what it has installed" not in caplog.text


def test_missing_modules_are_found_by_a_function_that_needs_none_of_ours():
    missing = nodes._look()
    assert missing(("sys", "surely_not_there")) == ["surely_not_there"]
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(('sys', 'no_such')))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code],
        input=ray.cloudpickle.dumps(missing),
        capture_output=True,
        check=True,
    )
    assert run.stdout.strip() == b"['no_such']"
