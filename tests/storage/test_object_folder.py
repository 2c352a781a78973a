import sys
import threading
import time
import urllib.parse

import numpy as np
import obstore.fsspec
import obstore.store
import pytest
import xarray
import zarr
from object_server import BUCKET
from small_plans import publish, random_scores, small_plan

from tism_scan.errors import AccessError, LeaseError, StorageError, StoreError
from tism_scan.scan.verify import verify_store
from tism_scan.storage import object_folder as object_storage
from tism_scan.storage.buckets import explanation
from tism_scan.storage.folder import open_folder
from tism_scan.storage.object_folder import ObjectFolder
from tism_scan.storage.places import Url
from tism_scan.store.lease import LEASE, Lease, current_owner
from tism_scan.store.score_store import ScoreStore

KEY = "chr1/c/0/5"

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(params=["s3", "gs"])
def folder(request, prefix):
    return open_folder(f"{request.param}://{BUCKET}/{prefix}")


@pytest.fixture
def store(prefix):
    """Return a finished store on S3."""
    store = ScoreStore.create(f"s3://{BUCKET}/{prefix}", small_plan(3), {"command": "tism-scan run"})
    publish(store, random_scores(store.plan))
    store.consolidate()
    return store


@pytest.fixture
def impatient(monkeypatch):
    """Let clients give up soon."""
    monkeypatch.setattr(object_storage, "N_RETRIES", 1)
    monkeypatch.setattr(object_storage, "N_RETRIES_AT_FIRST", 1)


def files_below(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "lease" not in file.parts
    }


@pytest.mark.parametrize("content", [b"", b"scores" * 400_000])
def test_object_is_published_by_one_put(folder, server, content):
    folder.put(KEY, content)
    assert [method for method, _, _ in server.requests] == ["PUT"]
    assert folder.get(KEY) == content


def test_listing_goes_on_past_its_first_page(folder, monkeypatch):
    monkeypatch.setattr(object_storage, "N_KEYS_PER_REQUEST", 3)
    for i in range(8):
        folder.put(f"a/{i}", b"x")
    assert len(folder.sizes("a")) == 8


