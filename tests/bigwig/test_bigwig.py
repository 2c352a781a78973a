import contextlib
import os
import resource
import shutil
import struct
from collections import namedtuple
from pathlib import Path

import numpy as np
import pybigtools
import pyBigWig
import pytest
from bigwig_readers import assert_last_zoom_records_have_their_sum, write_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from tism_scan.bigwig import BigWigSummary, foreseen_bytes, write_bigwig
from tism_scan.errors import ExportError, StorageFullError

BLOCK_BP = 100
CHROMS = {"chr2": 1030, "chr10": 250, "tiny": 1, "chr1": 400, "chrUn|KI270:x*": 7}

DiskUsage = namedtuple("DiskUsage", "total used free")


class Reader:
    """Serves arrays of scores and counts how often it was asked."""

    def __init__(self, scores):
        self.scores = scores
        self.n_calls = 0

    def __call__(self, chrom, start, end):
        self.n_calls += 1
        return self.scores[chrom][start:end].copy()


def random_scores(chroms=CHROMS):
    rng = np.random.default_rng(7)
    return {chrom: rng.normal(scale=1e-3, size=n).astype(np.float32) for chrom, n in chroms.items()}


def gaps_only(length):
    return np.full(length, np.nan, np.float32)


def values_in(path, chrom, length):
    return pybigtools.open(str(path)).values(chrom, 0, length, fillna=None).astype(np.float32)


def assert_holds(path, scores):
    for chrom, expected in scores.items():
        np.testing.assert_array_equal(values_in(path, chrom, len(expected)), expected)


def write(path, scores, **options):
    return write_arrays(path, scores, **{"block_bp": BLOCK_BP, **options})


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.bw"


def test_every_base_reads_back_with_another_reader(path):
    scores = random_scores()
    write(path, scores)
    assert_holds(path, scores)


def test_number_of_sections_is_told_before_them(path):
    """As Kent et al. describe the format, Bioinformatics 26, 2204 (2010): a reader may allocate by it."""
    write(path, random_scores({"chr1": 50_000, "chr2": 900}))
    raw = path.read_bytes()
    data_at, index_at = struct.unpack_from("<QQ", raw, 16)
    (n_sections,) = struct.unpack_from("<Q", raw, data_at)
    magic, _, n_in_index = struct.unpack_from("<IIQ", raw, index_at)
    assert magic == 0x2468ACE0
    assert n_sections == n_in_index > 10


@pytest.mark.parametrize("block_bp", [1, 7, 99, 100, 101, 1029, 1030, 1 << 20])
def test_runs_across_blocks_are_the_same_for_any_block_size(path, block_bp):
    scores = random_scores()
    write(path, scores, block_bp=block_bp)
    assert_holds(path, scores)


def test_a_run_over_many_sections_and_blocks_is_whole(path):
    scores = random_scores({"chr1": 300_001})
    write(path, scores, block_bp=1 << 16)
    assert_holds(path, scores)


@pytest.mark.parametrize(
    "gap",
    [
        pytest.param(slice(0, 1), id="first base"),
        pytest.param(slice(1029, 1030), id="last base"),
        pytest.param(slice(99, 100), id="last base of a block"),
        pytest.param(slice(100, 101), id="first base of a block"),
        pytest.param(slice(99, 101), id="across a block border"),
        pytest.param(slice(100, 200), id="a whole block"),
        pytest.param(slice(50, 950), id="many blocks"),
        pytest.param(slice(0, None, 2), id="every second base, from the first"),
        pytest.param(slice(1, None, 2), id="every second base, from the second"),
    ],
)
def test_nan_is_a_gap(path, gap):
    scores = random_scores()
    scores["chr2"][gap] = np.nan
    write(path, scores)
    assert_holds(path, scores)


@pytest.mark.parametrize("position", [0, 1, 99, 100, 101, 1028, 1029])
def test_a_single_scored_base_stands_alone(path, position):
    scores = {"chr2": gaps_only(1030)}
    scores["chr2"][position] = -0.25
    summary = write(path, scores)
    assert_holds(path, scores)
    assert summary.n_bases == 1


