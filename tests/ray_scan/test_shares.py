import pytest

from tism_scan.ray_scan.shares import cpus_per_actor


@pytest.mark.parametrize(
    ("cpus", "n_actors", "expected"),
    [
        ([16], None, 4),
        ([2], None, 2),
        ([2, 16], None, 2),
        ([6], None, 3),
        ([7], None, 3),
        ([31], None, 4),
        ([5], None, 1),
        ([], None, 1),
        ([8], 2, 4),
        ([2], 1, 2),
        ([2, 2], 1, 2),
        ([3, 3], 3, 1),
        ([4, 2], 3, 2),
        ([2], 3, 0.6666),
        ([1], 8, 0.125),
        ([0.5], None, 0.5),
    ],
)
def test_actors_share_the_cpus_of_nodes_evenly_and_each_fits_one_node(cpus, n_actors, expected):
    assert cpus_per_actor(cpus, n_actors) == expected
