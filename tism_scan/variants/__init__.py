"""From a store of all four bases to variants: files that are annotated, lists of every one, their ranks."""

from tism_scan.variants.annotating import AnnotateSummary, annotate

__all__ = ["AnnotateSummary", "annotate"]
