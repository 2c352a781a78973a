"""Exact ISM at the bases that a scan found: what each substitution changes."""

from tism_scan.refine.engines import make_ism_engine

__all__ = ["make_ism_engine"]
