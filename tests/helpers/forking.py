"""New processes that begin where the imports end."""

import multiprocessing

# Most of what a small process takes is the import of these. The fork server imports them once for each
# process of pytest, and has one thread, so that what is forked from it is sound.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["torch", "ray", "zarr", "matplotlib.pyplot", "tism_scan.ray_scan.driver", "tism_scan.scan.planning"]
)
