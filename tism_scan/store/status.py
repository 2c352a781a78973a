"""What a store holds: counts of blocks and bases, from listings alone."""

from collections import Counter
from typing import Any

from tism_scan.storage.places import Place
from tism_scan.store.lease import current_owner
from tism_scan.store.opening import is_of_peaks
from tism_scan.store.owned import OwnedStore
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.refined import open_refinement
from tism_scan.store.score_store import ScoreStore

_STATES = ("done", "pending", "failed")


def store_status(path: str | Place) -> dict[str, Any]:
    """Return the state of a store, as plain lists, dicts, strings and numbers.

    Parameters
    ----------
    path : str, Path or Url

    Returns
    -------
    dict
        ``path``, ``is_complete``, ``plan``, ``provenance``, ``devices`` (what computed the blocks), ``lease``
        (who is writing, or None), ``total``, ``chroms`` (blocks and bases that are done, pending and failed,
        of each chrom, short ones that share an array together), ``failures``, and ``refinement``: None, or
        the same of the store's exact ISM, with the number of chosen bases in place of the plan. Of a set of
        peaks, ``total`` counts parts and peaks in place of blocks and bases, and there are neither ``chroms``
        nor ``refinement``.

    Raises
    ------
    StoreError
        If there is no store at this path, or its record is damaged.
    """
    if is_of_peaks(path):
        return _peak_status(PeakStore.open(path))
    store = ScoreStore.open(path)
    refined = open_refinement(store)
    refinement = None
    if refined is not None and refined.plan.selection is not None:
        described = {"rule": refined.plan.selection.rule, "n_bases": refined.plan.n_wanted}
        refinement = described | _state(refined)
    return _state(store) | {"plan": store.plan.to_json(), "refinement": refinement}


def _state(store: ScoreStore) -> dict[str, Any]:
    """Return what of a store is done, pending and failed."""
    done = store.done_blocks()
    failed = {(failure.chrom, failure.i_block): failure for failure in store.ledger.failures()}
    failures, chroms, total = [], [], Counter[str]()
    for array in store.plan.arrays:
        counts: Counter[str] = Counter()
        for block in store.plan.blocks(array):
            address = (array, block.i_block)
            state = "done" if address in done else "failed" if address in failed else "pending"
            counts[f"blocks_{state}"] += 1
            counts[f"bases_{state}"] += block.n_bases
            if state == "failed":
                failure = failed[address]
                failures.append(
                    {"interval": str(block), "error": failure.error, "n_attempts": failure.n_attempts}
                )
        total += counts
        chroms.append({"chrom": store.plan.name_of(array), **_complete(counts)})
    return _record(store) | {
        "is_complete": not total["blocks_pending"] and not total["blocks_failed"],
        "total": _complete(total),
        "chroms": chroms,
        "failures": failures,
    }


def _peak_status(store: PeakStore) -> dict[str, Any]:
    """Return what of a set of peaks is done, pending and failed."""
    failed = {failure.i_block: failure for failure in store.ledger.failures()}
    unfinished = {part.i_part for part in store.pending(retry_failed=True)}
    failures, total = [], Counter[str]()
    for part in store.plan.parts():
        is_failed = part.i_part in failed and part.i_part in unfinished
        state = "failed" if is_failed else "pending" if part.i_part in unfinished else "done"
        total[f"parts_{state}"] += 1
        total[f"peaks_{state}"] += part.size
        if is_failed:
            failure = failed[part.i_part]
            failures.append({"interval": str(part), "error": failure.error, "n_attempts": failure.n_attempts})
    return _record(store) | {
        "is_complete": not unfinished,
        "plan": store.plan.to_json(),
        "total": _complete(total, ("parts", "peaks")),
        "failures": failures,
    }


def _record(store: OwnedStore[Any]) -> dict[str, Any]:
    """Return where a store is, what made it, and who writes it."""
    _, owner = current_owner(store.folder)
    return {
        "path": str(store.path),
        "provenance": store.ledger.provenance(),
        "devices": store.ledger.devices(),
        "lease": None if owner is None or owner.is_gone(store.folder) else str(owner),
    }


def _complete(counts: Counter[str], units: tuple[str, str] = ("blocks", "bases")) -> dict[str, int]:
    """Return the counts with zeros where nothing was counted."""
    return {f"{unit}_{state}": counts[f"{unit}_{state}"] for unit in units for state in _STATES}
