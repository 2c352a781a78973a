"""Scans in processes of their own, as ``ray_driver.py`` runs them."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

HELPERS = Path(__file__).parent


def driver_environment():
    """Return what a driver, or a node, needs to find the workers of these tests."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    folders = [str(HELPERS), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    return environment | {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


@contextlib.contextmanager
def starting_drivers(genome, weights):
    """Yield a function that starts a scan of a genome; what still runs in the end is killed."""
    started = []

    def start(store, worker_class, *, n_actors=2, address="local", prefix=()):
        command = [*prefix, sys.executable, HELPERS / "ray_driver.py", store, genome, weights]
        driver = subprocess.Popen(
            list(map(str, [*command, worker_class, n_actors, address])),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a signal can be sent to all of its processes, and to no other
            env=driver_environment(),
        )
        started.append(driver)
        return driver

    try:
        yield start
    finally:
        for driver in started:
            if driver.poll() is None:
                driver.kill()
            driver.communicate()
