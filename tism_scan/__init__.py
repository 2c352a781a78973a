"""Score every base of a genome with a sequence-to-function model, by Taylor-approximated ISM.

The names below are the whole path from FASTA to bigWig. Each is loaded when it is first used: importing this
package loads neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tism_scan.version import __version__ as __version__

if TYPE_CHECKING:
    from tism_scan.bigwig import write_bigwig
    from tism_scan.engine import WindowEngine, make_engine
    from tism_scan.errors import TismScanError
    from tism_scan.export import export_bigwigs
    from tism_scan.genome import Genome, Interval, parse_region, wanted_spans
    from tism_scan.models import Beluga, load_beluga, weights_digest
    from tism_scan.plan import ScanPlan, Scoring, Track, read_track_names, select_tracks
    from tism_scan.ray_scan import RayOptions, scan_on_ray
    from tism_scan.scan import scan_serially
    from tism_scan.store import ScoreStore

_MODULE_OF = {
    "Beluga": "models",
    "Genome": "genome",
    "Interval": "genome",
    "RayOptions": "ray_scan",
    "ScanPlan": "plan",
    "ScoreStore": "store",
    "Scoring": "plan",
    "TismScanError": "errors",
    "Track": "plan",
    "WindowEngine": "engine",
    "export_bigwigs": "export",
    "load_beluga": "models",
    "make_engine": "engine",
    "parse_region": "genome",
    "read_track_names": "plan",
    "scan_on_ray": "ray_scan",
    "scan_serially": "scan",
    "select_tracks": "plan",
    "wanted_spans": "genome",
    "weights_digest": "models",
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
