import errno
import json
import os
import shutil
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray
import zarr
from crashing_folder import CrashingFolder
from small_plans import WEIRD_NAMES, publish, random_scores, small_plan
from stored import finished_store, objects

from tism_scan.errors import PlanError, StorageFullError, StoreError
from tism_scan.plan import scan_plan as plan_module
from tism_scan.scan.verify import verify_store
from tism_scan.store import score_store as store_module
from tism_scan.store.arrays import encode_shard, node_name, rounded
from tism_scan.store.ledger import checksum_of
from tism_scan.store.provenance import versions
from tism_scan.store.score_store import ScoreStore

# Shards of two tracks, so that the last group of three has one only; and one track with all four bases.
LAYOUTS = [("mean", 3, 2), ("mean", 3, 3), ("tism", 3, 2), ("tism", 1, 1)]


@pytest.fixture
def small_shards(monkeypatch):
    """Return a function that lets shards hold some tracks only."""

    def limit(tracks_per_shard, values="mean"):
        n_channels = 4 if values == "tism" else 1
        monkeypatch.setattr(plan_module, "SHARD_BYTES", tracks_per_shard * n_channels * 4 * 512)

    return limit


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a finished store of two shards a block."""
    return finished_store(tmp_path / "scores.zarr", monkeypatch)


@pytest.mark.parametrize(("values", "n_tracks", "tracks_per_shard"), LAYOUTS)
@pytest.mark.parametrize("keep_bits", [None, 10])
def test_objects_are_those_that_zarr_itself_writes(
    tmp_path, small_shards, values, n_tracks, tracks_per_shard, keep_bits
):
    small_shards(tracks_per_shard, values)
    plan = small_plan(n_tracks, values=values, keep_bits=keep_bits)
    assert plan.tracks_per_shard == tracks_per_shard
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    store = ScoreStore.create(ours, plan)
    shutil.copytree(ours, theirs)
    scores = random_scores(plan)
    scores["chr1"][..., 512:1024] = np.nan  # a block without any score
    publish(store, scores)
    for chrom, values_of_chrom in scores.items():
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(theirs / node_name(chrom), mode="r+")
            array[:] = rounded(values_of_chrom, keep_bits)
    assert objects(ours) == objects(theirs)
    n_coordinates = 4 if values == "tism" else 2
    assert len(objects(ours)) == 4 + n_coordinates + plan.n_shards_per_block * 5


@pytest.mark.parametrize("values", ["mean", "tism"])
def test_xarray_opens_the_store_with_names_and_without_a_warning(tmp_path, values):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(3, values=values))
    scores = random_scores(store.plan)
    publish(store, scores)
    store.consolidate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(store.path)
        names = [track.name for track in store.plan.scoring.tracks]
        assert dataset["track"].values.tolist() == names
        chosen = dataset["chr1"].sel(track=names[1])
        expected = scores["chr1"][1]
        if values == "tism":
            chosen, expected = chosen.sel(base="G"), expected[2]
        assert chosen.dims == ("position_chr1",)
        np.testing.assert_array_equal(chosen.values[100:200], expected[100:200])


@pytest.mark.parametrize(("values", "kind"), [("mean", "mean TISM"), ("tism", "TISM")])
def test_store_says_what_it_holds_as_text_and_as_html(tmp_path, values, kind):
    store = ScoreStore.create(tmp_path / "a<b>.zarr", small_plan(6, values=values))
    names = [track.name for track in store.plan.scoring.tracks]
    text, page = repr(store), store._repr_html_()
    assert text.startswith(f"ScoreStore({str(store.path)!r}: {kind} of the logit; 6 tracks ({names[0]}, ")
    assert text.endswith("model beluga)")
    assert "a&lt;b&gt;.zarr" in page
    assert "<b>" not in page
    root = ElementTree.fromstring(page)
    assert [row[0].text for row in root.iter("tr")] == ["path", "scores", "tracks", "genome", "how"]


def test_chrom_that_is_called_track_keeps_its_name(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(2, chroms={"track": 600, "b": 300}))
    scores = random_scores(store.plan)
    publish(store, scores)
    store.consolidate()
    assert store.unsound_metadata() == {}
    np.testing.assert_array_equal(store.read("track", track=1), scores["track"][1])


def without_coordinates(store):
    """Turn a store into one as releases made it that named no tracks for xarray."""
    shutil.rmtree(store.path / "track")
    group = json.loads((store.path / "zarr.json").read_text())
    if group.get("consolidated_metadata"):
        del group["consolidated_metadata"]["metadata"]["track"]
    (store.path / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize("is_finished", [True, False])
def test_store_without_coordinates_is_sound_and_stays_so(store, is_finished):
    if is_finished:
        store.consolidate()
    without_coordinates(store)
    assert store.unsound_metadata() == {}
    assert ScoreStore.create(store.path, store.plan).unsound_metadata() == {}
    store.consolidate()
    assert store.unsound_metadata() == {}
    assert not (store.path / "track").exists()


@pytest.mark.parametrize("key", ["track/zarr.json", "track/c/0"])
def test_names_that_are_damaged_or_lost_are_found(store, key):
    store.consolidate()
    whole = (store.path / key).read_bytes()
    for damage in (lambda: (store.path / key).write_bytes(whole[:-1]), (store.path / key).unlink):
        damage()
        assert store.unsound_metadata() == {key: whole}


@pytest.mark.parametrize("scores", [np.float32(np.nan), np.float32(-0.0), np.float32(1e-45)])
def test_shard_of_one_value_is_stored_none_the_less(store, scores):
    block = next(store.plan.all_blocks())
    store.publish_block(block, np.full((3, len(block)), scores))
    assert (block.chrom, block.i_block) in store.done_blocks()
    found = store.read_track("chr1", 0, 512, 2)
    assert np.array_equal(found.view(np.uint32), np.full(512, scores).view(np.uint32))


@pytest.mark.parametrize(("values", "n_tracks", "tracks_per_shard"), LAYOUTS)
def test_plain_zarr_reads_the_scores(tmp_path, small_shards, values, n_tracks, tracks_per_shard):
    small_shards(tracks_per_shard, values)
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(n_tracks, values=values))
    scores = random_scores(store.plan)
    publish(store, scores)
    group = zarr.open_group(store.path, mode="r")
    for chrom, expected in scores.items():
        array = group[node_name(chrom)]
        assert np.array_equal(array[:], expected, equal_nan=True)
        assert array.attrs["chrom"] == chrom
        assert array.metadata.dimension_names[0] == "track"


@pytest.mark.parametrize(
    ("values", "dims"), [("mean", ("track", "position_c")), ("tism", ("track", "base", "position_c"))]
)
def test_xarray_opens_all_chroms_at_once_without_a_warning(tmp_path, values, dims):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(2, values=values))
    scores = random_scores(store.plan)
    publish(store, scores)
    store.consolidate()
    with xarray.open_zarr(store.path) as dataset:
        assert set(dataset) == {node_name(chrom) for chrom in store.plan.wanted}
        assert dataset["c"].dims == dims
        for chrom, expected in scores.items():
            assert np.array_equal(dataset[node_name(chrom)], expected, equal_nan=True)
        assert dataset.attrs["tism_scan"]["tracks"][1]["name"] == "track 1"


def test_xarray_opens_an_unfinished_store(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(1))
    with warnings.catch_warnings():
        # Zarr's own: our record is no part of its hierarchy.
        warnings.filterwarnings("ignore", message=r"Object at \.scan is not recognized", module="zarr")
        dataset = xarray.open_zarr(store.path, consolidated=False)
    with dataset:
        assert np.isnan(dataset["chr1"]).all()


def test_attributes_tell_other_readers_what_the_numbers_are(store):
    described = zarr.open_group(store.path, mode="r").attrs["tism_scan"]
    assert described["plan"] == store.plan.digest()
    assert (described["values"], described["stride"], described["stitch"]) == ("mean TISM", 64, "center")


def test_chrom_without_wanted_bases_has_no_array_and_reads_as_nan(store):
    assert not (store.path / "unwanted").exists()
    assert np.isnan(store.read_track("unwanted", 10, 20, 0)).all()
    assert len(store.read_track("unwanted", 10, 20, 0)) == 10


def test_scores_of_one_track_are_read_back(store):
    expected = random_scores(store.plan)["chr1"][1, 400:1200]
    assert np.array_equal(store.read_track("chr1", 400, 1200, 1), expected, equal_nan=True)


def test_mean_is_made_of_all_four_bases(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan(2, values="tism"))
    scores = random_scores(store.plan)
    publish(store, scores)
    expected = -scores["c"][1].sum(0) / 3
    np.testing.assert_allclose(store.read_track("c", 0, 512, 1), expected, rtol=1e-5, atol=1e-9)


def test_scores_of_another_shape_are_refused(store):
    block = next(store.plan.all_blocks())
    with pytest.raises(ValueError, match=r"scores of chr1:1-512 have shape \(2, 512\), expected \(3, 512\)"):
        store.publish_block(block, np.zeros((2, 512), np.float32))


def test_created_store_is_opened_with_its_plan_and_provenance(store):
    again = ScoreStore.open(store.path)
    assert again.plan == store.plan
    assert again.ledger.provenance() == versions() | {"command": "tism-scan run"}


def test_a_store_that_was_begun_with_other_versions_says_so_once_it_is_resumed(tmp_path, monkeypatch, caplog):
    for torch in ("2.5", "2.6"):
        monkeypatch.setattr(
            "tism_scan.store.owned.versions", lambda torch=torch: versions() | {"torch": torch}
        )
        assert not caplog.messages
        ScoreStore.create(tmp_path / "s.zarr", small_plan())
    assert caplog.messages == [
        "this store was begun with torch 2.5, now 2.6; scores may differ in their last digits"
    ]


def test_creating_again_under_the_same_plan_keeps_everything(store):
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    ScoreStore.create(store.path, small_plan(3), {"command": "another"})
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == before


def test_creating_a_finished_store_again_keeps_its_gathered_metadata(store):
    store.consolidate()
    before = objects(store.path)
    ScoreStore.create(store.path, small_plan(3))
    assert objects(store.path) == before
    assert b"consolidated" in before["zarr.json"]


def test_metadata_are_gathered_in_place_of_the_null_that_older_releases_of_zarr_wrote(store):
    path = store.path / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"consolidated_metadata": None}))
    assert store.unsound_metadata() == {}
    store.consolidate()
    assert zarr.open_group(store.path, mode="r").metadata.consolidated_metadata is not None
    assert store.unsound_metadata() == {}


@pytest.mark.parametrize("n_puts", range(6))
def test_creation_killed_at_any_point_is_completed_by_the_next(tmp_path, monkeypatch, n_puts):
    whole = ScoreStore.create(tmp_path / "whole", small_plan())
    with monkeypatch.context() as crashing:
        crashing.setattr(store_module, "open_folder", CrashingFolder)
        CrashingFolder.puts_left = n_puts
        with pytest.raises(KeyboardInterrupt, match="killed"):
            ScoreStore.create(tmp_path / "killed", small_plan())
    # Its lease would be free if it had been a process of its own.
    ScoreStore.create(tmp_path / "killed", small_plan(), break_lock=True)
    assert objects(tmp_path / "killed") == objects(whole.path)
    assert ScoreStore.open(tmp_path / "killed").plan == whole.plan


def test_another_plan_is_refused_with_every_difference(store):
    other = small_plan(3, stride=128, keep_bits=7)
    with pytest.raises(
        StoreError,
        match=r"scores.zarr was made under another plan: stride 64, not 128; keep_bits None, not 7; use the "
        r"same settings, another --out, or --overwrite",
    ):
        ScoreStore.create(store.path, other)


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / ".scan").mkdir()
    with pytest.raises(StoreError, match=r"holds other files \(thesis.tex, ...\); choose another --out"):
        ScoreStore.create(tmp_path, small_plan())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".scan", "thesis.tex"]


def test_empty_folder_is_used(tmp_path):
    assert ScoreStore.create(tmp_path, small_plan()).path == tmp_path


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("file", "file is a file; expected a folder for the store, choose another --out"),
        ("file/below", "cannot write to .*file/below: Not a directory; choose another --out"),
        ("taken", "cannot write to .*taken: (Not a directory|File exists); choose another --out"),
        ("n" * 300, "cannot write to .*: File name too long; choose another --out"),
    ],
)
def test_path_that_cannot_become_a_folder_is_one_clear_error(tmp_path, where, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/.scan").write_text("a file where the record should be")
    with pytest.raises(StoreError, match=message):
        ScoreStore.create(tmp_path / where, small_plan())


@pytest.mark.parametrize("call", ["mkdir", "fsync", "link", "replace", "scandir"])
def test_folder_that_may_not_be_written_is_one_clear_error(tmp_path, monkeypatch, call):
    def deny(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, call, deny)
    if call == "scandir":
        monkeypatch.setattr(os, "listdir", deny)
    with pytest.raises(StoreError, match=r"cannot write to .*: Permission denied; choose another --out"):
        ScoreStore.create(tmp_path if call == "scandir" else tmp_path / "s.zarr", small_plan())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there; expected a store that `tism-scan run` made"),
        (Path.touch, "is a file; expected the folder that `tism-scan run` made"),
        (Path.mkdir, r"is not a store of scores: \.scan/run\.json is missing in it; check the path"),
        (lambda path: (path / ".scan/run.json").mkdir(parents=True), "cannot read .*: Is a directory"),
    ],
    ids=["absent", "file", "empty folder", "folder for a record"],
)
def test_what_is_no_store_cannot_be_opened(tmp_path, make, message):
    make(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=message):
        ScoreStore.open(tmp_path / "s.zarr")


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="only Linux has this folder that nobody may write"
)
def test_parent_that_nobody_may_write_is_one_clear_error():
    with pytest.raises(StoreError, match=r"cannot write to /proc/s\.zarr: .*; choose another --out"):
        ScoreStore.create("/proc/s.zarr", small_plan())


def test_full_disk_stops_a_creation(tmp_path, monkeypatch):
    def fill_up(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(StorageFullError, match="no room left to write"):
        ScoreStore.create(tmp_path / "s.zarr", small_plan())


def test_weird_names_stay_inside_the_store_and_apart(tmp_path):
    chroms = {name: 64 + 2 * i for i, name in enumerate(WEIRD_NAMES)}
    store = ScoreStore.create(tmp_path / "a/b/s.zarr", small_plan(1, chroms=chroms))
    scores = random_scores(store.plan)
    publish(store, scores)
    assert list(store.pending()) == []
    for chrom, expected in scores.items():
        assert np.array_equal(store.read_track(chrom, 0, chroms[chrom], 0), expected[0], equal_nan=True)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and store.path not in path.parents]
    assert outside == []
    with xarray.open_zarr(consolidated(store).path) as dataset:
        assert len(dataset) == len(WEIRD_NAMES)


def consolidated(store):
    store.consolidate()
    return store


def test_name_that_no_file_can_have_is_refused(tmp_path):
    chroms = {"x" * 50 + "*" * 60: 100}
    with pytest.raises(PlanError, match=r"the name of chrom 'x{40}'\.\.\. is too long to be a file's"):
        ScoreStore.create(tmp_path / "s.zarr", small_plan(chroms=chroms))
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("chr1/c/0/0", b"x" * 1000),
        ("chr1/c/0/0", b"x"),
        ("chr1/zarr.json", None),
        ("chr1/zarr.json", b"{"),
        ("chr1/zarr.json", b"{}"),
        ("zarr.json", None),
        ("zarr.json", b""),
    ],
)
def test_reading_a_damaged_store_is_one_clear_error(store, key, content):
    (store.path / key).unlink()
    if content is not None:
        (store.path / key).write_bytes(content)
    with pytest.raises(StoreError, match=r"scores.zarr is damaged at chr1:1-512 .*; run `tism-scan verify`"):
        store.read_track("chr1", 0, 512, 0)


def test_fewer_bits_make_smaller_objects(tmp_path):
    sizes = {}
    for keep_bits in (None, 10):
        plan = small_plan(1, keep_bits=keep_bits, chroms={"chr1": 50_000}, block_bp=50_000)
        store = ScoreStore.create(tmp_path / str(keep_bits), plan)
        publish(store, random_scores(plan))
        sizes[keep_bits] = sum(store.folder.sizes("chr1/c").values())
    assert sizes[10] < 0.6 * sizes[None]


def test_shards_of_one_size_and_other_scores_have_other_checksums():
    # Their CRC32C would be one and the same, as each of their parts ends in its own.
    plan = small_plan()
    block = next(plan.all_blocks())
    by_size = {}
    for seed in range(60):
        scores = np.random.default_rng(seed).normal(size=(3, len(block))).astype(np.float32)
        shard = encode_shard(plan, block, scores)
        by_size.setdefault(len(shard), []).append(checksum_of(shard))
    alike = [checksums for checksums in by_size.values() if len(checksums) > 1]
    assert alike
    assert all(len(set(checksums)) == len(checksums) for checksums in alike)


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize(
    ("sound", "flipped"), [('"separator":"/"', '"separator":"."'), ("1300", "1200"), ("1300", "0300")]
)
def test_bit_that_is_flipped_in_the_metadata_is_damage_and_no_gap(tmp_path, is_finished, sound, flipped):
    plan = small_plan(1, chroms={"chr1": 1300})
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    publish(store, random_scores(plan))
    if is_finished:
        store.consolidate()
    n_flipped = 0
    for path in store.path.rglob("zarr.json"):
        text = path.read_text()
        n_flipped += text.count(sound)
        path.write_text(text.replace(sound, flipped.lstrip("0")))
    assert n_flipped >= 1
    with pytest.raises(StoreError, match="is damaged"):
        ScoreStore.open(store.path).read_track("chr1", 0, 1300, 0)
    assert not verify_store(store.path).is_sound
    assert np.isfinite(ScoreStore.open(store.path).read_track("chr1", 0, 1300, 0)).any()
