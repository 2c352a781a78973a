"""A scan in a process of its own: ``ray_driver.py STORE GENOME WEIGHTS WORKER_CLASS N_ACTORS [ADDRESS]``.

It prints a line of JSON for each change of its progress.
"""

import json
import logging
import sys
from importlib import import_module
from pathlib import Path

from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.store.score_store import ScoreStore


def main(store, genome, weights, worker_class, n_actors, address="local"):
    logging.getLogger("tism_scan").addHandler(logging.NullHandler())  # only what is not ours is of interest
    shown = {}

    def show(progress):
        nonlocal shown
        now = {"n_blocks": progress.n_blocks, "n_actors": progress.n_workers}
        if now != shown:
            shown = now
            print(json.dumps(shown), flush=True)  # noqa: T201  # the test reads it

    progress = scan_on_ray(
        ScoreStore.open(store),
        Path(genome),
        Path(weights),
        options=RayOptions(address, n_actors=int(n_actors) or None, n_cpus=2),
        on_progress=show,
        worker_class=worker_named(worker_class),
    )
    end = {"was_stopped": progress.was_stopped, "failed": progress.failed}
    print(json.dumps(end), flush=True)  # noqa: T201


def worker_named(name):
    """Return a class of `ray_workers`, or of another module: ``MODULE:CLASS``."""
    module, _, attribute = name.rpartition(":")
    return getattr(import_module(module or "ray_workers"), attribute)


if __name__ == "__main__":
    main(*sys.argv[1:])
