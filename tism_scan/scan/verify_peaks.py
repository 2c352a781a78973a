"""Whether the store of a set of peaks still holds what was published; what is damaged is pending again."""

from tism_scan.scan.claim import finish
from tism_scan.scan.verify import Damage, VerifyReport, resuming_command
from tism_scan.storage.places import Place
from tism_scan.store.lease import Lease
from tism_scan.store.peak_store import PeakStore


def verify_peaks(path: str | Place, *, full: bool = False, break_lock: bool = False) -> VerifyReport:
    """Compare a store with its records, make damaged parts pending again, and return what was found.

    Parameters
    ----------
    path : str, Path or Url
    full : bool
        Read every object and compare its CRC-32; otherwise sizes are compared, from listings.
    break_lock : bool
        Take the store even if another process seems to write it.

    Raises
    ------
    StoreError
        If there is no such store at this path, or its record is damaged.
    LeaseError
        If a process is writing the store.
    """
    found = PeakStore.open(path)
    with Lease(found.folder).acquire(break_lock=break_lock) as lease:
        store = found.held_by(lease.tenure)
        report = VerifyReport(store.path, full, unit="part")
        report.swept = lease.swept
        report.mended = [Damage(key, "was missing or damaged; it was written again") for key in store.mend()]
        marked = store.ledger.done()
        report.n_objects = len(marked)
        report.n_bytes = sum(checksums[0].size for checksums in marked.values())
        damaged = store.verify(full=full)
        report.damaged = [Damage(str(part), "are not what was published") for part in damaged]
        finish(store)
        report.command = resuming_command(store)
        report.n_pending = sum(1 for _ in store.pending(retry_failed=True))
        return report
