"""Exact ISM at the bases that a scan found: which they are, what each substitution changes, and the run.

A refinement is a scan of its own, of a few bases, with another engine: its plan says which bases and why, and
its store, at ``ism`` inside the scan's, has the record, lease and fence of any other.
"""

from tism_scan.refine.engines import make_ism_engine
from tism_scan.refine.planning import PlannedRefinement, plan_refinement
from tism_scan.refine.refining import RefineWorker, refine

__all__ = ["PlannedRefinement", "RefineWorker", "make_ism_engine", "plan_refinement", "refine"]
