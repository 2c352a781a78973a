"""The ranks of a store's scores, kept beside its record: some 10,000 numbers a track, outside the plan."""

import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import InputError, StoreError
from tism_scan.export.record import content_of
from tism_scan.export.seqlets import Limits
from tism_scan.plan.scoring import Scoring
from tism_scan.storage.read_only import refusal_explained
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.ranks import RankTable

KEY = ".scan/calibration.npz"
FORMAT = 1
SUBSTITUTIONS, MEAN = "substitutions", "bases"  # what is ranked, in the plural
REMEDY = "calibrate a copy of it"
_AGAIN = "run `tism-scan calibrate` again"


@dataclass(frozen=True)
class Calibration:
    """The ranks of a store's scores.

    Attributes
    ----------
    background : str
        Where the ranked scores are: ``"the store"``, or the name of a BED file.
    substitutions : tuple of RankTable
        One a track, of |TISM| of the three substitutions of each base; none for a store of mean TISM.
    mean : tuple of RankTable
        One a track, of |mean TISM| of each base.
    """

    background: str
    substitutions: tuple[RankTable, ...]
    mean: tuple[RankTable, ...]

    def described(self, i_track: int) -> str:
        """Return what the PHRED of a track's substitutions is a rank among."""
        return f"the {self.substitutions[i_track].n:,} substitutions of {self.background}"


def kinds_of(scoring: Scoring) -> tuple[str, ...]:
    """Return which kinds of scores are ranked."""
    return (SUBSTITUTIONS, MEAN) if scoring.values == "tism" else (MEAN,)


def keep_calibration(store: ScoreStore, calibration: Calibration, content: str) -> None:
    """Keep ranks beside a store whose blocks were those of `content_of` when they were counted.

    Raises
    ------
    StorageFullError, StorageError, ReadOnlyError
        If they cannot be kept.
    """
    packed = _packed(calibration, content, store.plan.digest())
    with refusal_explained("the ranks", store.path, REMEDY):
        store.folder.put(KEY, packed)


def read_calibration(store: ScoreStore) -> Calibration | None:
    """Return the ranks that were kept beside a store, None if there are none.

    Raises
    ------
    StoreError
        If they are damaged, or the store's blocks have changed since.
    """
    packed = store.folder.get(KEY)
    if packed is None:
        return None
    try:
        about, found = _unpacked(packed, store)
    except Exception as error:  # bits at random can make NumPy fail in any way
        raise StoreError(f"{KEY} of {store.path} is damaged ({error}); {_AGAIN}") from None
    if about["content"] != content_of(store) or about["plan"] != store.plan.digest():
        raise StoreError(f"{KEY} of {store.path} ranks other scores than the store has now; {_AGAIN}")
    return Calibration(str(about["background"]), found.get(SUBSTITUTIONS, ()), found[MEAN])


def limits_of(store: ScoreStore, phred: float) -> Limits:
    """Return from which |mean score| on each track of a store has a PHRED, for seqlets.

    Parameters
    ----------
    store : ScoreStore
    phred : float
        At least 3, which the higher half has.

    Raises
    ------
    InputError
        If it is less, or the store has no ranks.
    StoreError
        If they are damaged, or the store's blocks have changed since.
    """
    if not 3 <= phred < math.inf:
        raise InputError(f"PHRED {phred:g} is out of its range; expected 3 or more, such as 30")
    calibration = read_calibration(store)
    if calibration is None:
        raise InputError(
            f"{store.path} has no ranks; a threshold by PHRED needs them; run `tism-scan calibrate` first"
        )
    edges = [np.float32(table.lowest_above(phred)) for table in calibration.mean]
    return Limits(
        tuple(float(np.nextafter(edge, np.float32(np.inf))) for edge in edges),
        f"PHRED {phred:g} among the {calibration.mean[0].n:,} {MEAN} of {calibration.background}",
    )


def calibration_fault(store: ScoreStore) -> str | None:
    """Return what is wrong with the ranks beside a store; None if nothing is, or there are none.

    They are damaged, or rank other scores than the store has now, as after a block was computed again.
    """
    try:
        read_calibration(store)
    except StoreError as error:
        return str(error)
    return None


def _unpacked(packed: bytes, store: ScoreStore) -> tuple[dict[str, Any], dict[str, tuple[RankTable, ...]]]:
    """Return what an object says of its ranks, and the ranks; raise one of many errors if it is damaged."""
    with np.load(io.BytesIO(packed)) as arrays:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        found = {
            kind: tuple(
                RankTable(n, arrays[f"{kind}.{i}.edges"], arrays[f"{kind}.{i}.hundredths"])
                for i, n in enumerate(numbers)
            )
            for kind, numbers in about["n"].items()
        }
    if about["plan"] == store.plan.digest():
        n_tracks, kinds = len(store.plan.scoring.tracks), kinds_of(store.plan.scoring)
        if set(found) != set(kinds) or any(len(tables) != n_tracks for tables in found.values()):
            raise ValueError(f"expected ranks of {n_tracks:,} tracks")
    for table in (table for tables in found.values() for table in tables):
        _check_table(table)
    return about, found


def _check_table(table: RankTable) -> None:
    """Raise ValueError unless a table can be one of ranks."""
    edges, hundredths = table.edges, table.hundredths
    is_one = edges.ndim == 1 and edges.shape == hundredths.shape and edges.dtype == np.float32
    if not (is_one and table.n > 0 and np.issubdtype(hundredths.dtype, np.integer)):
        raise ValueError("a table of another shape")
    if not (np.all(edges[1:] > edges[:-1]) and np.all(hundredths[1:] > hundredths[:-1])):
        raise ValueError("edges that are out of order")


def _packed(calibration: Calibration, content: str, plan: str) -> bytes:
    """Return the object that holds a calibration."""
    tables = {SUBSTITUTIONS: calibration.substitutions, MEAN: calibration.mean}
    about = {
        "format": FORMAT,
        "background": calibration.background,
        "content": content,
        "plan": plan,
        "n": {kind: [table.n for table in each] for kind, each in tables.items() if each},
    }
    arrays: dict[str, NDArray[Any]] = {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
    for kind, each in tables.items():
        for i, table in enumerate(each):
            arrays[f"{kind}.{i}.edges"] = table.edges
            arrays[f"{kind}.{i}.hundredths"] = table.hundredths
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # NumPy's own types take the names for its options
    return archive.getvalue()
