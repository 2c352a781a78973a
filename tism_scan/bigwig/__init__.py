"""Scores of one track as a bigWig, and what the file holds."""

from tism_scan.bigwig.request import ReadScores
from tism_scan.bigwig.summary import BigWigSummary
from tism_scan.bigwig.writing import Writer, write_bigwig

__all__ = ["BigWigSummary", "ReadScores", "Writer", "write_bigwig"]
