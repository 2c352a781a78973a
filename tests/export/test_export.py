import itertools
import json
import os
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from bigwig_readers import values_by_reader
from leftovers import left_by_killed_writer
from small_plans import BLOCK_BP, CHROMS, publish, random_scores, small_plan

from tism_scan.errors import ExportError, RegionError, StorageFullError, StoreError, TrackError
from tism_scan.export import bigwigs as export_module
from tism_scan.export import export_bigwigs, processes
from tism_scan.export.aliases import read_aliases
from tism_scan.export.processes import write_files
from tism_scan.plan.tracks import Track, choose_tracks
from tism_scan.storage.partials import partial_beside
from tism_scan.store.score_store import ScoreStore

TRACKS = (
    Track("K562_CTCF_None", (149,), (1.0,)),
    Track("K562_CTCF_None", (338,), (1.0,)),
    Track("ctcf_mean", (149, 338), (0.5, 0.5)),
)
DiskUsage = namedtuple("DiskUsage", "total used free")
FILES = ["0000_track_0.bw", "0001_track_1.bw", "0002_track_2.bw"]


@pytest.fixture
def scores():
    return random_scores(small_plan(3))


@pytest.fixture
def store(tmp_path, scores):
    """Return a finished store of three tracks."""
    store = ScoreStore.create(tmp_path / "scores.zarr", small_plan(3))
    publish(store, scores)
    return store


@pytest.fixture
def out(tmp_path):
    return tmp_path / "bigwig"


def assert_holds(path, scores, names=None):
    """Compare a bigWig with one track's scores of each chrom."""
    for chrom, expected in scores.items():
        for reader, values in values_by_reader(path, (names or {}).get(chrom, chrom), len(expected)):
            np.testing.assert_array_equal(values, expected, err_msg=f"{reader}, {chrom}")


def track_of(scores, i_track):
    return {chrom: values[i_track] for chrom, values in scores.items()}


def bigwigs(folder):
    return sorted(path.name for path in folder.glob("*.bw"))


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.bw")}


def written_again(store, out, **options):
    """Return the names of the files that another export writes, and does not keep."""
    before = times(out)
    kept = set()
    export_bigwigs(store, out, on_progress=lambda p: kept.add(p.part) if p.is_kept else None, **options)
    changed = {name for name, time in times(out).items() if before.get(name) != time}
    assert changed.isdisjoint(kept)
    return sorted(changed)


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        (None, [0, 1, 2]),
        ("338", [1]),
        ("all", [0, 1, 2]),
        ("K562_CTCF_None", [0, 1]),
        ("k562_ctcf_none", [0, 1]),
        ("*_ctcf_*", [0, 1]),
        ("*CTCF*", [0, 1, 2]),
        ("ctcf_mean, 149", [0, 2]),
    ],
)
def test_tracks_are_chosen_by_output_name_or_glob(spec, chosen):
    assert choose_tracks(TRACKS, spec) == chosen


@pytest.mark.parametrize("spec", ["*", "of*", "770,77,7,700,0", ",".join(map(str, range(994, 0, -7)))])
def test_chosen_tracks_are_in_the_stores_order_however_many_they_are(spec):
    tracks = tuple(Track(f"of {i}", (i,), (1.0,)) for i in range(0, 1001, 7))
    chosen = choose_tracks(tracks, spec)
    assert len(chosen) >= 5
    assert all(one < other for one, other in itertools.pairwise(chosen))


def test_every_part_that_fits_nothing_is_named_with_its_neighbours():
    with pytest.raises(
        TrackError,
        match=r"'k562_ctcf' fits no track of the store; expected a name.* 'K562_CTCF_None'.* \| '7' is out",
    ):
        choose_tracks(TRACKS, "k562_ctcf,7,149")


def test_empty_selection_is_refused():
    with pytest.raises(TrackError, match="selects no track"):
        choose_tracks(TRACKS, " , ")


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_track_becomes_a_file_that_equals_the_store(store, scores, out, jobs):
    summaries = export_bigwigs(store, out, jobs=jobs)
    assert bigwigs(out) == FILES
    for i_track, summary in enumerate(summaries):
        expected = track_of(scores, i_track)
        assert summary.path == out / FILES[i_track]
        assert summary.n_bases == sum((~np.isnan(values)).sum() for values in expected.values())
        assert_holds(summary.path, expected)


