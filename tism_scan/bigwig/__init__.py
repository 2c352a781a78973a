"""Scores of one track as a bigWig, and what the file holds.

The file format only: nothing here knows a store, a model or a track. Exports are in `tism_scan.export`.
"""

from tism_scan.bigwig.summary import BigWigSummary
from tism_scan.bigwig.task import ReadScores
from tism_scan.bigwig.writing import Writer, foreseen_bytes, write_bigwig, writers_that_fit

__all__ = [
    "BigWigSummary",
    "ReadScores",
    "Writer",
    "foreseen_bytes",
    "write_bigwig",
    "writers_that_fit",
]
