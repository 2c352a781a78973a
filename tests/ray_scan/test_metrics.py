import pytest

from tism_scan.ray_scan import metrics
from tism_scan.ray_scan.metrics import ScanMetrics
from tism_scan.scan.result import ScanResult


class Recorder:
    """Stands in for Ray's counters and gauges: keeps the value of each name and tags."""

    values: dict

    def __init__(self, name, description, tag_keys=()):
        self.name = name

    def inc(self, value):
        assert value > 0  # Ray's counters raise otherwise
        self.values[self.name] = self.values.get(self.name, 0) + value

    def set(self, value, tags=None):
        self.values[(self.name, tags["actor"]) if tags else self.name] = value


@pytest.fixture
def values(monkeypatch):
    """Return what the metrics show."""
    monkeypatch.setattr(Recorder, "values", {}, raising=False)
    monkeypatch.setattr(metrics, "Counter", Recorder)
    monkeypatch.setattr(metrics, "Gauge", Recorder)
    return Recorder.values


def test_metrics_follow_a_scan(values):
    shown = ScanMetrics()
    shown.show(ScanResult(10, 1000), at_once=True)
    shown.show(
        ScanResult(10, 1000, 3, 300, 290, 2, {"a/1": 5.0, "a/2": 6.0}, {"c:1-100": "no luck"}), at_once=True
    )
    assert values == {
        "tism_scan_bases": 300,
        "tism_scan_blocks": 3,
        "tism_scan_blocks_pending": 6,
        "tism_scan_blocks_failed": 1,
        "tism_scan_actors": 2,
        ("tism_scan_actor_bases_per_second", "a/1"): 5.0,
        ("tism_scan_actor_bases_per_second", "a/2"): 6.0,
    }


def test_actor_that_is_gone_computes_nothing(values):
    shown = ScanMetrics()
    shown.show(ScanResult(bp_per_s={"a/1": 5.0}), at_once=True)
    shown.show(ScanResult(bp_per_s={}), at_once=True)
    assert values["tism_scan_actor_bases_per_second", "a/1"] == 0.0


def test_metrics_are_told_once_a_second_and_at_the_end(values):
    shown = ScanMetrics()
    for n_blocks in range(1, 4):
        shown.show(ScanResult(10, 1000, n_blocks))
    assert values["tism_scan_blocks"] == 1
    shown.show(ScanResult(10, 1000, 4), at_once=True)
    assert values["tism_scan_blocks"] == 4


def test_driver_outside_the_cluster_tells_nothing(values, monkeypatch):
    monkeypatch.setattr(metrics.ray.util.client.ray, "is_connected", lambda: True)
    ScanMetrics().show(ScanResult(10, 1000, 3, 300), at_once=True)
    assert values == {}
