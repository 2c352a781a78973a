"""Codes in, scores out: the engines that compute blocks, and what they are made of.

`make_engine` chooses: the trunk engine where a model shares its trunk, else the window engine. Neither
reads a genome or writes a store.
"""

from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.trunk_engine import TrunkEngine, make_engine
from tism_scan.engine.window_engine import WindowEngine

__all__ = ["BlockEngine", "TrunkEngine", "WindowEngine", "make_engine"]
