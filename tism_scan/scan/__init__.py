"""A scan in one process: its blocks, their scores, an estimate of the work, and the check of a store.

The scan on a cluster is in `tism_scan.ray_scan`, and uses the same blocks.
"""

from tism_scan.scan.blocks import scan_serially
from tism_scan.scan.estimate import estimate_scan
from tism_scan.scan.verify import verify_store

__all__ = ["estimate_scan", "scan_serially", "verify_store"]