def test_one_of_several_writers_of_a_new_key_wins(folder):
    wins = []
    barrier = threading.Barrier(4)

    def race(i_racer):
        racer = open_folder(folder.place)
        for i_round in range(5):
            barrier.wait()
            if racer.put_new(f"{i_round}", b"%d" % i_racer):
                wins.append((i_round, i_racer))

    racers = [threading.Thread(target=race, args=(i,)) for i in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(i_round for i_round, _ in wins) == list(range(5))
    assert all(folder.get(f"{i_round}") == b"%d" % i_racer for i_round, i_racer in wins)


def test_stranger_is_found_behind_many_objects_of_our_own_from_two_requests(folder, server, monkeypatch):
    monkeypatch.setattr(object_storage, "N_KEYS_PER_REQUEST", 3)
    for i in range(7):
        folder.put(f".scan/{i}", b"")
    folder.put("zebra", b"")
    server.requests.clear()
    assert folder.stranger(".scan") == "zebra"
    assert len(server.requests) == 2


def test_sweep_removes_what_a_broken_off_question_left(folder):
    folder.put(".scan/probe/1", b"")
    folder.put("a", b"")
    assert folder.sweep(idle_s=60) == []
    assert folder.sweep(idle_s=0) == [".scan/probe/1"]
    assert list(folder.sizes("")) == ["a"]


@pytest.mark.parametrize("behind_s", [-3600, 3600])
def test_age_of_what_is_swept_is_told_by_the_services_own_clock(folder, server, behind_s):
    folder.put(".scan/probe/1", b"")
    with server.failing(behind_s=behind_s):
        assert folder.sweep(idle_s=60) == []
        time.sleep(1.5)  # S3 tells whole seconds
        assert folder.sweep(idle_s=1) == [".scan/probe/1"]
    assert folder.sizes("") == {}


def test_sweep_of_a_clean_folder_is_one_listing(folder, server):
    assert folder.sweep(idle_s=60) == []
    assert [method for method, _, _ in server.requests] == ["GET"]


def test_store_holds_the_same_objects_as_a_folder_does(folder, server, prefix, tmp_path):
    plan = small_plan(3)
    stores = [ScoreStore.create(place, plan) for place in (folder.place, tmp_path / "s.zarr")]
    for store in stores:
        publish(store, random_scores(plan))
        store.consolidate()
    assert scores_of(server.objects(prefix)) == scores_of(files_below(tmp_path / "s.zarr"))
    again = ScoreStore.open(folder.place)
    assert list(again.pending()) == []
    assert np.array_equal(again.read_track("c", 0, 512, 1), random_scores(plan)["c"][1], equal_nan=True)


def scores_of(objects):
    """Return all objects but the lease, which names its owner's moment."""
    return {key: content for key, content in objects.items() if not key.startswith(LEASE)}


def test_store_prints_as_the_place_it_was_given(store, prefix):
    assert str(store.path) == f"s3://{BUCKET}/{prefix}"


def test_plain_zarr_and_xarray_read_the_store(store, prefix, server):
    expected = random_scores(store.plan)
    remote = obstore.store.S3Store(BUCKET, prefix=prefix, client_options={"allow_http": True})
    reader = zarr.storage.ObjectStore(remote, read_only=True)
    assert np.array_equal(zarr.open_group(reader, mode="r")["chr1"][:], expected["chr1"], equal_nan=True)
    with xarray.open_zarr(reader) as dataset:
        assert np.array_equal(dataset["c"], expected["c"], equal_nan=True)


def test_fsspec_reads_the_store_by_its_url(store):
    obstore.fsspec.register("s3")
    options = {"client_options": {"allow_http": True}, "skip_instance_cache": True}
    group = zarr.open_group(str(store.path), mode="r", storage_options=options)
    assert np.array_equal(group["chr1"][:], random_scores(store.plan)["chr1"], equal_nan=True)


def test_scores_of_one_track_are_read_back(store):
    expected = random_scores(store.plan)["chr1"][1, 400:1200]
    assert np.array_equal(store.read_track("chr1", 400, 1200, 1), expected, equal_nan=True)


def test_vanished_object_makes_its_block_pending(store):
    first = next(store.plan.all_blocks())
    store.folder.remove("chr1/c/0/0")
    assert list(store.pending()) == [first]
    assert [damage.what for damage in verify_store(store.path).damaged] == [str(first)]


def test_other_plan_is_refused(store):
    with pytest.raises(StoreError, match=r"s3://.* was made under another plan: stride 64, not 128"):
        ScoreStore.create(store.path, small_plan(3, stride=128))


def test_prefix_with_other_objects_is_refused(folder):
    folder.put("thesis.tex", b"")
    with pytest.raises(StoreError, match=r"holds other files \(thesis.tex, ...\); choose another --out"):
        ScoreStore.create(folder.place, small_plan())


def test_absent_store_cannot_be_opened(folder):
    with pytest.raises(StoreError, match=r"://.* is not there; expected a store that `tism-scan run` made"):
        ScoreStore.open(folder.place)


def test_store_is_deleted(store):
    store.delete()
    assert [*store.folder.sizes("")] == [f"{LEASE}/1.json"]


def test_deletion_that_was_cut_short_leaves_a_store_that_can_be_deleted(store, monkeypatch):
    monkeypatch.setattr(object_storage, "N_KEYS_PER_REQUEST", 4)
    remove, n_calls = ObjectFolder._remove, []

    def remove_once(folder, keys):
        if n_calls:
            raise KeyboardInterrupt("killed")
        n_calls.append(keys)
        remove(folder, keys)

    with monkeypatch.context() as cut:
        cut.setattr(ObjectFolder, "_remove", remove_once)
        with pytest.raises(KeyboardInterrupt, match="killed"):
            store.delete()
    again = ScoreStore.open(store.path)
    assert len(list(again.pending())) > 0
    again.delete()
    assert [*again.folder.sizes("")] == [f"{LEASE}/1.json"]


def test_lease_is_held_by_one_and_taken_over_once_it_is_stale(folder):
    with Lease(folder, heartbeat_s=0.05).acquire():
        with pytest.raises(LeaseError, match="is being written by process"):
            Lease(folder).acquire()
        with Lease(folder).acquire(break_lock=True) as taker:
            assert taker.generation == 2
    assert current_owner(folder)[0] == 2


def test_heartbeat_that_fails_does_not_end_the_lease(impatient, folder, server, caplog):
    with Lease(folder, heartbeat_s=0.05).acquire() as lease:
        with server.failing(shares={"errors": 1.0}):
            lease._ended.wait(0.6)
        lease._ended.wait(0.4)
        assert lease._beating.is_alive()
        assert lease.is_held()
        assert current_owner(folder)[1].n_beats > 0
    assert any("no heartbeat could be written" in message for message in caplog.messages)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("use", [ScoreStore.open, lambda place: ScoreStore.create(place, small_plan())])
def test_missing_bucket_is_an_error_and_not_missing_data(scheme, use):
    with pytest.raises(AccessError, match=r"there is no bucket 'nowhere' for ..://nowhere/x; expected one"):
        use(f"{scheme}://nowhere/x")


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: folder.get("k"),
        lambda folder: folder.put("k", b""),
        lambda folder: folder.put_new("k", b""),
        lambda folder: folder.sizes("k"),
        lambda folder: folder.stranger("k"),
        lambda folder: folder.remove("k"),
        lambda folder: folder.clear(last=("k",), kept="j"),
    ],
)
def test_bucket_that_is_gone_is_named_by_every_verb(use):
    with pytest.raises(AccessError, match="there is no bucket 'nowhere'"):
        use(open_folder("s3://nowhere/x"))


