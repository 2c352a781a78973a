"""Which windows of a stretch are computed, and how many reach a base."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_models import TRACKS, blocks_scored_by

from tism_scan.engine import block_engine
from tism_scan.engine.block_engine import needed_windows
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.plan.scoring import Scoring


@given(data=st.data())
def test_needed_windows_are_those_whose_reach_holds_a_base_aimed_at(data):
    stride, n_windows = data.draw(st.integers(1, 7)), data.draw(st.integers(0, 9))
    start, length = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 20))
    reach = slice(start, start + length)
    n = max(0, n_windows - 1) * stride + reach.stop + data.draw(st.integers(0, 4))
    target = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=np.bool_)
    obvious = [i for i in range(n_windows) if target[i * stride + start :][:length].any()]
    found = needed_windows(target, reach, stride, n_windows)
    assert found.tolist() == obvious
    assert found.dtype == np.int64


@pytest.mark.parametrize(("stitch", "is_divided"), [("center", False), ("mean", True)])
def test_scores_are_divided_only_where_a_base_has_several_windows(
    tiny_model, monkeypatch, stitch, is_divided
):
    calls = []
    real = block_engine._windows_over
    monkeypatch.setattr(block_engine, "_windows_over", lambda *given: calls.append(1) or real(*given))
    blocks_scored_by(WindowEngine(tiny_model, Scoring(TRACKS, 24, 6, stitch)), np.zeros(50, np.uint8))
    assert bool(calls) is is_divided
