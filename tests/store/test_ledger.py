import json

import pytest
from small_plans import small_plan

from tism_scan.errors import PlanError, StoreError
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.ledger import RUN_KEY, Checksum, Failure, Ledger, ShardAddress

SIGNATURE = "0123456789abcdef"
ADDRESS = ShardAddress(3, 14, 2)
CHECKSUM = Checksum(12345, 0x0000BEEF)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(LocalFolder(tmp_path), SIGNATURE)


def test_plan_and_provenance_are_read_back(ledger):
    plan = small_plan()
    assert ledger.start(plan, {"torch": "2.6"})
    assert ledger.plan() == plan
    assert ledger.provenance() == {"torch": "2.6"}


def test_first_plan_stays(ledger):
    assert ledger.start(small_plan(1), {})
    assert not ledger.start(small_plan(2), {})
    assert ledger.plan() == small_plan(1)


def test_nothing_is_recorded_at_first(ledger):
    assert ledger.plan() is None
    assert ledger.provenance() == {}
    assert ledger.done() == {}
    assert ledger.failures() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: it is not JSON; restore the file"),
        (b'{"digest": "0', "is damaged: it is not JSON"),
        (b"[" * 100_000, "is damaged: it is not JSON"),
        (b"\xff\xfe", "is damaged: it is not JSON"),
        (b"[1, 2]", "is damaged: it holds no plan"),
        (b'{"digest": "0"}', "is damaged: it holds no plan"),
        (b'{"digest": "0", "plan": {"format": 2}}', "is damaged: its plan cannot be read"),
        (b'{"digest": "0", "plan": 7}', "is damaged: its plan cannot be read"),
        (b'{"digest": "0", "plan": {"format": 2, "scoring": {"tracks": [{}]}}}', "is damaged: its plan"),
    ],
)
def test_damaged_record_is_one_clear_error(ledger, content, message):
    ledger.folder.put(RUN_KEY, content)
    with pytest.raises(StoreError, match=rf"\.scan/run\.json {message}"):
        ledger.plan()


@pytest.mark.parametrize("provenance", [None, 7, "ab", ["ab"]])
def test_provenance_that_cannot_be_read_is_none(ledger, provenance):
    ledger.start(small_plan(), {})
    record = json.loads(ledger.folder.get(RUN_KEY)) | {"provenance": provenance}
    ledger.folder.put(RUN_KEY, json.dumps(record).encode())
    assert ledger.provenance() == {}


def test_each_kind_of_device_is_recorded_once(ledger):
    for name in ("H100", "CPU (AVX512)", "H100"):
        ledger.note_device(name)
    assert ledger.devices() == ["CPU (AVX512)", "H100"]


def test_marker_names_the_device_of_a_shard_unless_it_is_of_the_first_kind(ledger):
    said = [ledger.note_device(name) for name in ("H100", "CPU (AVX512)", "H100")]
    assert said == ["", "CPU (AVX512)", ""]
    for i_block, device in enumerate(said):
        ledger.mark_done(ADDRESS._replace(i_block=i_block), CHECKSUM, device)
    found = [ledger.device_of(ADDRESS._replace(i_block=i_block), CHECKSUM) for i_block in range(4)]
    assert found == ["H100", "CPU (AVX512)", "H100", ""]
    assert sorted(ledger.folder.sizes(".scan/done").values()) == [0, 0, len("CPU (AVX512)")]
    assert len(ledger.done()) == 3


@pytest.mark.parametrize("has_devices", [True, False])
def test_markers_of_a_release_that_named_no_device_are_nobodys(ledger, has_devices):
    ledger.mark_done(ADDRESS, CHECKSUM)
    if has_devices:
        ledger.folder.put(".scan/devices/0123456789ab.txt", b"H100")
    later = ADDRESS._replace(i_block=7)
    ledger.mark_done(later, CHECKSUM, ledger.note_device("CPU (AVX512)"))
    assert ledger.device_of(ADDRESS, CHECKSUM) == ""
    assert ledger.device_of(later, CHECKSUM) == "CPU (AVX512)"
    assert ledger.devices() == ["CPU (AVX512)", *(["H100"] if has_devices else [])]


@pytest.mark.parametrize("field", ["unknown", "model"])
def test_altered_plan_is_told_from_the_recorded_one(ledger, field):
    ledger.start(small_plan(), {})
    described = json.loads(ledger.folder.get(RUN_KEY))
    described["plan"][field] = "something else"
    ledger.folder.put(RUN_KEY, json.dumps(described).encode())
    with pytest.raises(StoreError, match=r"run\.json (was altered|is damaged)"):
        ledger.plan()