def test_a_gap_is_no_entry(path):
    scores = random_scores({"chr1": 300})
    scores["chr1"][120:180] = np.nan
    write(path, scores)
    assert pybigtools.open(str(path)).info()["summary"]["basesCovered"] == 240


def test_zero_is_a_score(path):
    summary = write(path, {"chr1": np.zeros(10, np.float32)})
    assert_holds(path, {"chr1": np.zeros(10, np.float32)})
    assert (summary.n_bases, summary.minimum, summary.maximum, summary.total) == (10, 0, 0, 0)


def test_extreme_floats_keep_their_bits(path):
    extreme = np.array([-0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38], np.float32)
    write(path, {"chr1": extreme})
    found = values_in(path, "chr1", len(extreme))
    assert found.view(np.uint32).tolist() == extreme.view(np.uint32).tolist()


def test_chroms_keep_the_order_of_the_genome(path):
    write(path, random_scores())
    with pyBigWig.open(str(path)) as bigwig:
        assert list(bigwig.chroms().items()) == list(CHROMS.items())


def test_a_chrom_without_any_score_stays_in_the_header(path):
    scores = random_scores()
    scores["chr10"][:] = np.nan
    write(path, scores)
    assert_holds(path, scores)


def test_an_empty_chrom_is_left_out_of_the_header(path):
    write(path, {"empty": gaps_only(0), "chr1": np.ones(5, np.float32)})
    assert pybigtools.open(str(path)).chroms() == {"chr1": 5}


def test_only_chosen_chroms_have_scores(path):
    scores = random_scores()
    write(path, scores, only=["chr1", "chr10"])
    expected = {chrom: v if chrom in ("chr1", "chr10") else gaps_only(len(v)) for chrom, v in scores.items()}
    assert_holds(path, expected)


def test_only_chosen_chroms_are_read(path):
    scores = random_scores({"chr1": 250, "chr2": 100})
    reader = Reader(scores)
    write_bigwig(path, {"chr1": 250, "chr2": 100}, reader, block_bp=BLOCK_BP, only={"chr1"})
    assert reader.n_calls == 2 * 3


@pytest.mark.parametrize(
    "values",
    [[-1, -2, -3], [-3, -2, -1], [3, 2, 1], [1, 2, 3], [2.5], [-2.5], [0, -1]],
    ids=str,
)
def test_the_header_agrees_with_the_scores(path, values):
    summary = write(path, {"chr1": np.array(values, np.float32)})
    header = pybigtools.open(str(path)).info()["summary"]
    assert (header["basesCovered"], header["min"], header["max"]) == (len(values), min(values), max(values))
    assert header["sum"] == sum(values)
    assert (summary.path, summary.n_bases) == (path, len(values))
    assert (summary.minimum, summary.maximum, summary.total) == (min(values), max(values), sum(values))


def test_zoom_levels_exist(path):
    write(path, random_scores({"chr1": 100_000}), block_bp=1 << 15)
    assert pybigtools.open(str(path)).zooms() == [32, 128, 512, 2048, 8192, 32768]


@pytest.mark.parametrize("length", [5, 100, 5003, 40_000])
def test_the_last_zoom_record_has_its_sum(path, length):
    scores = {"chr1": np.ones(300, np.float32), "chr2": np.ones(length, np.float32)}
    scores["chr2"][-3] = np.nan
    write(path, scores, block_bp=1 << 15)
    assert_last_zoom_records_have_their_sum(path, "chr2", length)


def test_a_large_file_is_found_through_its_mended_indexes(path):
    length = 5_000_000  # enough blocks for index trees of two levels
    scores = {"chr1": np.ones(length, np.float32)}
    write(path, scores, block_bp=1 << 20)
    bigwig = pybigtools.open(str(path))
    for zoom in bigwig.zooms():
        records = [record for _start, _end, record in bigwig.zoom_records(zoom, "chr1")]
        assert sum(record["bases_covered"] for record in records) == length
        assert records[-1]["sum"] == records[-1]["bases_covered"]


def test_the_file_ends_with_the_magic_number(path):
    write(path, random_scores())
    assert path.read_bytes()[-4:] == path.read_bytes()[:4]


def test_progress_counts_writing_and_checking(path):
    done = []
    write(path, random_scores(), only=["chr2", "tiny"], on_progress=done.append)
    assert sum(done) == 2 * (1030 + 1)
    assert max(done) == BLOCK_BP


