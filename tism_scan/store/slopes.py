"""How steeply exact ISM rises with TISM, by track, as an audit found it: kept beside a store's record."""

import json
from collections.abc import Mapping

from tism_scan.storage.read_only import refusal_explained
from tism_scan.store.score_store import ScoreStore

KEY = ".scan/slopes.json"
REMEDY = "audit with a copy of it, or leave --store out"


def keep_slopes(store: ScoreStore, slopes: Mapping[str, float]) -> None:
    """Keep an audit's slopes beside a store, in place of those kept before.

    Parameters
    ----------
    store : ScoreStore
    slopes : mapping from str to float
        Of the line of least squares that gives exact ISM by TISM, by the track's name.

    Raises
    ------
    StorageFullError, StorageError, ReadOnlyError
        If they cannot be kept.
    """
    kept = {"plan": store.plan.digest(), "slopes": dict(slopes)}
    with refusal_explained("the slopes", store.path, REMEDY):
        store.folder.put(KEY, json.dumps(kept, indent=2).encode() + b"\n")


def kept_slopes(store: ScoreStore) -> dict[str, float]:
    """Return the slopes kept beside a store, by track; none if there are none.

    What is damaged, or of another plan, counts for nothing: no score depends on it.
    """
    try:
        kept = json.loads(store.folder.get(KEY) or b"{}")
        is_own = kept.get("plan") == store.plan.digest()
        return {str(name): float(slope) for name, slope in kept["slopes"].items()} if is_own else {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
