"""The process in which pyBigWig writes: ``python -m tism_scan.bigwig.pybigwig_process FILE``.

It reads the chroms and then blocks of scores from its standard input, and answers each on its standard
output.
"""

import json
import os
import signal
import struct
import sys

import numpy as np
import pyBigWig
from numpy.typing import NDArray

# Number of the chrom, start of the block, and its bases, which follow as float32; no bases end the file.
FRAME = struct.Struct("<3Q")
ACKNOWLEDGED = b"."
MAX_ZOOMS = 10  # with 0, IGV cannot open the file


def main() -> None:
    """Write one file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends this process
    chroms = [(name, length) for name, length in json.loads(_read(struct.unpack("<Q", _read(8))[0]))]
    bigwig = pyBigWig.open(sys.argv[1], "w")
    bigwig.addHeader(chroms, maxZooms=MAX_ZOOMS)
    _acknowledge()
    while True:
        i_chrom, start, n_bases = FRAME.unpack(_read(FRAME.size))
        if not n_bases:
            break
        scores = np.frombuffer(_read(4 * n_bases), np.float32)
        for first, last in _runs(scores):
            bigwig.addEntries(chroms[i_chrom][0], start + first, values=scores[first:last], span=1, step=1)
        _acknowledge()
    bigwig.close()
    _acknowledge()


def _runs(scores: NDArray[np.float32]) -> list[list[int]]:
    """Return start and end of every run of bases that have a score."""
    is_scored = ~np.isnan(scores)
    edges = np.flatnonzero(np.diff(is_scored, prepend=False, append=False))
    runs: list[list[int]] = edges.reshape(-1, 2).tolist()
    return runs


def _read(n_bytes: int) -> bytes:
    content = sys.stdin.buffer.read(n_bytes)
    if len(content) < n_bytes:
        os._exit(1)  # the driver is gone: an orderly end would complete the file first
    return content


def _acknowledge() -> None:
    sys.stdout.buffer.write(ACKNOWLEDGED)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
