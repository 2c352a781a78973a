"""A scan on Ray: the driver, what it feeds to which actor, the actors, and the cluster.

The only door to ray. What a block is, and how it is scored, is in `tism_scan.scan` and `tism_scan.engine`.
"""

from tism_scan.ray_scan.cluster import RayOptions
from tism_scan.ray_scan.driver import scan_on_ray

__all__ = ["RayOptions", "scan_on_ray"]