def test_nothing_but_the_bigwig_is_left_in_the_folder(path):
    write(path, random_scores())
    assert leftovers(path.parent) == ["scores.bw"]


def test_an_older_file_is_replaced(path):
    path.write_text("older")
    scores = random_scores()
    write(path, scores)
    assert_holds(path, scores)


def test_a_path_relative_to_the_working_folder_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write("scores.bw", random_scores()).path == Path("scores.bw")
    assert leftovers(tmp_path) == ["scores.bw"]


class ReaderThatFails(Reader):
    """Raises an error at its n-th call."""

    def __init__(self, scores, error, at_call):
        super().__init__(scores)
        self.error = error
        self.at_call = at_call

    def __call__(self, chrom, start, end):
        scores = super().__call__(chrom, start, end)
        if self.n_calls == self.at_call:
            raise self.error
        return scores


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("stop"), OSError("stop"), RuntimeError("stop")], ids=repr
)
@pytest.mark.parametrize("at_call", [1, 3, 5, 8], ids=["first write", "writing", "first check", "last check"])
def test_an_interrupted_export_leaves_the_older_file(path, error, at_call):
    path.write_text("older")
    reader = ReaderThatFails(random_scores({"chr1": 400}), error, at_call)
    with pytest.raises(type(error), match="stop"):
        write_bigwig(path, {"chr1": 400}, reader, block_bp=BLOCK_BP)
    assert path.read_text() == "older"
    assert leftovers(path.parent) == ["scores.bw"]


def test_a_failed_rename_leaves_the_older_file(path, monkeypatch):
    path.write_text("older")

    def refuse(_source, _target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ExportError, match=r"scores\.bw: Operation not permitted; expected to rename"):
        write(path, random_scores())
    assert path.read_text() == "older"
    assert leftovers(path.parent) == ["scores.bw"]


class ReaderThatChanges(Reader):
    """Gives other scores once each block was read."""

    def __init__(self, scores, position, value):
        super().__init__(scores)
        self.position = position
        self.value = value

    def __call__(self, chrom, start, end):
        if self.n_calls == 4:
            self.scores[chrom][self.position] = self.value
        return super().__call__(chrom, start, end)


@pytest.mark.parametrize("value", [0.5, np.nan, -0.0], ids=str)
def test_a_score_that_changed_after_writing_is_named(path, value):
    reader = ReaderThatChanges({"chr1": np.zeros(400, np.float32)}, 123, value)
    with pytest.raises(ExportError, match=rf"chr1:123-124 is 0.0 in the file and {value} in the scores"):
        write_bigwig(path, {"chr1": 400}, reader, block_bp=BLOCK_BP)
    assert leftovers(path.parent) == []


def test_a_gap_that_was_filled_after_writing_is_named(path):
    scores = np.zeros(400, np.float32)
    scores[300] = np.nan
    reader = ReaderThatChanges({"chr1": scores}, 300, 2)
    with pytest.raises(
        ExportError, match=r"chr1:300-301 is nan in the file and 2\.0 in the scores \(1 bases"
    ):
        write_bigwig(path, {"chr1": 400}, reader, block_bp=BLOCK_BP)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_score_is_refused_with_its_position(path, infinite):
    scores = random_scores()
    scores["chr2"][[345, 700]] = infinite
    with pytest.raises(ExportError, match=rf"chr2:345-346 is {infinite}; a bigWig holds finite numbers only"):
        write(path, scores)
    assert leftovers(path.parent) == []


def test_a_track_without_any_score_is_a_file_without_entries(path):
    scores = {"a": gaps_only(150), "b": gaps_only(3)}
    summary = write(path, scores)
    assert_holds(path, scores)
    assert summary == BigWigSummary(path, 0, 0.0, 0.0, 0.0, 0.0)


def test_all_faults_of_the_chroms_are_named_at_once(path):
    with pytest.raises(
        ExportError, match=r"'chrX' is not in the genome; '' is not .* name; 'big' has 4294967296"
    ):
        write_bigwig(path, {"": 5, "big": 2**32}, Reader({}), only=["chrX"])


