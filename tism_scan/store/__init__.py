"""The Zarr store of scores: its arrays, the record of what is done, who may write, and its status.

Where its bytes are kept is the business of `tism_scan.storage`; this is the only door to zarr.
"""

from tism_scan.store.peak_store import PeakStore
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.status import store_status

__all__ = ["PeakStore", "ScoreStore", "store_status"]