def test_processes_write_the_same_files_as_one(store, tmp_path):
    alone = export_bigwigs(store, tmp_path / "alone")
    together = export_bigwigs(store, tmp_path / "together", jobs=3)
    for one, other in zip(alone, together, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert one.limit == other.limit


def test_header_has_every_chrom_in_the_order_of_the_genome(store, out):
    export_bigwigs(store, out, tracks="0", chroms=["c"])
    with pyBigWig.open(str(out / FILES[0])) as bigwig:
        assert list(bigwig.chroms().items()) == [(c, n) for c, n in CHROMS.items() if n]
        assert bigwig.intervals("chr1") is None


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_ends_with_all_bases_of_all_files(store, out, jobs):
    seen = {}
    export_bigwigs(store, out, jobs=jobs, on_progress=lambda p: seen.setdefault(p.part, []).append(p))
    assert sorted(seen) == FILES
    for steps in seen.values():
        counts = [step.n_done for step in steps]
        assert counts == sorted(counts)
        if jobs == 1:
            assert counts[-1] == steps[-1].n_total == 2 * (1300 + 300 + 512)
        assert not any(step.is_kept for step in steps)


def test_finished_files_are_kept(store, out):
    first = export_bigwigs(store, out)
    before = times(out)
    assert export_bigwigs(store, out) == first
    assert times(out) == before


def test_only_what_is_missing_or_was_touched_is_written_again(store, out):
    export_bigwigs(store, out)
    (out / FILES[0]).unlink()
    (out / FILES[2]).write_bytes((out / FILES[2]).read_bytes()[:-1])
    assert written_again(store, out) == [FILES[0], FILES[2]]
    assert written_again(store, out) == []


def test_a_file_that_no_export_recorded_is_written_again(store, out):
    export_bigwigs(store, out)
    (out / ".export.json").unlink()
    assert written_again(store, out) == FILES


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 0, "files": {}}'])
def test_a_damaged_record_is_as_good_as_none(store, out, content):
    export_bigwigs(store, out)
    (out / ".export.json").write_text(content)
    assert written_again(store, out) == FILES
    assert written_again(store, out) == []


@pytest.mark.parametrize(
    "options", [{"keep_bits": 10}, {"chroms": ["c"]}, {"writer": "pybigwig"}, {"overwrite": True}], ids=str
)
def test_other_options_write_the_files_anew(store, out, options):
    export_bigwigs(store, out)
    assert written_again(store, out, **options) == FILES


def test_other_scores_in_the_store_write_the_files_anew(store, scores, out):
    export_bigwigs(store, out)
    block = next(store.plan.all_blocks())
    scores["chr1"][:, :BLOCK_BP] = 0.5
    publish(store, scores, [block])
    assert written_again(store, out) == FILES
    assert_holds(out / FILES[1], track_of(scores, 1))


def test_files_of_another_scan_are_overwritten_only_if_asked(store, out, tmp_path):
    export_bigwigs(store, out)
    before = times(out)
    plan = replace(store.plan, keep_bits=7)
    other = ScoreStore.create(tmp_path / "other.zarr", plan)
    publish(other, random_scores(plan))
    with pytest.raises(ExportError, match=r"holds bigWigs of another scan, such as .*; choose another --out"):
        export_bigwigs(other, out)
    assert times(out) == before
    export_bigwigs(other, out, overwrite=True)
    assert written_again(other, out) == []


def test_files_of_another_scan_under_other_names_are_no_longer_asked_about_once_overwritten(
    store, out, tmp_path
):
    export_bigwigs(store, out)
    scoring = store.plan.scoring
    tracks = tuple(replace(track, name=f"new {track.name}") for track in scoring.tracks)
    other = ScoreStore.create(
        tmp_path / "other.zarr", replace(store.plan, scoring=replace(scoring, tracks=tracks))
    )
    publish(other, random_scores(other.plan))
    export_bigwigs(other, out, overwrite=True)
    assert written_again(other, out) == []


