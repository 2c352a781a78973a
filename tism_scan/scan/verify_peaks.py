"""Whether the store of a set of peaks still holds what was published; what is damaged is pending again."""

from functools import partial

from tism_scan.scan.verify import Damage, VerifyReport, held_for_verifying, sum_up
from tism_scan.storage.places import Place
from tism_scan.store.peak_store import PeakStore


def verify_peaks(path: str | Place, *, full: bool = False, break_lock: bool = False) -> VerifyReport:
    """Compare a store with its records, make damaged parts pending again, and return what was found.

    A store that can only be read is left as it is.

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
    report = VerifyReport(found.path, full, unit="part")
    with held_for_verifying(found, report, break_lock=break_lock) as store:
        for key, content in store.unsound_metadata().items():
            report.mend(
                Damage(key, "was missing or damaged"),
                "it was written again",
                partial(store.folder.put, key, content),
            )
        marked = store.ledger.done()
        report.n_objects = len(marked)
        report.n_bytes = sum(checksums[0].size for checksums in marked.values())
        for part in store.damaged(full=full):
            report.add(
                Damage(str(part), "are not what was published"), partial(store.make_pending, part, marked)
            )
        sum_up(store, report)
        return report
