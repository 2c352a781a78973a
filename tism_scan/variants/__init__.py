"""From a store of all four bases to variants: files that are annotated, lists of every one, their ranks."""

from tism_scan.variants.annotating import AnnotateSummary, annotate
from tism_scan.variants.calibration import calibrate
from tism_scan.variants.kept_ranks import Calibration, calibration_fault, limits_of, read_calibration

__all__ = [
    "AnnotateSummary",
    "Calibration",
    "annotate",
    "calibrate",
    "calibration_fault",
    "limits_of",
    "read_calibration",
]
