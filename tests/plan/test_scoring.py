"""What is made of substitutions' effects, in NumPy and in torch."""

import numpy as np
import pytest
import torch

from tism_scan.errors import PlanError
from tism_scan.plan.scoring import Scoring, minus_mean_effect
from tism_scan.plan.tracks import Track

TRACKS = (Track("0", (0,), (1.0,)),)


def test_order_of_a_path_does_not_matter():
    assert Scoring(TRACKS, 24, 6, path=(0.5, 1, 0.75)) == Scoring(TRACKS, 24, 6, path=(1, 0.75, 0.5))
    assert Scoring(TRACKS, 24, 6, path=[1]) == Scoring(TRACKS, 24, 6)


@pytest.mark.parametrize(
    ("path", "shown"),
    [((), "(nothing)"), ((1, 0), "1,0"), ((1.5,), "1.5"), ((0.5, 0.5), "0.5,0.5"), ((float("nan"),), "nan")],
)
def test_path_that_is_none_is_refused(path, shown):
    with pytest.raises(PlanError) as caught:
        Scoring(TRACKS, 24, 6, path=path)
    assert str(caught.value).startswith(f"path {shown} is none; expected different numbers above 0")


@pytest.mark.parametrize("path", [("a",), (None,), 1])
def test_path_that_is_no_numbers_is_refused(path):
    with pytest.raises(PlanError, match="is none; expected numbers such as"):
        Scoring(TRACKS, 24, 6, path=path)


def test_the_mean_over_three_substitutions_is_positive_where_they_lower_the_output():
    effects = np.array([[0, -2], [-1, 0], [-2, 2], [-3, 3]], dtype=np.float32)
    np.testing.assert_array_equal(minus_mean_effect(effects), [2, -1])


def test_a_base_without_effects_has_no_mean():
    effects = np.ones((3, 4, 5), dtype=np.float32)
    effects[1, 2, 3] = np.nan
    assert np.argwhere(np.isnan(minus_mean_effect(effects))).tolist() == [[1, 3]]


def test_it_is_float32_to_the_bit_as_stores_are_read():
    effects = np.random.default_rng(0).normal(size=(3, 4, 1000)).astype(np.float32)
    expected = -effects.sum(axis=1) / np.float32(3)
    assert minus_mean_effect(effects).tobytes() == expected.tobytes()
    assert minus_mean_effect(effects[1]).tobytes() == expected[1].tobytes()


def test_tensors_have_the_same_mean():
    effects = np.random.default_rng(1).normal(size=(2, 4, 9)).astype(np.float32)
    mean = minus_mean_effect(torch.tensor(effects))
    np.testing.assert_allclose(mean.numpy(), minus_mean_effect(effects), rtol=1e-6, atol=1e-7)