@pytest.mark.parametrize(("chroms", "only"), [({}, None), ({"chr1": 0}, None), ({"chr1": 5}, [])])
def test_a_choice_without_bases_is_refused(path, chroms, only):
    with pytest.raises(ExportError, match="no base of any chrom was chosen"):
        write_bigwig(path, chroms, Reader({}), only=only)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"absent is not a folder; make it, or choose another"):
        write(tmp_path / "absent" / "scores.bw", random_scores())


def test_a_folder_in_the_place_of_the_file_is_refused(path):
    path.mkdir()
    with pytest.raises(ExportError, match=r"scores\.bw: it is a folder; give the name of a file"):
        write(path, random_scores())


def test_a_folder_that_cannot_be_written_is_refused(path, monkeypatch):
    # Root may write everywhere, so the permission cannot be taken away for real.
    def refuse(_self, _content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ExportError, match=r"no file can be made in .* \(Permission denied\)"):
        write(path, random_scores())


def test_a_name_too_long_for_the_disk_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"no file can be made in .* \(File name too long\)"):
        write(tmp_path / f"{'s' * 255}.bw", random_scores())


@contextlib.contextmanager
def size_limit(n_bytes):
    """Let no file of this process grow past a size: writing on fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def set_free_bytes(monkeypatch, *free):
    """Let `disk_usage` report these numbers in turn, and the last one from then on."""
    left = list(free)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: DiskUsage(10**12, 0, left.pop(0) if len(left) > 1 else left[0])
    )


def test_too_little_room_is_refused_before_a_score_is_read(path, monkeypatch):
    set_free_bytes(monkeypatch, 2 * 10**9)
    reader = Reader({})
    with pytest.raises(
        ExportError, match=r"needs up to 5\.45 GB more and its folder has 2 GB free; make room"
    ):
        write_bigwig(path, {"chr1": 10**9}, reader)
    assert reader.n_calls == 0
    assert leftovers(path.parent) == []


def test_expected_bytes_tell_how_much_room_is_needed(path, monkeypatch):
    set_free_bytes(monkeypatch, 30_000)
    scores = {"chr1": gaps_only(100_000)}
    scores["chr1"][:1000] = 1
    write(path, scores, block_bp=1 << 20, expected_bytes=30_000)
    assert_holds(path, scores)


def test_a_full_disk_is_explained_and_leaves_the_older_file(path):
    path.write_text("older")
    with size_limit(200_000), pytest.raises(StorageFullError, match=r"no room left to write .*scores\.bw"):
        write(path, random_scores({"chr1": 1_000_000}), block_bp=1 << 16)
    assert path.read_text() == "older"
    assert leftovers(path.parent) == ["scores.bw"]


def test_the_file_stays_below_the_foreseen_size(path):
    n_bases = 1_000_000
    write(path, random_scores({"chr1": n_bases}), block_bp=1 << 20)
    finished, unfinished = foreseen_bytes(n_bases)
    assert 0.9 * finished < path.stat().st_size < finished < unfinished


def test_a_reader_that_gives_another_length_is_a_mistake(path):
    with pytest.raises(ValueError, match=r"read\('chr1', 0, 100\) gave shape \(101,\), not \(100,\)"):
        write_bigwig(path, {"chr1": 100}, lambda _chrom, start, end: np.zeros(end - start + 1, np.float32))
    assert leftovers(path.parent) == []


def test_a_block_without_bases_is_a_mistake(path):
    with pytest.raises(ValueError, match="block_bp is 0, not positive"):
        write(path, random_scores(), block_bp=0)


def scores_with_gaps():
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    score = st.one_of(finite, st.just(float("nan")))
    return st.lists(score, min_size=1, max_size=40).map(lambda values: np.array(values, np.float32))


@settings(max_examples=60, deadline=None)
@given(tracks=st.lists(scores_with_gaps(), min_size=1, max_size=4), block_bp=st.integers(1, 45))
def test_any_pattern_of_gaps_reads_back(tmp_path_factory, tracks, block_bp):
    path = tmp_path_factory.mktemp("gaps") / "scores.bw"
    scores = {f"chr{i}": values for i, values in enumerate(tracks)}
    scores["always"] = np.ones(1, np.float32)
    write(path, scores, block_bp=block_bp)
    assert_holds(path, scores)
