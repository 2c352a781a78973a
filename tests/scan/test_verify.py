import json
import logging
import re
import shutil

import numpy as np
import pytest
import zarr
from scan_models import INPUT_BP, TRACKS, plan_of, smooth_model
from serial_scans import scan_with
from small_plans import publish, random_scores
from stored import finished_store, marker_of, objects, shard_of

from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import GenomeError, LeaseError, StoreError, WeightsError
from tism_scan.genome.fasta import Genome
from tism_scan.models.source import ModelSource
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.recompute import recompute_block
from tism_scan.scan.verify import Sample, verify_store
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.lease import Lease
from tism_scan.store.ledger import DONE, FAILED, Checksum
from tism_scan.store.score_store import ScoreStore

ZERO, HALF, LAST = "chr1:1-512", "chr1:513-1,024", "chr1:1,025-1,300"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a finished store of two shards a block."""
    store = finished_store(tmp_path / "scores.zarr", monkeypatch)
    store.consolidate()
    return store


def flip(path, i_bit=100):
    flipped = bytearray(path.read_bytes())
    flipped[i_bit // 8] ^= 1 << i_bit % 8
    path.write_bytes(flipped)


def pending(store):
    return [str(block) for block in store.pending()]


@pytest.mark.parametrize("full", [False, True])
def test_nothing_is_found_in_a_sound_store_and_nothing_changes(store, full):
    before = objects(store.path)
    report = verify_store(store.path, full=full)
    assert report.is_sound
    assert (report.damaged, report.mended, report.swept, report.n_pending) == ([], [], [], 0)
    assert report.n_objects == 2 * 5
    shards = [key for key in before if "/c/" in key and not key.startswith("track/")]
    assert report.n_bytes == sum(len(before[key]) for key in shards)
    assert objects(store.path) == before


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda path: path.unlink(), r"is missing, expected [\d,]+ bytes"),
        (lambda path: path.write_bytes(b""), r"has 0 bytes, expected [\d,]+"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"has [\d,]+ bytes, expected [\d,]+"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"has [\d,]+ bytes, expected [\d,]+"),
    ],
    ids=["missing", "empty", "cut short", "too long"],
)
@pytest.mark.parametrize("full", [False, True])
def test_object_of_another_size_is_named_and_its_block_is_pending(store, change, fault, full):
    change(shard_of(store, 1, 1))
    report = verify_store(store.path, full=full)
    ((what, said),) = report.damaged
    assert what == HALF
    assert re.fullmatch(rf"is damaged: chr1/c/1/1 {fault}", said), said
    assert pending(store) == [HALF]
    assert report.n_pending == 1


def test_flipped_bit_is_found_by_a_full_verification_only(store):
    flip(shard_of(store))
    assert verify_store(store.path).is_sound
    ((what, said),) = verify_store(store.path, full=True).damaged
    assert what == ZERO
    assert "chr1/c/0/0 has CRC-32" in said
    assert pending(store) == [ZERO]


def test_object_that_cannot_be_read_is_damage(store, monkeypatch):
    get = LocalFolder.get

    def fail_once(folder, key):
        if key == "chr1/c/0/0":
            raise OSError(5, "Input/output error")
        return get(folder, key)

    monkeypatch.setattr(LocalFolder, "get", fail_once)
    ((what, said),) = verify_store(store.path, full=True).damaged
    assert (what, said) == (ZERO, "is damaged: chr1/c/0/0 cannot be read: Input/output error")


def test_damaged_store_is_made_whole_by_computing_what_is_pending(store):
    whole = objects(store.path)
    flip(shard_of(store, 0, 0))
    shard_of(store, 1, 2).unlink()
    assert [damage.what for damage in verify_store(store.path, full=True).damaged] == [ZERO, LAST]
    assert pending(store) == [ZERO, LAST]
    publish(store, random_scores(store.plan), list(store.pending()))
    assert objects(store.path) == whole
    assert verify_store(store.path, full=True).is_sound


def test_damaged_object_of_two_workers_loses_both_its_records(store):
    (address,) = [each for each in store.ledger.done() if each[:3] == (0, 0, 1)]
    store.ledger.mark_done(address, Checksum(12, 0xBEEF))
    flip(shard_of(store, 1, 0))
    assert [damage.what for damage in verify_store(store.path, full=True).damaged] == [ZERO]
    assert address not in store.ledger.done()


def test_second_verification_finds_nothing_more(store):
    flip(shard_of(store))
    assert not verify_store(store.path, full=True).is_sound
    again = verify_store(store.path, full=True)
    assert again.is_sound
    assert again.n_pending == 1


@pytest.mark.parametrize("name", ["9.0.0", "0.3.0", "0.0.2", "3.0.0"])
def test_record_of_no_block_is_removed(store, name):
    assert list(store.plan.chroms)[3] == "unwanted"
    for record in ("12.0000beef", "13.0000feed"):
        store.folder.put(f"{DONE}/{name}.{record}.{store.ledger.signature}", b"")
    report = verify_store(store.path)
    assert report.mended == [(f".scan/done/{name}", "is of no block; it was removed")]
    assert report.damaged == []
    assert verify_store(store.path).is_sound


def test_record_of_a_failed_block_that_cannot_be_read_is_removed(store):
    marker_of(store).unlink()
    store.folder.put(f"{FAILED}/0.0.json", b"{")
    with pytest.raises(StoreError, match="is damaged: it holds no failed block"):
        pending(store)
    assert not verify_store(store.path).is_sound
    assert pending(store) == [ZERO]


@pytest.mark.parametrize("key", ["zarr.json", "chr1/zarr.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b"[]", "flipped"])
def test_damaged_metadata_is_written_again(store, key, content):
    before = objects(store.path)
    path = store.path / key
    if content is None:
        path.unlink()
    elif content == "flipped":
        path.write_bytes(before[key].replace(b'"tism_scan"', b'"tism_scam"').replace(b"1300", b"1301"))
    else:
        path.write_bytes(content)
    report = verify_store(store.path)
    assert [damage.what for damage in report.mended] == [key]
    assert objects(store.path) == before
    assert verify_store(store.path).is_sound


def test_every_flipped_bit_of_the_metadata_is_mended_or_harmless(store):
    path, rng = store.path / "chr1/zarr.json", np.random.default_rng(0)
    sound, n_mended = path.read_bytes(), 0
    expected = store.read_track("chr1", 0, 1300, 0)
    for i_bit in rng.choice(8 * len(sound), 60, replace=False):
        path.write_bytes(sound)
        flip(path, i_bit)
        n_mended += bool(store.unsound_metadata())
        verify_store(store.path)
        found = ScoreStore.open(store.path).read_track("chr1", 0, 1300, 0)
        assert np.array_equal(found, expected, equal_nan=True)
    assert n_mended > 50


def test_attributes_that_a_user_added_are_no_damage(store):
    group = zarr.open_group(store.path, mode="r+", use_consolidated=False)
    group["chr1"].attrs["note"] = "mine"
    for _ in range(2):
        assert verify_store(store.path).is_sound
        group = zarr.open_group(store.path, mode="r", use_consolidated=False)
        assert group["chr1"].attrs["note"] == "mine"


@pytest.mark.parametrize("key", ["zarr.json", "chr1/zarr.json"])
def test_attributes_that_were_emptied_are_mended(store, key):
    path = store.path / key
    sound = path.read_bytes()
    path.write_text(json.dumps(json.loads(sound) | {"attributes": {}}))
    assert [damage.what for damage in verify_store(store.path).mended] == [key]
    assert path.read_bytes() == sound


def test_flipped_bits_in_gathered_metadata_are_mended(store):
    path = store.path / "zarr.json"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"1300", b"1301"))
    assert [damage.what for damage in verify_store(store.path).mended] == ["zarr.json"]
    assert path.read_bytes() == sound


def test_metadata_in_another_order_is_no_damage(store):
    path = store.path / "chr1/zarr.json"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert verify_store(store.path).is_sound


def test_temporary_files_are_swept(store):
    left = [store.path / "chr1/c/0/.7.ab.partial", store.path / ".scan/done/.8.cd.partial"]
    for path in left:
        path.write_bytes(b"half a sh")
    report = verify_store(store.path)
    assert report.swept == [".scan/done/.8.cd.partial", "chr1/c/0/.7.ab.partial"]
    assert report.is_sound
    assert not any(path.exists() for path in left)


def test_marker_of_another_plan_is_removed(store):
    key = f"{DONE}/0.0.0.12.0000beef.0123456789abcdef"
    store.folder.put(key, b"")
    assert verify_store(store.path).mended == [(key, "is of another plan; it was removed")]
    assert store.folder.get(key) is None


def test_store_that_is_being_written_is_left_alone(store):
    flip(shard_of(store))
    with Lease(store.folder).acquire(), pytest.raises(LeaseError, match="is being written by process"):
        verify_store(store.path, full=True)
    assert pending(store) == []
    with Lease(store.folder).acquire():
        assert not verify_store(store.path, full=True, break_lock=True).is_sound


def test_unfinished_store_is_verified_as_far_as_it_goes(store):
    marker_of(store).unlink()
    report = verify_store(store.path, full=True)
    assert report.is_sound
    assert report.n_pending == 1


def test_progress_grows_to_the_end(store):
    shown = []
    verify_store(store.path, full=True, on_progress=shown.append)
    assert [each.n_done for each in shown] == sorted(each.n_done for each in shown)
    assert (shown[-1].fraction, shown[-1].note) == (1.0, "10 of 10 objects, 0 damaged")


def test_what_is_no_store_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="is not there; expected a store"):
        verify_store(tmp_path / "absent")


# Blocks computed again


@pytest.fixture
def scanned(tmp_path, tiny_genome, monkeypatch, request):
    """Return a store that was scanned, and a sample of all of its blocks."""
    monkeypatch.setattr(ModelSource, "identity", lambda source: ("smooth", "weights"))
    monkeypatch.setattr(ModelSource, "load", lambda source: smooth_model())
    scoring = Scoring(getattr(request, "param", TRACKS), INPUT_BP, 6)
    with Genome(tiny_genome) as genome:
        chroms = {chrom: ((0, length),) for chrom, length in genome.chroms.items() if length}
        plan = ScanPlan(scoring, genome.digest(), "weights", dict(genome.chroms), chroms, 60, model="smooth")
        store = ScoreStore.create(tmp_path / "scanned.zarr", plan)
        scan_with(genome, WindowEngine(smooth_model(), scoring), store)
    return store, Sample(99, tiny_genome, ModelSource("smooth"))


def test_blocks_computed_again_are_equal_to_the_bit(scanned):
    store, sample = scanned
    report = verify_store(store.path, sample=sample)
    assert report.is_sound
    assert [found.block for found in report.recomputed] == list(store.plan.all_blocks())
    assert all(found.is_equal and found.largest == 0 for found in report.recomputed)
    assert sum(found.n_values for found in report.recomputed) == 2 * sum(store.plan.chroms.values())


def test_sample_is_drawn_anew_with_another_seed_and_is_the_same_with_the_same(scanned):
    store, sample = scanned
    drawn = [
        [
            found.block.start
            for found in verify_store(
                store.path, sample=Sample(3, sample.genome, sample.model, seed)
            ).recomputed
        ]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 3


def wrong_block(store, by):
    block = next(store.plan.all_blocks())
    scores = store.read_block(block)
    store.publish_block(block, by(scores))
    return block


def test_block_that_was_computed_wrongly_is_named_and_pending(scanned):
    store, sample = scanned
    block = wrong_block(store, lambda scores: scores * np.float32(1.1))
    ((what, said),) = verify_store(store.path, sample=sample).damaged
    assert what == str(block)
    assert "scores come out differently, the most by 0.091 of its track's largest" in said
    assert list(store.pending()) == [block]


def with_wrong_track(scores):
    scores[1] *= np.float32(1.1)
    return scores


@pytest.mark.parametrize(
    "scanned", [(TRACKS[0], Track("small", (1,), (1e-5,)))], indirect=True, ids=["a track of small scores"]
)
def test_wrong_scores_are_found_beside_a_track_of_much_larger_ones(scanned):
    store, sample = scanned
    block = wrong_block(store, with_wrong_track)
    ((what, said),) = verify_store(store.path, sample=sample).damaged
    assert what == str(block)
    assert "the most by 0.091 of its track's largest" in said


def test_block_with_a_gap_that_is_none_is_named(scanned):
    store, sample = scanned

    def lose_one(scores):
        scores[0, 3] = np.nan
        return scores

    block = wrong_block(store, lose_one)
    assert [damage.what for damage in verify_store(store.path, sample=sample).damaged] == [str(block)]


def test_rounding_is_no_damage_and_is_told_from_equality(scanned):
    store, sample = scanned
    wrong_block(store, lambda scores: scores * np.float32(1 + 1e-6))
    report = verify_store(store.path, sample=sample)
    assert report.is_sound
    assert [found.is_equal for found in report.recomputed].count(False) == 1


def test_each_block_is_compared_with_what_its_device_computed(scanned):
    store, sample = scanned
    blocks = list(store.plan.all_blocks())
    store.ledger.note_device("a first kind")
    said = store.ledger.note_device("another kind")
    store.publish_block(blocks[-1], store.read_block(blocks[-1]), said)
    report = verify_store(store.path, sample=sample)
    by_block = {str(found.block): found.device for found in report.recomputed}
    assert by_block[str(blocks[-1])] == "another kind"
    assert by_block[str(blocks[0])] != "another kind"
    assert len(by_block) == len(blocks)


def test_bits_that_were_dropped_are_no_damage(tmp_path, tiny_genome, tiny_model):
    with Genome(tiny_genome) as genome:
        codes = {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}
        scoring = Scoring(TRACKS, INPUT_BP, 6, values="tism")
        plan = plan_of(scoring, codes, block_bp=60)
        plan = ScanPlan.from_json(plan.to_json() | {"keep_bits": 7})
        store = ScoreStore.create(tmp_path / "s.zarr", plan)
        engine = WindowEngine(tiny_model, scoring)
        scan_with(genome, engine, store)
        for block in store.plan.all_blocks():
            assert recompute_block(genome, engine, store, block).is_equal


def test_object_that_cannot_be_decoded_is_named_by_computing_again(scanned):
    store, sample = scanned
    flip(store.path / "short/c/0/0")
    ((what, said),) = verify_store(store.path, sample=sample).damaged
    assert what == "short:1-7"
    assert "is damaged" in said
    assert pending(store) == ["short:1-7"]


def test_another_genome_is_refused_with_both_digests(scanned, tmp_path):
    store, sample = scanned
    other = tmp_path / "other.fa"
    shutil.copy(sample.genome, other)
    other.write_text(other.read_text().replace("GATTACA", "GATTACC"))
    with pytest.raises(GenomeError, match=r"is another genome, SHA-256 \w{12}, expected \w{12};"):
        verify_store(store.path, sample=Sample(1, other, sample.model))


def test_another_model_is_refused_with_both_digests(scanned, monkeypatch):
    store, sample = scanned
    monkeypatch.setattr(ModelSource, "identity", lambda source: ("smooth", "wider"))
    with pytest.raises(WeightsError, match=r"model smooth with SHA-256 wider, expected smooth with weights;"):
        verify_store(store.path, sample=sample)


def test_verification_logs_nothing_on_a_sound_store(store, caplog):
    with caplog.at_level(logging.WARNING):
        verify_store(store.path, full=True)
    assert caplog.messages == []
