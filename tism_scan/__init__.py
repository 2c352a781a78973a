"""Score every base of a genome with a sequence-to-function model, by Taylor-approximated ISM.

The names below are the whole path from FASTA to bigWig. Each is loaded when it is first used: importing this
package loads neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tism_scan.beluga import Beluga, load_beluga, weights_digest
    from tism_scan.bigwig import write_bigwig
    from tism_scan.engine import WindowEngine
    from tism_scan.errors import TismScanError
    from tism_scan.export import export_bigwigs
    from tism_scan.genome import Genome
    from tism_scan.intervals import Interval, parse_region
    from tism_scan.plan import ScanPlan, Scoring
    from tism_scan.ray_scan import RayOptions, scan_on_ray
    from tism_scan.scan import scan_serially
    from tism_scan.store import ScoreStore
    from tism_scan.tracks import Track, read_track_names, select_tracks
    from tism_scan.trunk_engine import make_engine
    from tism_scan.wanted import wanted_spans

__version__ = "0.1.0"

_MODULE_OF = {
    "Beluga": "beluga",
    "Genome": "genome",
    "Interval": "intervals",
    "RayOptions": "ray_scan",
    "ScanPlan": "plan",
    "ScoreStore": "store",
    "Scoring": "plan",
    "TismScanError": "errors",
    "Track": "tracks",
    "WindowEngine": "engine",
    "export_bigwigs": "export",
    "load_beluga": "beluga",
    "make_engine": "trunk_engine",
    "parse_region": "intervals",
    "read_track_names": "tracks",
    "scan_on_ray": "ray_scan",
    "scan_serially": "scan",
    "select_tracks": "tracks",
    "wanted_spans": "wanted",
    "weights_digest": "beluga",
    "write_bigwig": "bigwig",
}

__all__ = [
    "Beluga",
    "Genome",
    "Interval",
    "RayOptions",
    "ScanPlan",
    "ScoreStore",
    "Scoring",
    "TismScanError",
    "Track",
    "WindowEngine",
    "export_bigwigs",
    "load_beluga",
    "make_engine",
    "parse_region",
    "read_track_names",
    "scan_on_ray",
    "scan_serially",
    "select_tracks",
    "wanted_spans",
    "weights_digest",
    "write_bigwig",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