def test_an_export_of_other_tracks_forgets_nothing(store, out):
    export_bigwigs(store, out, tracks="0")
    export_bigwigs(store, out, tracks="1")
    assert written_again(store, out) == [FILES[2]]


def test_interrupt_while_a_report_is_read_is_met_once_it_is_whole(store, out, monkeypatch):
    """Else its rest is taken for the next one, and the export waits for its processes for ever."""
    make, begun, ended = processes.SPAWN.SimpleQueue, [], []

    def interrupted_queue():
        queue = make()
        get = queue.get

        def get_interrupted():
            begun.append(len(begun))
            if begun == [0]:
                signal.raise_signal(signal.SIGINT)
            told = get()
            ended.append(begun[-1])
            return told

        queue.get = get_interrupted  # in this process only
        return queue

    monkeypatch.setattr(processes.SPAWN, "SimpleQueue", interrupted_queue)
    with pytest.raises(KeyboardInterrupt):
        export_bigwigs(store, out, jobs=2)
    assert ended[0] == 0
    assert list(out.glob(".*.partial")) == []


def test_processes_of_a_pool_never_get_an_interrupt_and_this_one_still_does():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with processes.spawned_pool(1) as pool:
        assert signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert signal.SIGINT not in before


def test_interrupt_ends_processes_that_cannot_say_how_far_they_are(out, tmp_path):
    # The pipe that they write it to holds some thousands of numbers, and fills while nobody reads it.
    plan = small_plan(2, chroms={"chr1": 20_000_000}, block_bp=1024)
    store = ScoreStore.create(tmp_path / "long.zarr", plan)

    def interrupt_late(progress):
        time.sleep(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bigwigs(store, out, allow_incomplete=True, jobs=2, on_progress=interrupt_late)
    assert list(out.glob(".*.partial")) == []


def test_an_interrupted_export_goes_on_with_what_is_missing(store, out):
    def interrupt(progress):
        if progress.part == FILES[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bigwigs(store, out, on_progress=interrupt)
    assert bigwigs(out) == FILES[:1]
    assert written_again(store, out) == FILES[1:]


def test_processes_that_are_stopped_leave_nothing_unfinished(store, out):
    def interrupt(_progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bigwigs(store, out, jobs=2, on_progress=interrupt)
    assert [path.name for path in out.iterdir() if "partial" in path.name] == []


def test_what_a_killed_export_left_behind_is_removed(store, out):
    out.mkdir()
    dead, alive = left_by_killed_writer(out / FILES[0]), partial_beside(out / FILES[1])
    alive.write_text("of another export")
    export_bigwigs(store, out)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_chrom_of_the_genome_that_was_not_scanned_is_called_so(store, out):
    with pytest.raises(RegionError, match="no base of 'unwanted' was scanned; expected a chrom such as"):
        export_bigwigs(store, out, chroms=["chr1,unwanted"])


def test_an_unfinished_chrom_is_refused_unless_allowed(tmp_path, scores, out):
    store = ScoreStore.create(tmp_path / "half.zarr", small_plan(3))
    blocks = list(store.plan.all_blocks())
    publish(store, scores, blocks[1:])
    with pytest.raises(StoreError, match=r"not complete: chr1 \(1 block\) still to be computed"):
        export_bigwigs(store, out)
    assert not out.exists()
    export_bigwigs(store, out, tracks="0", allow_incomplete=True)
    expected = track_of(scores, 0)
    expected["chr1"][:BLOCK_BP] = np.nan
    assert_holds(out / FILES[0], expected)
    publish(store, scores, blocks[:1])
    assert written_again(store, out, tracks="0", allow_incomplete=True) == [FILES[0]]


def test_blocks_that_were_given_up_are_no_gaps_unless_allowed(tmp_path, scores, out):
    store = ScoreStore.create(tmp_path / "failed.zarr", small_plan(3))
    first, *others = store.plan.all_blocks()
    publish(store, scores, others)
    store.mark_failed(first, "no such luck", 3)
    with pytest.raises(StoreError, match=r"not complete: chr1 \(1 block\) still to be computed"):
        export_bigwigs(store, out)
    (summary,) = export_bigwigs(store, out, tracks="0", allow_incomplete=True)
    n_gaps = (~np.isnan(scores["chr1"][0, :BLOCK_BP])).sum()
    assert summary.n_bases == sum((~np.isnan(values[0])).sum() for values in scores.values()) - n_gaps


def test_keep_bits_rounds_as_the_store_does(tmp_path, store, scores, out):
    export_bigwigs(store, out, tracks="1", keep_bits=10)
    rounded = ScoreStore.create(tmp_path / "rounded.zarr", small_plan(3, keep_bits=10))
    publish(rounded, scores)
    expected = {chrom: rounded.read_track(chrom, 0, store.plan.chroms[chrom], 1) for chrom in scores}
    assert_holds(out / FILES[1], expected)


def test_rounded_files_are_smaller(tmp_path, out):
    plan = small_plan(1, chroms={"chr1": 200_000}, block_bp=65_536)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    publish(store, random_scores(plan))
    (whole,) = export_bigwigs(store, out / "a")
    (rounded,) = export_bigwigs(store, out / "b", keep_bits=10)
    assert rounded.path.stat().st_size < 0.8 * whole.path.stat().st_size


@pytest.mark.parametrize("keep_bits", [0, 24])
def test_bits_that_a_float_has_not_are_refused(store, out, keep_bits):
    with pytest.raises(ExportError, match=f"keep_bits {keep_bits} is outside 1 to 23"):
        export_bigwigs(store, out, keep_bits=keep_bits)


def test_channels_are_one_file_for_each_alternative_base(tmp_path, out):
    plan = small_plan(2, values="tism")
    scores = random_scores(plan)
    for values in scores.values():
        values[:, 2, ::3] = 0  # where G is the reference base
    store = ScoreStore.create(tmp_path / "tism.zarr", plan)
    publish(store, scores)
    summaries = export_bigwigs(store, out, tracks="1", channels=True)
    assert [summary.path.name for summary in summaries] == [f"0001_track_1.{base}.bw" for base in "ACGT"]
    for i_base, summary in enumerate(summaries):
        assert_holds(summary.path, {chrom: values[1, i_base] for chrom, values in scores.items()})
    (mean,) = export_bigwigs(store, out, tracks="1")
    assert mean.path.name == "0001_track_1.bw"


def test_channels_of_a_store_of_means_are_refused(store, out):
    with pytest.raises(ExportError, match=r"holds mean TISM only; --channels needs .* --values tism"):
        export_bigwigs(store, out, channels=True)


def test_chroms_bear_the_names_of_the_browser(store, scores, out, tmp_path):
    table = tmp_path / "alias.txt"
    table.write_text("# store\tbrowser\nchr1\t1\nHLA-A*01:01:01:01\tHLA\nelsewhere\tchr9\n")
    export_bigwigs(store, out, tracks="0", chrom_alias=table, chroms=["chr1,HLA*"])
    names = {"chr1": "1", "HLA-A*01:01:01:01": "HLA"}
    expected = {chrom: values for chrom, values in track_of(scores, 0).items() if chrom in names}
    assert_holds(out / FILES[0], expected, names)
    with pyBigWig.open(str(out / FILES[0])) as bigwig:
        assert list(bigwig.chroms()) == ["1", "HLA", "c", "unwanted"]
    table.write_text("chr1\tI\n")
    assert written_again(store, out, tracks="0", chrom_alias=table, chroms=["chr1,HLA*"]) == [FILES[0]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("chr1\tx\tucsc\n", r"line 1 has 3 columns, expected 2: 'chr1\\tx\\tucsc'"),
        ("chr1\n", "line 1 has 1 columns, expected 2"),
        ("chr1\t\n", "line 1 has 2 columns, expected 2"),
        ("chr1\tx\nc\tx\n", "'chr1' and 'c' would both be 'x'"),
        ("chr1\tc\n", "'chr1' and 'c' would both be 'c'"),
        ("chr1\tx\nchr1\ty\n", "line 2 names 'chr1' 'y', an earlier line 'x'"),
        ("1\tchr1\n", "it names no chrom of the store; expected their names, such as 'chr1', in the first"),
        ("", "it names no chrom of the store"),
        ("a b c\nd\ne f g\n", r"line 1 .*; line 2 .*; line 3 "),
    ],
)
def test_faults_of_a_table_of_names_are_told(tmp_path, table, message):
    path = tmp_path / "alias.txt"
    path.write_text(table)
    with pytest.raises(ExportError, match=rf"alias\.txt cannot be used: {message}"):
        read_aliases(path, ["chr1", "c"])


@pytest.mark.parametrize(("n_faults", "end"), [(5, "'x x x'; correct"), (6, "'x x x'; and 1 more; correct")])
def test_five_faults_of_a_table_of_names_are_told_and_the_rest_counted(tmp_path, n_faults, end):
    (tmp_path / "alias.txt").write_text("x x x\n" * n_faults)
    with pytest.raises(ExportError, match=rf"line 5 has 3 columns, expected 2: {end} these lines$"):
        read_aliases(tmp_path / "alias.txt", ["chr1", "c"])


def test_a_table_of_names_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportError, match="is no text in UTF-8"):
        read_aliases(tmp_path / "binary", ["chr1"])
    with pytest.raises(ExportError, match=r"cannot read .*absent: No such file"):
        read_aliases(tmp_path / "absent", ["chr1"])


def test_names_may_be_swapped(tmp_path):
    path = tmp_path / "alias.txt"
    path.write_text("a b\nb a\n")
    assert read_aliases(path, ["a", "b", "c"]) == {"a": "b", "b": "a", "c": "c"}


def test_too_little_room_for_all_files_is_told_before_the_first(store, out, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(0, 0, 20_000))
    with pytest.raises(ExportError, match=r"3 bigWig files need up to \S+ GB and .* has 2e-05 GB free"):
        export_bigwigs(store, out)
    assert bigwigs(out) == []
    export_bigwigs(store, out, tracks="0")


def test_a_full_disk_stops_the_export_and_keeps_finished_files(store, out, monkeypatch):
    export_bigwigs(store, out, tracks="0")
    write = processes.TrackExport.write

    def fill(self, *arguments):
        if self.i_track == 1:
            raise StorageFullError("no room left")
        return write(self, *arguments)

    monkeypatch.setattr(processes.TrackExport, "write", fill)
    with pytest.raises(StorageFullError, match="no room left"):
        export_bigwigs(store, out)
    assert bigwigs(out) == FILES[:1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_infinite_score_costs_its_own_track_only(tmp_path, scores, out, jobs):
    scores["c"][1, 100] = np.inf
    store = ScoreStore.create(tmp_path / "inf.zarr", small_plan(3))
    publish(store, scores)
    with pytest.raises(
        ExportError, match="the score of c:100-101 is inf; a bigWig holds finite numbers only"
    ):
        export_bigwigs(store, out, jobs=jobs)
    assert bigwigs(out) == [FILES[0], FILES[2]]


def test_faults_of_several_tracks_are_told_at_once(tmp_path, scores, out):
    scores["c"][0, 7], scores["c"][1, 100] = -np.inf, np.inf
    store = ScoreStore.create(tmp_path / "inf.zarr", small_plan(3))
    publish(store, scores)
    with pytest.raises(
        ExportError, match=r"2 of 3 bigWig files could not be made: .* is -inf.* \| .* is inf"
    ):
        export_bigwigs(store, out)


def test_a_track_without_a_score_is_a_file_and_a_warning(tmp_path, scores, out, caplog):
    for values in scores.values():
        values[1] = np.nan
    store = ScoreStore.create(tmp_path / "empty.zarr", small_plan(3))
    publish(store, scores)
    summaries = export_bigwigs(store, out)
    assert (summaries[1].n_bases, summaries[1].limit) == (0, 0)
    assert_holds(out / FILES[1], track_of(scores, 1))
    assert [record.getMessage() for record in caplog.records] == [
        f"track 1 has no score in chr1, HLA-A*01:01:01:01, c: {out / FILES[1]} holds no entry"
    ]


def test_a_folder_that_cannot_be_made_or_written_is_refused(store, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ExportError, match=r"cannot make the folder .*file: File exists; choose another --out"
    ):
        export_bigwigs(store, tmp_path / "file")
    # Root may write everywhere, so the permission cannot be taken away for real.
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(ExportError, match=r"cannot write into .*bw: permission denied"):
        export_bigwigs(store, tmp_path / "bw")


def test_a_damaged_store_is_told(store, out):
    shard = next(path for path in Path(store.path).rglob("*") if path.is_file() and path.parent.name == "0")
    content = bytearray(shard.read_bytes())
    content[len(content) // 8] ^= 255
    shard.write_bytes(content)
    with pytest.raises((StoreError, ExportError), match="is damaged at"):
        export_bigwigs(store, out)


def test_the_record_says_what_each_file_holds(store, out):
    (summary,) = export_bigwigs(store, out, tracks="2")
    recorded = json.loads((out / ".export.json").read_text())["files"][FILES[2]]
    assert recorded["summary"]["limit"] == summary.limit
    assert recorded["stamp"][0] == summary.path.stat().st_size


def test_a_process_is_started_only_where_the_work_is_worth_it(store, out):
    assert processes.fitting_jobs(store, [], None) == 1
    (out / "x").mkdir(parents=True)
    summaries = export_bigwigs(store, out, jobs=None)
    assert len(summaries) == 3


@pytest.mark.parametrize(("writer", "n_at_once"), [("pybigwig", 2), ("stream", 3)])
def test_no_more_files_are_written_at_once_than_memory_lets(store, out, monkeypatch, writer, n_at_once):
    monkeypatch.setattr("tism_scan.bigwig.writing.memory_needed", lambda lengths: 1e9)
    monkeypatch.setattr("tism_scan.bigwig.writing.memory_available", lambda: 2.5e9)
    files = export_module._files(
        store,
        out,
        i_tracks=range(3),
        chroms=["chr1"],
        chrom_alias=None,
        channels=False,
        keep_bits=None,
        writer=writer,
    )
    assert processes.fitting_jobs(store, files, 8) == n_at_once


@pytest.mark.parametrize("change", ["begun anew", "one object lost", "computed again"])
def test_file_of_a_store_that_changes_while_it_is_read_is_not_kept(store, scores, out, change, monkeypatch):
    """Zarr reads what is not there as NaN, which would stay in the file for ever."""
    (shard, *_) = sorted(path for path in store.path.glob("chr1/c/0/*") if path.is_file())

    def change_the_store(*arguments):
        if change == "begun anew":
            ScoreStore.create(store.path, replace(store.plan, weights_digest="0" * 64), overwrite=True)
        elif change == "one object lost":
            shard.unlink()
        else:
            block = next(store.plan.all_blocks())
            store.publish_block(block, 2 * scores[block.chrom][:, block.start : block.end])
        return write_files(*arguments)

    monkeypatch.setattr(export_module, "write_files", change_the_store)
    with pytest.raises(StoreError, match=r"scores.zarr was changed while 0000_track_0\.bw was written"):
        export_bigwigs(store, out, tracks="0")
    assert bigwigs(out) == []


def test_store_that_grows_while_it_is_exported_does_not_spoil_a_file(tmp_path, scores, out):
    store = ScoreStore.create(tmp_path / "growing.zarr", small_plan(3))
    first, *others = store.plan.all_blocks()
    store.publish_block(first, scores[first.chrom][:, first.start : first.end])

    def grow(progress):
        for block in others:
            store.publish_block(block, scores[block.chrom][:, block.start : block.end])
        others.clear()

    export_bigwigs(store, out, tracks="0", allow_incomplete=True, on_progress=grow)
    assert bigwigs(out) == FILES[:1]
    export_bigwigs(store, out, tracks="0")
    assert_holds(out / FILES[0], track_of(scores, 0))
