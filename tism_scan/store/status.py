"""What a store holds: counts of blocks and bases, from listings alone."""

from collections import Counter
from typing import Any

from tism_scan.storage.places import Place
from tism_scan.store.lease import current_owner
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
        the same of the store's exact ISM, with the number of chosen bases in place of the plan.

    Raises
    ------
    StoreError
        If there is no store at this path, or its record is damaged.
    """
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
    _, owner = current_owner(store.folder)
    return {
        "path": str(store.path),
        "is_complete": not total["blocks_pending"] and not total["blocks_failed"],
        "provenance": store.ledger.provenance(),
        "devices": store.ledger.devices(),
        "lease": None if owner is None or owner.is_gone(store.folder) else str(owner),
        "total": _complete(total),
        "chroms": chroms,
        "failures": failures,
    }


def _complete(counts: Counter[str]) -> dict[str, int]:
    """Return the counts with zeros where nothing was counted."""
    return {f"{unit}_{state}": counts[f"{unit}_{state}"] for unit in ("blocks", "bases") for state in _STATES}