def test_wrong_credentials_are_one_clear_error(server, prefix):
    with (
        server.failing(wrong_credentials=True),
        pytest.raises(
            AccessError, match=r"may not be listed with these credentials \(403 InvalidAccessKeyId\)"
        ),
    ):
        ScoreStore.open(f"s3://{BUCKET}/{prefix}")


@pytest.mark.parametrize("scheme", ["s3"])
def test_lack_of_credentials_is_one_clear_error(monkeypatch, scheme):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AccessError, match=r"there are no credentials for s3://.*; set AWS_ACCESS_KEY_ID and"):
        ScoreStore.open(f"{scheme}://{BUCKET}/x")


def test_credentials_and_endpoint_may_come_from_a_profile(monkeypatch, tmp_path, server, store):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {server.url}\n")
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert ScoreStore.open(str(store.path)).plan == store.plan


def test_profile_that_does_not_exist_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessError, match=r"there are no credentials .*nobody.*; set AWS_ACCESS_KEY_ID"):
        ScoreStore.open(f"s3://{BUCKET}/x")


def test_server_that_is_not_there_is_told_of_soon(monkeypatch, server):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"s3://scores/x cannot be listed \(no connection\)"):
        ScoreStore.open("s3://scores/x")


def test_service_that_is_busy_at_first_is_waited_for(monkeypatch, server, prefix):
    monkeypatch.setattr(object_storage, "N_RETRIES_AT_FIRST", 1)
    store = ScoreStore.create(f"s3://{BUCKET}/{prefix}", small_plan())
    left = ["errors"] * 3
    with server.failing() as faults:
        monkeypatch.setattr(faults, "happens", lambda what: what in left and not left.remove(what))
        assert ScoreStore.open(str(store.path)).plan == store.plan


@pytest.mark.parametrize(
    "faults",
    [
        {"passes_over": ("HTTP_IF_NONE_MATCH",)},
        {"rejects": ("HTTP_IF_NONE_MATCH",)},
        {"rejects": ("HTTP_IF_MATCH",)},
    ],
    ids=["none-match passed over", "none-match rejected", "match rejected"],
)
def test_service_that_cannot_write_on_condition_is_refused(server, prefix, faults):
    with (
        server.failing(**faults),
        pytest.raises(AccessError, match="is on a service that cannot write on condition"),
    ):
        ScoreStore.create(f"s3://{BUCKET}/{prefix}", small_plan())
    assert server.objects(prefix) == {}


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_service_that_passes_over_versions_is_told_of(server, prefix, scheme, caplog):
    plan, place = small_plan(), f"{scheme}://{BUCKET}/{prefix}"
    with server.failing(passes_over=("HTTP_IF_MATCH",)):
        ScoreStore.create(place, plan)
    assert [record.message for record in caplog.records] == [
        f"{place} is on a service that passes over If-Match: a run that is suspended, and goes on after "
        "another run took the store over, may spoil a block; do not suspend runs"
    ]
    caplog.clear()
    store = ScoreStore.create(place, plan)
    assert caplog.records == []
    assert not [key for key in server.objects(prefix) if "probe" in key]
    assert store.plan == plan


def test_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        AccessError, match=r"package 'obstore' is not installed; .*run: pip install 'tism-scan\[cloud\]'"
    ):
        open_folder("s3://bucket/x")


def test_passing_faults_are_ridden_out(server, prefix, tmp_path):
    plan = small_plan(3)
    local = ScoreStore.create(tmp_path / "s.zarr", plan)
    publish(local, random_scores(plan))
    shares = {"errors": 0.15, "slow": 0.1, "lost answers": 0.15}
    with server.failing(shares=shares, slow_s=0.05) as faults:
        store = ScoreStore.create(f"s3://{BUCKET}/{prefix}", plan)
        for _ in range(30):  # which requests fail is drawn; a few rounds meet every kind
            publish(store, random_scores(plan))
            if faults.counts.keys() == shares.keys():
                break
        assert list(store.pending()) == []
    assert faults.counts.keys() == shares.keys()
    assert scores_of(server.objects(prefix)) == scores_of(files_below(local.path))


