"""``tism-scan status --watch``: how a scan goes on that runs elsewhere, such as a Ray job."""

import contextlib
import time
from typing import Any

from tism_scan.cli.console import base_count, count_of, duration, say
from tism_scan.places import Place


def watch(store: Place, every_s: float) -> int:
    """Print a line every few seconds until no block is pending, and return the exit code.

    Each line costs a listing of the store. A job that waits in a queue has not made its store yet: it is
    waited for.
    """
    from tism_scan.folder import open_folder
    from tism_scan.ledger import ROOT, RUN_KEY
    from tism_scan.status import store_status

    folder = open_folder(store)
    with contextlib.suppress(OSError):  # the first look at the store says it better
        while folder.get(RUN_KEY) is None and folder.stranger(ROOT) is None:
            say(f"{time.strftime('%H:%M:%S')}  no run has made a store at {store} yet")
            time.sleep(every_s)
    began = time.monotonic()
    first = status = store_status(store)
    while True:
        say(_line(first, status, time.monotonic() - began))
        if not status["total"]["blocks_pending"]:
            return 0 if status["is_complete"] else 1
        time.sleep(every_s)
        status = store_status(store)


def _line(first: dict[str, Any], status: dict[str, Any], seconds: float) -> str:
    """Return how far a scan is, and how fast it goes since the first look."""
    total = status["total"]
    n_done, n_pending = total["bases_done"], total["bases_pending"]
    n_all = n_done + n_pending + total["bases_failed"]
    words = [
        f"{time.strftime('%H:%M:%S')}  {100 * n_done / n_all:.1f} %",
        f"{base_count(n_done)} of {base_count(n_all)}",
    ]
    rate = (n_done - first["total"]["bases_done"]) / max(seconds, 1e-9)
    if rate > 0:
        words.append(f"{base_count(rate)}/s")
        if n_pending:
            words.append(f"{duration(n_pending / rate)} left")
    words += [
        f"{count_of(total['blocks_failed'], 'block')} failed",
        f"written by {status['lease'] or 'nobody now'}",
    ]
    return ", ".join(words)
