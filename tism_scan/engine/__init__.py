"""Codes in, scores out: the engines that compute blocks, and what they are made of.

`make_engine` chooses the fastest that can compute a scoring with a model. None of them
reads a genome or writes a store.
"""

from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.choice import make_engine
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine

__all__ = ["BlockEngine", "TrunkEngine", "WindowEngine", "make_engine"]