def test_key_is_won_although_the_answer_was_lost(folder, server):
    folder.put_new("first", b"")
    with server.failing(shares={"lost answers": 0.6}):
        assert all(folder.put_new(f"{i}", b"") for i in range(4))


def test_slow_answer_is_asked_for_again(monkeypatch, server, prefix):
    monkeypatch.setattr(object_storage, "ANSWER_S", 0.3)
    folder = open_folder(f"s3://{BUCKET}/{prefix}")
    assert folder.put_new("first", b"")  # which asks what the service can do
    with server.failing(shares={"slow": 0.5}, slow_s=0.6) as faults:
        for i in range(3):
            folder.put(f"{i}", b"x")
            assert folder.put_new(f"new {i}", b"y")
            assert folder.get(f"{i}") == b"x"
    assert faults.counts["slow"] > 1


@pytest.mark.parametrize("how", ["put", "fenced put", "put_new"])
def test_large_object_is_waited_for_longer_than_an_answer(monkeypatch, server, prefix, how):
    """Of a large one the answer may come late, as it has to be sent first; it is not sent twice."""
    monkeypatch.setattr(object_storage, "ANSWER_S", 0.2)
    monkeypatch.setattr(object_storage, "LARGE_BYTES", 10)
    folder = open_folder(f"s3://{BUCKET}/{prefix}")
    folder = folder.fenced(lambda: None) if how == "fenced put" else folder
    folder._is_exclusive = True  # the question whether it is would be slow, too
    with server.failing(shares={"slow": 1.0}, slow_s=0.5) as faults:
        (folder.put_new if how == "put_new" else folder.put)(KEY, b"more than ten bytes")
    assert faults.counts["slow"] == 1


def test_object_of_usual_size_is_soon_asked_for_again(monkeypatch, server, prefix):
    monkeypatch.setattr(object_storage, "ANSWER_S", 0.2)
    folder = open_folder(f"s3://{BUCKET}/{prefix}")
    with server.failing(shares={"slow": 1.0}, slow_s=0.5) as faults:
        threading.Timer(0.4, faults.shares.clear).start()
        folder.put(KEY, b"x" * object_storage.LARGE_BYTES)
    assert faults.counts["slow"] > 1


def test_error_that_stays_names_the_object(impatient, folder, server):
    with (
        server.failing(shares={"errors": 1.0}),
        pytest.raises(
            StorageError, match=rf"{KEY} cannot be written \(503 SlowDown\); what is finished is kept"
        ),
    ):
        folder.put(KEY, b"")


def test_reading_from_a_server_that_stopped_to_answer_is_no_damage(store, server, impatient):
    reader = ScoreStore.open(store.path)
    with (
        server.failing(shares={"errors": 1.0}),
        pytest.raises(StorageError, match=r"chr1 cannot be read \(503 SlowDown\)"),
    ):
        reader.read_track("chr1", 0, 512, 0)


def test_damaged_object_is_found(store):
    content = store.folder.get("chr1/c/0/0")
    store.folder.put("chr1/c/0/0", content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"s3://.* is damaged at chr1:1-512"):
        store.read_track("chr1", 0, 512, 0)
    assert verify_store(store.path).damaged == []  # sizes alone do not tell
    (damage,) = verify_store(store.path, full=True).damaged
    assert damage.what == "chr1:1-512"
    assert "chr1/c/0/0 has CRC-32" in damage.fault
    assert [str(block) for block in store.pending()] == ["chr1:1-512"]


def test_nothing_lists_more_than_the_store_itself(store, server):
    ScoreStore.create(store.path, store.plan)
    list(store.pending())
    queries = [urllib.parse.parse_qs(query) for _, _, query in server.requests if "list-type" in query]
    assert queries
    assert all(query["prefix"][0].startswith(f"{store.path.key}/") for query in queries)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Generic S3 error: a - b - the moon is full\n\nDebug source:\nmore", "the moon is full"),
        ("Generic S3 error: error sending request, kind: Timeout", "no answer in time"),
        ("Generic S3 error: status code: 500, <Code>InternalError</Code>", "500 InternalError"),
    ],
)
def test_what_a_service_says_is_told_in_its_own_words_if_in_no_better_ones(said, reason):
    place = Url("s3", "bucket", "x")
    error = explanation(OSError(said), place, "s3://bucket/x/key", "read")
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"s3://bucket/x/key cannot be read ({reason}); what is finished is kept")
