"""Sequence for tests."""

import numpy as np


def random_sequence(length, seed):
    """Return letters of A, C, G and T, the same for a seed."""
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))
