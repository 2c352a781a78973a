"""What kind of store there is at a place."""

from tism_scan.plan.peak_plan import PEAKS
from tism_scan.storage.folder import open_folder
from tism_scan.storage.places import Place
from tism_scan.store.ledger import Ledger
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.score_store import ScoreStore


def open_store(path: str | Place) -> ScoreStore | PeakStore:
    """Return the store at a place: that of a scan, or of a set of peaks.

    Raises
    ------
    StoreError
        If there is none at this path, or its record is damaged.
    AccessError
        If there is no such bucket, or it may not be used.
    """
    return PeakStore.open(path) if is_of_peaks(path) else ScoreStore.open(path)


def is_of_peaks(path: str | Place) -> bool:
    """Return whether there is the store of a set of peaks; whatever else is there is not looked at."""
    try:
        recorded = Ledger(open_folder(path)).recorded() or {}
    except OSError:  # the opening of it says it better
        return False
    plan = recorded.get("plan")
    return isinstance(plan, dict) and plan.get("items") == PEAKS