def test_record_of_another_format_asks_for_its_release(ledger):
    ledger.folder.put(RUN_KEY, b'{"digest": "0", "plan": {"format": 1}}')
    with pytest.raises(PlanError, match="has format 1, expected 2 to 7; use the release that wrote it"):
        ledger.plan()


def test_marker_holds_address_size_and_checksum_in_its_name(ledger):
    ledger.mark_done(ADDRESS, CHECKSUM)
    assert ledger.folder.sizes("") == {f".scan/done/3.14.2.12345.0000beef.{SIGNATURE}": 0}
    assert ledger.done() == {ADDRESS: [CHECKSUM]}


@pytest.mark.parametrize("record", ["", ".fedcba9876543210"])
def test_marker_of_another_plan_counts_for_nothing(ledger, record):
    ledger.start(small_plan(), {})
    ledger.folder.put(f".scan/done/3.14.2.12345.0000beef{record}", b"")
    assert ledger.done() == {}
    assert ledger.foreign_markers() == [f".scan/done/3.14.2.12345.0000beef{record}"]


def test_marker_of_an_earlier_format_counts_in_a_store_of_it(ledger):
    ledger.start(small_plan(), {})
    described = json.loads(ledger.folder.get(RUN_KEY))
    described["plan"]["format"] = 2
    ledger.folder.put(RUN_KEY, json.dumps(described).encode())
    ledger.folder.put(".scan/done/3.14.2.12345.0000beef", b"")
    assert ledger.done() == {ADDRESS: [CHECKSUM]}
    ledger.mark_done(ADDRESS, CHECKSUM)
    assert ledger.done() == {ADDRESS: [CHECKSUM]}
    ledger.unmark(ADDRESS, CHECKSUM)
    assert ledger.done() == ledger.folder.sizes(".scan/done") == {}


def test_failure_of_another_plan_counts_for_nothing(ledger, tmp_path):
    Ledger(LocalFolder(tmp_path), "fedcba9876543210").mark_failed(1, Failure("a", 1, "its", 3))
    assert ledger.failures() == []


def test_marking_again_is_harmless(ledger):
    ledger.mark_done(ADDRESS, CHECKSUM)
    ledger.mark_done(ADDRESS, CHECKSUM)
    assert ledger.done() == {ADDRESS: [CHECKSUM]}


def test_shard_of_two_workers_may_have_two_checksums(ledger):
    other = Checksum(12300, 7)
    ledger.mark_done(ADDRESS, CHECKSUM)
    ledger.mark_done(ADDRESS, other)
    assert set(ledger.done()[ADDRESS]) == {CHECKSUM, other}


def test_unmarked_shard_is_not_done(ledger):
    ledger.mark_done(ADDRESS, CHECKSUM)
    ledger.unmark(ADDRESS, CHECKSUM)
    assert ledger.done() == {}


@pytest.mark.parametrize(
    "name", ["note.txt", "1.2.3.4", "1.2.3.4.beef", "1.2.3.4.DEADBEEF", "a.b.c.d.deadbeef"]
)
def test_files_that_are_no_markers_are_passed_over(ledger, name):
    ledger.folder.put(f".scan/done/{name}", b"")
    assert ledger.done() == {}


def test_failures_come_back_ordered(ledger):
    failures = [Failure("b", 2, "too hot", 3), Failure("a", 10, "ünlücky", 1), Failure("a", 9, "", 3)]
    for failure in failures:
        ledger.mark_failed("ab".index(failure.chrom), failure)
    assert ledger.failures() == failures[::-1]


def test_later_failure_of_a_block_replaces_the_earlier(ledger):
    ledger.mark_failed(0, Failure("a", 1, "first", 1))
    ledger.mark_failed(0, Failure("a", 1, "second", 2))
    assert ledger.failures() == [Failure("a", 1, "second", 2)]


def test_failure_can_be_forgotten(ledger):
    ledger.mark_failed(0, Failure("a", 1, "", 1))
    ledger.forget_failure(0, 1)
    ledger.forget_failure(0, 1)
    assert ledger.failures() == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"7", b"[]", b"{}", b'{"chrom": "a", "i_block": "x"}', b"\xff"]
)
def test_damaged_failure_is_one_clear_error(ledger, content):
    ledger.folder.put(".scan/failed/0.1.json", content)
    with pytest.raises(StoreError, match=r"failed/0\.1\.json is damaged: .*; remove this file, and"):
        ledger.failures()
