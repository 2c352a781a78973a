import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.ray_scan import demand
from tism_scan.ray_scan.demand import Demand, bundles


@pytest.fixture
def asked(monkeypatch):
    """Return the list of what the autoscaler was asked for."""
    asked = []
    monkeypatch.setattr(demand.ray.autoscaler.sdk, "request_resources", lambda bundles: asked.append(bundles))
    return asked


@given(st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 4.0]), st.integers(0, 100))
def test_room_is_asked_for_so_many_actors_and_for_no_whole_gpu_more(share, n_actors):
    asked = bundles("GPU", share, n_actors)
    n_fitting = sum(int(bundle["GPU"] / share + 1e-9) for bundle in asked)
    n_per_bundle = max(1, int(1 / share + 1e-9))
    assert n_actors <= n_fitting < n_actors + n_per_bundle


@pytest.mark.parametrize("n_actors", [93, 99, 105, 117])
def test_actors_that_share_a_gpu_evenly_need_one(n_actors):
    assert bundles("GPU", 1 / n_actors, n_actors) == [{"GPU": 1.0}]


def test_cluster_is_asked_again_only_if_the_number_changes(asked):
    room = Demand("GPU", 1.0)
    for n_actors in (3, 3, 2):
        room.ask(n_actors)
    assert asked == [[{"GPU": 1.0}] * 3, [{"GPU": 1.0}] * 2]


def test_request_ends_with_the_scan(asked):
    room = Demand("CPU", 4)
    room.ask(1)
    room.close()
    assert asked == [[{"CPU": 4}], []]


def test_cluster_that_was_asked_for_nothing_is_left_alone(asked):
    Demand("GPU", 1.0).close()
    assert asked == []
