"""What is made of substitutions' effects, in NumPy and in torch."""

import numpy as np
import torch

from tism_scan.plan.scoring import minus_mean_effect


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
