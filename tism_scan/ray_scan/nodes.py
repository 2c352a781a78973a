"""What a cluster's nodes have installed, checked before the first block."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tism_scan.errors import ClusterError
from tism_scan.version import __version__

# What an actor imports; find_spec wants the names of modules.
NEEDED = ("tism_scan", "torch", "zarr", "pyfaidx", "psutil", "numpy")
PATIENCE_S = 60.0

log = logging.getLogger(__name__)


def shipped_package() -> dict[str, Any]:
    """Return the runtime environment that brings this package, but none that it needs, to every node."""
    return {"py_modules": [str(Path(__file__).parents[1])]}


def check_nodes() -> None:
    """Raise unless every node that may hold an actor has what an actor imports.

    A node that does not answer is skipped: its actors report what is missing.

    Raises
    ------
    ClusterError
        Every node that lacks something is named.
    """
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    resource = "GPU" if any(node["Resources"].get("GPU") for node in nodes) else "CPU"
    look: Any = ray.remote(_look())
    looking = {}
    for node in nodes:
        if node["Resources"].get(resource):
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            call = look.options(num_cpus=0, max_retries=0, scheduling_strategy=here)
            looking[call.remote(NEEDED)] = str(node["NodeManagerHostname"])
    answered, silent = ray.wait(list(looking), num_returns=len(looking), timeout=PATIENCE_S)
    for call in silent:
        log.warning("node %s does not say what it has installed", looking[call])
    missing = {looking[call]: _answer(call, looking[call]) for call in answered}
    faults = [f"node {name} lacks {', '.join(names)}" for name, names in missing.items() if names]
    if faults:
        remedy = "run `pip install .` there, in a checkout of this release"
        if all(names in ([], ["tism_scan"]) for names in missing.values()):
            remedy += ", or add --ship-package"
        raise ClusterError(
            f"{'; '.join(faults)}; expected tism-scan {__version__} and what it needs; {remedy}"
        )


def _look() -> Callable[[tuple[str, ...]], list[str]]:
    """Return a function that travels by value: a node without this package cannot import it."""

    def missing(names: tuple[str, ...]) -> list[str]:
        found = []
        for name in names:
            try:
                if importlib.util.find_spec(name) is None:
                    found.append(name)
            except ModuleNotFoundError:
                found.append(name)
        return found

    return missing


def _answer(call: Any, node: str) -> list[str]:
    try:
        return list(ray.get(call))
    except ray.exceptions.RayError as error:
        log.warning("node %s does not say what it has installed: %s", node, type(error).__name__)
        return []
