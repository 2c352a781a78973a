"""A scan in one process: its blocks, their scores, an estimate of the work, and the check of a store.

The scan on a cluster is in `tism_scan.ray_scan`, and uses the same workers. Called as a function, this
package is `tism_scan.api.scan`.
"""

from tism_scan.callable_package import make_callable
from tism_scan.scan.estimate import estimate_scan
from tism_scan.scan.execution import Execution
from tism_scan.scan.planning import PlannedScan, plan_scan
from tism_scan.scan.result import ScanResult
from tism_scan.scan.serial import scan_serially
from tism_scan.scan.verify import verify_store

make_callable(__name__)

__all__ = [
    "Execution",
    "PlannedScan",
    "ScanResult",
    "estimate_scan",
    "plan_scan",
    "scan_serially",
    "verify_store",
]
