"""Ray's cluster: how a scan starts it, joins it and leaves it."""

import contextlib
import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from tism_scan.engine.devices import default_device
from tism_scan.errors import ClusterError, ScanError, TismScanError, UnreachableError
from tism_scan.progress import steps
from tism_scan.ray_scan.nodes import check_nodes, shipped_package
from tism_scan.ray_scan.watch import CONNECT_S, amounts_on

OBJECT_STORE_BYTES = 128 << 20  # blocks never pass through Ray's object store
LEAST_ADDRESS_SPACE = 2 << 30  # bytes; with less, Ray ends this process, and does not say why

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayOptions:
    """Where to compute, and with how many actors.

    Attributes
    ----------
    address : str
        ``"local"`` starts Ray on this machine, ``"auto"`` joins the cluster that runs here, and
        ``"ray://host:port"`` one that runs elsewhere. A process that has called ``ray.init`` itself keeps
        the cluster that it has.
    n_actors : int or None
        As many as fit the cluster, if None.
    max_actors : int or None
        Ask a cluster that grows by itself for as many as these, and use no more.
    gpus_per_actor : float or None
        GPUs, or the share of one, that an actor takes. None computes on a whole GPU each where there are
        GPUs, else on CPU cores; a number waits for GPUs that are yet to come.
    n_cpus, n_gpus : int or None
        What a local Ray may use; everything, if None.
    ships_package : bool
        Bring this package to nodes of a cluster that lack it, or have another release of it.
    stage_folder : str, Path or None
        Where, on each node's own disk, a copy of the genome is made and kept; see `tism_scan.storage.copies`.
    """

    address: str = "local"
    n_actors: int | None = None
    max_actors: int | None = None
    gpus_per_actor: float | None = None
    n_cpus: int | None = None
    n_gpus: int | None = None
    ships_package: bool = False
    stage_folder: str | Path | None = None


@contextlib.contextmanager
def connected(options: RayOptions, *, has_to_compute: bool = True) -> Iterator[None]:
    """Start or join a cluster, and leave it.

    Parameters
    ----------
    options : RayOptions
    has_to_compute : bool
        Check that each node of a cluster that was joined has what a scan needs.

    Raises
    ------
    ScanError
        If there is no cluster at the address, or none can be started.
    ClusterError
        If a node lacks this package, or what it needs.
    """
    if ray.is_initialized():
        yield
        return
    check_gpus(options)
    is_local = options.address == "local"
    if is_local:
        _check_address_space()
    steps.info("starting Ray" if is_local else f"joining the Ray cluster at {options.address!r}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns of a coming default; ours is set per actor, and not touched by it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if is_local:
        arguments |= {
            "num_cpus": options.n_cpus,
            "num_gpus": _n_gpus_here(options),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    elif options.ships_package:
        arguments["runtime_env"] = shipped_package()
    with _without_notices():
        try:
            try:
                _knock(options.address)
                with _on_loopback() if is_local else contextlib.nullcontext():
                    ray.init(address=options.address, **arguments)
            except Exception as error:  # Ray raises plain ones, too, where it cannot start
                raise _unreachable(options.address, error) from None
            if has_to_compute and not is_local:
                steps.info("looking at what the cluster's nodes have installed")
                check_nodes()
            yield
        finally:
            ray.shutdown()  # it prints what notices it has kept, so they are still off


def check_gpus(options: RayOptions) -> None:
    """Raise unless a Ray that is started here can have the GPUs that its actors are to take.

    Raises
    ------
    ClusterError
    """
    is_ours = options.address == "local" and not ray.is_initialized()
    if is_ours and options.gpus_per_actor and _n_gpus_here(options) == 0:
        raise ClusterError(
            f"--gpus-per-actor is {options.gpus_per_actor:g}, and PyTorch can use no GPU of this machine; "
            "expected at least one; check `nvidia-smi` and that PyTorch is a build with CUDA, give the "
            "--address of a cluster that has GPUs, or leave out --gpus-per-actor to compute on CPUs"
        )


def _check_address_space() -> None:
    """Raise if a limit on virtual memory is too tight for a Ray that is started here."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise ScanError(
            f"Ray cannot be started here: `ulimit -v` is {limit >> 10:,} KB; expected {4 << 20:,} KB or "
            "more; raise that limit, or lift it with `ulimit -v unlimited`"
        )


def takes_gpus(options: RayOptions) -> bool:
    """Return whether a scan's actors will compute on GPUs; a cluster elsewhere is asked.

    Raises
    ------
    ScanError, ClusterError
        As `connected`.
    """
    check_gpus(options)
    if options.gpus_per_actor:
        return True
    if options.address == "local" and not ray.is_initialized():
        return _n_gpus_here(options) != 0
    # Left at once, and joined again to scan: to plan may take minutes, in which nobody watches the head, and
    # Ray ends a process whose head is gone.
    with connected(replace(options, ships_package=False), has_to_compute=False):
        return bool(amounts_on(ray.nodes(), "GPU"))  # type: ignore[no-untyped-call]


def _n_gpus_here(options: RayOptions) -> int | None:
    """Return how many GPUs a Ray of our own may use, None for all: none if PyTorch cannot compute on any."""
    if options.n_gpus is None and default_device() == "cpu":
        return 0
    return options.n_gpus


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at a host and port; Ray itself takes minutes to say so."""
    if address == "auto":
        # What RAY_ADDRESS names, or the last cluster of this machine; private, so it may go: Ray looks, too.
        find = getattr(ray._private.services, "canonicalize_bootstrap_address", None)
        address = find(address) if find is not None else address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _unreachable(address: str, error: Exception) -> TismScanError:
    words = getattr(error, "strerror", None) or str(error)
    reason = (words.strip().splitlines() or [type(error).__name__])[0]
    if address == "local":
        return ScanError(
            f"Ray cannot be started here ({reason}); expected room in its temporary folder, no tight limit "
            "on files, memory or processes; check `df` and `ulimit -a`, and see the logs in that folder"
        )
    if isinstance(error, ImportError):
        return ClusterError(f"{address!r} needs Ray's client ({reason}); run: pip install 'ray[client]'")
    return UnreachableError(
        f"cannot reach a Ray cluster at {address!r} ({reason}); start one with `ray start`, or use "
        "--address local"
    )


def _without_notices() -> AbstractContextManager[None]:
    """Keep Ray from printing on this process's standard output.

    It reports there every worker that died, whatever the logging's level; the loop logs these itself. Ray
    has no public switch for it; if Ray drops this private flag, the notices reappear and nothing else
    changes.
    """
    return _switched_off(ray._private.worker, "_worker_logs_enabled")


def _on_loopback() -> AbstractContextManager[None]:
    """Have a Ray that starts now listen on 127.0.0.1 alone: whoever reaches its ports may run code.

    On Linux it takes the machine's address and listens everywhere, even if it is asked to use loopback; on
    other systems, where it makes no clusters, it uses loopback. It looks for that difference in one constant.
    """
    return _switched_off(ray._private.ray_constants, "ENABLE_RAY_CLUSTER")


@contextlib.contextmanager
def _switched_off(module: Any, name: str) -> Iterator[None]:
    """Set one of Ray's private flags to False inside the context."""
    before = getattr(module, name, True)
    setattr(module, name, False)
    try:
        yield
    finally:
        setattr(module, name, before)
