"""The refinement of a store: exact ISM at selected bases, in a store of its own at ``ism`` inside it.

It has the layout, record, lease and fence of a scan's store, and its plan says how the bases were selected.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.storage.places import Place, Url
from tism_scan.store.arrays import node_name
from tism_scan.store.ledger import RUN_KEY
from tism_scan.store.score_store import ScoreStore

NAME = "ism"


class ExactScores:
    """Mean ISM at every base of a scan: exact where it was refined, 0 at its other bases.

    Whoever looks for the bases with the largest effects may take those that were not refined as having none.

    Parameters
    ----------
    scan, refined : ScoreStore

    Attributes
    ----------
    plan : ScanPlan
        The scan's.
    """

    def __init__(self, scan: ScoreStore, refined: ScoreStore) -> None:
        self.plan, self._scan, self._refined = scan.plan, scan, refined

    def read_track(self, chrom: str, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return one track, float32 (end - start,); NaN where the scan has no score.

        Parameters and errors are those of `ScoreStore.read_track`.
        """
        exact = self._refined.read_track(chrom, start, end, i_track)
        scores = self._scan.read_track(chrom, start, end, i_track)
        exact[np.isnan(exact) & ~np.isnan(scores)] = 0
        return exact


def refinement_place(store: ScoreStore) -> Place:
    """Return where a store's refinement is, or would be.

    Raises
    ------
    StoreError
        If the store is a refinement itself, or a chrom's array has the place.
    """
    if store.plan.selection is not None:
        raise StoreError(f"{store.path} is a refinement itself; expected the store of a scan; name that")
    taken = [chrom for chrom in store.plan.arrays if node_name(chrom).lower() == NAME]
    if taken:
        raise StoreError(
            f"{store.path} has a chrom named {taken[0]!r}, which is where exact ISM is kept; expected "
            "another name; rename the chrom in the FASTA, and scan again"
        )
    path = store.path
    return path / NAME if isinstance(path, Path) else Url(path.scheme, path.host, f"{path.key}/{NAME}")


def open_refinement(store: ScoreStore) -> ScoreStore | None:
    """Return the refinement of a store, or None if there is none.

    Raises
    ------
    StoreError
        If its record is damaged, or it refines another scan.
    """
    if store.plan.selection is not None or store.folder.get(f"{NAME}/{RUN_KEY}") is None:
        return None
    place = refinement_place(store)
    try:
        refined = ScoreStore.open(place)
    except StoreError as error:
        raise StoreError(f"the exact ISM at {place}: {error}; or remove that folder") from None
    selection = refined.plan.selection
    if selection is None or selection.scan != store.plan.digest():
        raise StoreError(
            f"{refined.path} is no refinement of {store.path}; expected exact ISM at bases of that scan; "
            "remove the folder, and run `tism-scan refine` again"
        )
    return refined


def existing_refinement(store: ScoreStore) -> ScoreStore:
    """Return the refinement of a store.

    Raises
    ------
    StoreError
        If there is none, or as `open_refinement`.
    """
    refined = open_refinement(store)
    if refined is None:
        raise StoreError(
            f"{store.path} has no exact ISM; expected a store that was refined; run `tism-scan refine` first"
        )
    return refined
