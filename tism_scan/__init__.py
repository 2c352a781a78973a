"""Score every base of a genome with a sequence-to-function model, by Taylor-approximated ISM.

Seven calls go all the way: `plan_scan`, `scan`, `attribute`, `attribute_peaks`, `plan_effects`,
`score_variants`, `plot`. The other names below are what they are made of, for those who want a part. Each is
loaded when it is first used: importing this package loads neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tism_scan.version import __version__ as __version__

if TYPE_CHECKING:
    from tism_scan import attribution, errors
    from tism_scan.api import attribute, attribute_peaks, plot, scan, score_variants
    from tism_scan.bigwig import write_bigwig
    from tism_scan.effects import EffectSummary, PlannedEffects, plan_effects
    from tism_scan.engine import WindowEngine, make_engine
    from tism_scan.errors import TismScanError
    from tism_scan.export import export_bigwigs
    from tism_scan.genome import Genome, Interval, parse_region, wanted_spans
    from tism_scan.locus import LocusScores
    from tism_scan.models import Beluga, Model, ModelSource, load_beluga, weights_digest
    from tism_scan.plan import ScanPlan, Scoring, Track, read_track_names, select_tracks
    from tism_scan.progress import Progress
    from tism_scan.ray_scan import RayOptions, scan_on_ray
    from tism_scan.scan import Execution, PlannedScan, ScanResult, plan_scan, scan_serially
    from tism_scan.store import PeakStore, ScoreStore

# Where each name comes from; "" for a module of this package itself.
_HOMES = {
    "Beluga": "models",
    "EffectSummary": "effects",
    "Execution": "scan",
    "Genome": "genome",
    "Interval": "genome",
    "LocusScores": "locus",
    "Model": "models",
    "ModelSource": "models",
    "PeakStore": "store",
    "PlannedEffects": "effects",
    "PlannedScan": "scan",
    "Progress": "progress",
    "RayOptions": "ray_scan",
    "ScanPlan": "plan",
    "ScanResult": "scan",
    "ScoreStore": "store",
    "Scoring": "plan",
    "TismScanError": "errors",
    "Track": "plan",
    "WindowEngine": "engine",
    "attribute": "api",
    "attribute_peaks": "api",
    "attribution": "",
    "errors": "",
    "export_bigwigs": "export",
    "load_beluga": "models",
    "make_engine": "engine",
    "parse_region": "genome",
    "plan_effects": "effects",
    "plan_scan": "scan",
    "plot": "",  # a package that can be called: see `tism_scan.callable_package`
    "read_track_names": "plan",
    "scan": "",  # likewise
    "scan_on_ray": "ray_scan",
    "scan_serially": "scan",
    "score_variants": "api",
    "select_tracks": "plan",
    "wanted_spans": "genome",
    "weights_digest": "models",
    "write_bigwig": "bigwig",
}

__all__ = [
    "Beluga",
    "EffectSummary",
    "Execution",
    "Genome",
    "Interval",
    "LocusScores",
    "Model",
    "ModelSource",
    "PeakStore",
    "PlannedEffects",
    "PlannedScan",
    "Progress",
    "RayOptions",
    "ScanPlan",
    "ScanResult",
    "ScoreStore",
    "Scoring",
    "TismScanError",
    "Track",
    "WindowEngine",
    "attribute",
    "attribute_peaks",
    "attribution",
    "errors",
    "export_bigwigs",
    "load_beluga",
    "make_engine",
    "parse_region",
    "plan_effects",
    "plan_scan",
    "plot",
    "read_track_names",
    "scan",
    "scan_on_ray",
    "scan_serially",
    "score_variants",
    "select_tracks",
    "wanted_spans",
    "weights_digest",
    "write_bigwig",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    return getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
