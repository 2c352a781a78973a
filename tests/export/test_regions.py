import gzip
import math
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import tism_scan
from hypothesis import given, settings
from hypothesis import strategies as st
from leftovers import left_by_killed_writer
from small_plans import publish, small_plan
from variant_stores import CHROMS, variant_store

from tism_scan.errors import ExportError, GenomeError, RegionError, StorageFullError, StoreError, TrackError
from tism_scan.export import RegionsRequest, export_regions
from tism_scan.genome.peaks import read_peaks
from tism_scan.plan.packing import PACK
from tism_scan.store.score_store import ScoreStore

FORMATS = ("modisco", "finemo", "chrombpnet-h5")
# Past both ends, overlapping, the same twice, unsorted, on a chrom that was not scanned, without a summit.
PEAKS = """chr2\t250\t299\te\t5\t+\t1\t2\t3\t40
chr1\t0\t30\ta\t5\t+\t1\t2\t3\t2
chr1\t1200\t1300\tb\t5\t-\t1\t2\t3\t-1
chr1\t500\t540\tc\t5\t.\t1\t2\t3\t12
unwanted\t20\t180\td\t5\t.\t1\t2\t3\t9
chr1\t500\t540\tc\t5\t.\t1\t2\t3\t12
chr1\t490\t560
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return variant_store(tmp_path_factory.mktemp("regions") / "s.zarr", n_tracks=1)


@pytest.fixture(scope="module")
def two_tracks(tmp_path_factory):
    return variant_store(tmp_path_factory.mktemp("regions") / "two.zarr", n_tracks=2)


@pytest.fixture(scope="module")
def fasta(stored, tmp_path_factory):
    path = tmp_path_factory.mktemp("fasta") / "g.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in stored[1].items()))
    return path


@pytest.fixture
def peaks(tmp_path):
    path = tmp_path / "in.narrowPeak"
    path.write_text(PEAKS)
    return path


def expected_rows(stored, places, width, *, i_track=0, knows_genome=False):
    """Return one-hot and hypothetical scores around (chrom, centre) places, base by base."""
    _, letters, tism = stored
    one_hot, scores = np.zeros((2, len(places), 4, width), dtype=np.float64)
    for i, (chrom, center) in enumerate(places):
        for column in range(width):
            position = center - width // 2 + column
            if not 0 <= position < CHROMS[chrom] or chrom not in tism:
                continue
            values = tism[chrom][i_track, :, position].astype(np.float64)
            if np.isnan(values).any():
                continue
            scores[i, :, column] = values - values.mean()
            if knows_genome or (values == 0).sum() == 1:
                one_hot[i, "ACGT".index(letters[chrom][position]), column] = 1
    return one_hot, scores


def places_of(path):
    peaks = read_peaks(path, CHROMS)
    return [(peaks.chroms[i], center) for i, center in zip(peaks.i_chrom, peaks.centers, strict=True)]


def modisco_rows(folder):
    return tuple(np.load(folder / name)["arr_0"] for name in ("ohe.npz", "hyp.npz"))


def exported(stored, out, form, path, width=100, **options):
    return export_regions(stored[0], out, RegionsRequest(form, path, width, **options))


def assert_modisco(stored, folder, path, width, **options):
    one_hot, scores = modisco_rows(folder)
    expected = expected_rows(stored, places_of(path), width, **options)
    assert (one_hot.dtype, scores.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(one_hot, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("width", [2, 100, 3000])
def test_modisco_rows_are_those_of_a_plain_loop(stored, peaks, tmp_path, width, monkeypatch):
    monkeypatch.setattr("tism_scan.export.region_rows.BATCH_BYTES", 16 * width * 2)
    summary = exported(stored, tmp_path / "out", "modisco", peaks, width)
    assert summary.n_peaks == 7
    assert_modisco(stored, tmp_path / "out", peaks, width)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CHROMS)), st.integers(0, 199), st.integers(0, 300), st.integers(-1, 60)
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 200),
    st.integers(1, 12),
)
def test_any_peaks_give_as_many_rows_in_their_order(stored, rows, half_width, n_at_once):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tism_scan.export.region_rows.BATCH_BYTES", 32 * half_width * n_at_once)
        path = Path(folder) / "x.bed"
        lines = [
            f"{chrom}\t{start}\t{start + length}\tn{i}\t0\t.\t0\t-1\t-1\t{min(summit, length, 199 - start)}\n"
            for i, (chrom, start, length, summit) in enumerate(rows)
        ]
        path.write_text(
            "".join(line if not line.endswith("\t-1\n") else f"{line[:-4]}\t0\n" for line in lines)
        )
        summary = exported(stored, Path(folder) / "out", "modisco", path, 2 * half_width)
        assert summary.n_peaks == len(rows)
        assert_modisco(stored, Path(folder) / "out", path, 2 * half_width)


def test_score_at_the_reference_is_three_quarters_of_mean_tism(stored, peaks, tmp_path):
    exported(stored, tmp_path / "out", "modisco", peaks)
    one_hot, scores = modisco_rows(tmp_path / "out")
    for i, (chrom, center) in enumerate(places_of(peaks)):
        begin, end = max(center - 50, 0), min(center + 50, CHROMS[chrom])
        mean = np.nan_to_num(stored[0].read_track(chrom, begin, end, 0))
        here = slice(begin - center + 50, end - center + 50)
        known = one_hot[i, :, here].sum(axis=0) == 1
        at_reference = (one_hot * scores)[i, :, here].sum(axis=0)
        np.testing.assert_allclose(at_reference[known], 0.75 * mean[known], rtol=1e-5, atol=1e-10)


def test_finemo_has_the_keys_and_types_that_it_reads(stored, peaks, tmp_path):
    exported(stored, tmp_path / "out", "finemo", peaks)
    exported(stored, tmp_path / "same", "modisco", peaks)
    one_hot, scores = modisco_rows(tmp_path / "same")
    with np.load(tmp_path / "out" / "regions.npz") as found:
        kinds = {key: found[key].dtype.str.lstrip("<|") for key in found}
        assert {key: kind for key, kind in kinds.items() if kind[0] != "U"} == {
            **{"sequences": "i1", "contributions": "f2", "scale": "f8"},
            **{"chr_id": "u4", "start": "i4", "peak_id": "u4"},
        }
        assert kinds["chr"][0] == kinds["peak_name"][0] == "U"
        np.testing.assert_array_equal(found["sequences"], one_hot)
        unscaled = found["contributions"].astype(np.float64) / found["scale"]
        np.testing.assert_allclose(unscaled, scores, rtol=2**-11, atol=1e-10)
        assert found["chr"].tolist() == [chrom for chrom, _ in places_of(peaks)]
        assert found["chr_id"].tolist() == [0, 1, 1, 1, 2, 1, 1]  # in the order in which they come
        assert found["start"].tolist() == [center - 50 for _, center in places_of(peaks)]
        assert min(found["start"]) < 0
        assert found["peak_id"].tolist() == list(range(7))
        assert found["peak_name"].tolist() == ["e", "a", "b", "c", "d", "c", "."]


def test_h5_has_chrombpnets_three_arrays(stored, peaks, tmp_path):
    exported(stored, tmp_path / "out", "chrombpnet-h5", peaks)
    exported(stored, tmp_path / "same", "modisco", peaks)
    one_hot, scores = modisco_rows(tmp_path / "same")
    with h5py.File(tmp_path / "out" / "scores.h5") as file:
        raw, shap, projected = (file[f"{group}/seq"] for group in ("raw", "shap", "projected_shap"))
        assert (raw.dtype, shap.dtype, projected.dtype) == (np.int8, np.float16, np.float16)
        np.testing.assert_array_equal(raw, one_hot)
        np.testing.assert_allclose(shap[:] / file["scale"][()], scores, rtol=2**-11, atol=1e-10)
        np.testing.assert_array_equal(projected, shap[:] * raw[:])


@pytest.mark.parametrize("size", [1e-12, 1e-30, 1e30])
@pytest.mark.parametrize("form", ["finemo", "chrombpnet-h5"])
def test_float16_keeps_scores_of_any_size(tmp_path, form, size):
    plan = small_plan(1, chroms={"chr1": 512}, values="tism")
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    tism = np.random.default_rng(1).normal(size=(1, 4, 512)) * size
    tism[:, 0] = 0
    publish(store, {"chr1": tism.astype(np.float32)})
    (tmp_path / "p.bed").write_text("chr1\t0\t512\n")
    summary = exported((store,), tmp_path / "out", form, tmp_path / "p.bed", 512)
    expected = tism[0] - tism[0].mean(axis=0)
    if form == "finemo":
        found = np.load(tmp_path / "out" / "regions.npz")["contributions"][0]
    else:
        with h5py.File(tmp_path / "out" / "scores.h5") as file:
            found = file["shap/seq"][0]
    (track,) = summary.tracks
    assert 512 <= track.highest * track.scale < 1024
    assert math.frexp(track.scale)[0] == 0.5  # a power of two changes no digit
    np.testing.assert_allclose(
        found.astype(np.float64) / track.scale, expected, rtol=1e-3, atol=1e-6 * track.highest
    )


def test_sequence_is_the_genomes_where_the_scores_do_not_tell(stored, fasta, peaks, tmp_path):
    without = exported(stored, tmp_path / "without", "modisco", peaks, 1200)
    summary = exported(stored, tmp_path / "out", "modisco", peaks, 1200, genome=fasta)
    assert_modisco(stored, tmp_path / "out", peaks, 1200, knows_genome=True)
    n_more = modisco_rows(tmp_path / "out")[0].sum() - modisco_rows(tmp_path / "without")[0].sum()
    assert without.tracks[0].counts.n_unsure == n_more > 0
    assert summary.tracks[0].counts.n_unsure == 0


def test_other_genome_is_refused(stored, peaks, tmp_path):
    other = tmp_path / "g.fa"
    other.write_text("".join(f">{name}\n{'A' * length}\n" for name, length in CHROMS.items()))
    with pytest.raises(GenomeError, match="FASTA that was scanned"):
        exported(stored, tmp_path / "out", "modisco", peaks, genome=other)
    assert list((tmp_path / "out").iterdir()) == []


def test_bases_that_are_zeros_are_counted_by_reason(stored, peaks, tmp_path):
    (track,) = exported(stored, tmp_path / "out", "modisco", peaks).tracks
    positions = [(chrom, center - 50 + i) for chrom, center in places_of(peaks) for i in range(100)]
    on_chrom = [(chrom, p) for chrom, p in positions if 0 <= p < CHROMS[chrom]]
    assert track.counts.n_off_chrom == len(positions) - len(on_chrom) > 0
    assert track.counts.n_unwanted == sum(chrom == "unwanted" for chrom, _ in on_chrom) > 0
    n_letters = sum(chrom != "unwanted" and stored[1][chrom][p] == "N" for chrom, p in on_chrom)
    assert track.counts.n_without_score == n_letters > 0


def test_spans_that_were_not_asked_for_are_zeros(tmp_path, peaks):
    made = variant_store(tmp_path / "s.zarr", 1, wanted={"chr1": ((495, 505), (1250, 1300))})
    (track,) = exported(made, tmp_path / "out", "modisco", peaks).tracks
    assert_modisco(made, tmp_path / "out", peaks, 100)
    scored = [p for chrom, c in places_of(peaks) for p in range(c - 50, c + 50) if chrom == "chr1"]
    scored = [p for p in scored if 495 <= p < 505 or 1250 <= p < 1300]
    n_on_chrom = 700 - track.counts.n_off_chrom
    assert track.counts.n_unwanted == n_on_chrom - len(scored)


def test_rows_of_short_chroms_that_share_an_array(tmp_path):
    chroms = {f"c{i}": 120 for i in range(150)}
    plan = small_plan(1, chroms=chroms, block_bp=4096, values="tism")
    assert plan.pack is not None
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    tism = np.random.default_rng(1).normal(size=(1, 4, plan.arrays[PACK])).astype(np.float32)
    publish(store, {PACK: tism})
    (tmp_path / "p.bed").write_text("c140\t60\t70\nc3\t0\t10\nc140\t100\t110\n")
    exported((store,), tmp_path / "out", "modisco", tmp_path / "p.bed", 40)
    _, scores = modisco_rows(tmp_path / "out")
    centered = tism[0] - tism[0].mean(axis=0)
    for row, chrom, first, last, offset in [
        (0, "c140", 45, 85, 0),
        (1, "c3", 0, 25, 15),
        (2, "c140", 85, 120, 0),
    ]:
        start = plan.pack.start_of[chrom]
        expected = np.zeros((4, 40), dtype=np.float32)
        expected[:, offset : offset + last - first] = centered[:, start + first : start + last]
        np.testing.assert_allclose(scores[row], expected, atol=1e-6)


def test_each_stored_block_is_read_once(tmp_path, peaks, monkeypatch):
    made = variant_store(tmp_path / "s.zarr", 1)
    read = []
    whole = ScoreStore.read_channels

    def noted(store, chrom, start, end, i_track):
        read.append((chrom, start))
        return whole(store, chrom, start, end, i_track)

    monkeypatch.setattr(ScoreStore, "read_channels", noted)
    monkeypatch.setattr("tism_scan.export.region_rows.BATCH_BYTES", 1)
    exported(made, tmp_path / "out", "modisco", peaks, 700)
    assert len(read) == len(set(read)) > 2
    assert_modisco(made, tmp_path / "out", peaks, 700)


def test_blocks_between_peaks_are_not_read(stored, tmp_path, monkeypatch):
    (tmp_path / "p.bed").write_text("chr1\t1200\t1210\nchr1\t10\t20\n")
    read = []
    whole = ScoreStore.read_channels
    monkeypatch.setattr(ScoreStore, "read_channels", lambda *place: read.append(place[1:3]) or whole(*place))
    exported(stored, tmp_path / "out", "modisco", tmp_path / "p.bed", 20)
    assert read == [("chr1", 0), ("chr1", 1024)]


def test_peaks_as_used_have_their_center_for_every_reader(stored, peaks, tmp_path):
    exported(stored, tmp_path / "out", "modisco", peaks)
    beside = tmp_path / "out" / "peaks.narrowPeak"
    rows = [line.split("\t") for line in beside.read_text().splitlines()]
    assert {len(row) for row in rows} == {10}
    for row, (chrom, center) in zip(rows, places_of(peaks), strict=True):
        start, end, summit = int(row[1]), int(row[2]), int(row[9])
        assert row[0] == chrom
        assert start + summit == (start + end) // 2 == center
        assert 0 <= start < end <= CHROMS[chrom]
        if 50 <= center <= CHROMS[chrom] - 50:
            assert (start, end) == (center - 50, center + 50)
    assert rows[0][3:9] == ["e", "5", "+", "1", "2", "3"]
    exported(stored, tmp_path / "again", "modisco", beside)
    for first, second in zip(modisco_rows(tmp_path / "out"), modisco_rows(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_compressed_peaks_with_windows_line_ends_are_the_same(stored, peaks, tmp_path):
    (tmp_path / "p.gz").write_bytes(gzip.compress(PEAKS.replace("\n", "\r\n").encode()))
    exported(stored, tmp_path / "a", "finemo", peaks)
    exported(stored, tmp_path / "b", "finemo", tmp_path / "p.gz")
    assert (tmp_path / "a/regions.npz").read_bytes() == (tmp_path / "b/regions.npz").read_bytes()


def test_each_of_several_tracks_has_a_folder(two_tracks, peaks, tmp_path):
    summary = exported(two_tracks, tmp_path / "out", "modisco", peaks)
    assert [track.folder.name for track in summary.tracks] == ["0000_track_0", "0001_track_1"]
    for i_track, track in enumerate(summary.tracks):
        one_hot, scores = modisco_rows(track.folder)
        expected = expected_rows(two_tracks, places_of(peaks), 100, i_track=i_track)
        np.testing.assert_array_equal(one_hot, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-9)
    exported(two_tracks, tmp_path / "one", "modisco", peaks, tracks="1")
    assert (tmp_path / "one/hyp.npz").read_bytes() == (tmp_path / "out/0001_track_1/hyp.npz").read_bytes()
    with pytest.raises(TrackError, match="7"):
        exported(two_tracks, tmp_path / "none", "modisco", peaks, tracks="7")


def test_chroms_may_have_other_names_in_the_peaks(stored, tmp_path):
    (tmp_path / "p.bed").write_text("2\t10\t20\n1\t30\t40\n")
    (tmp_path / "alias").write_text("chr1 1\nchr2 2\n")
    exported(stored, tmp_path / "out", "finemo", tmp_path / "p.bed", chrom_alias=tmp_path / "alias")
    assert np.load(tmp_path / "out/regions.npz")["chr"].tolist() == ["2", "1"]
    assert (tmp_path / "out/peaks.narrowPeak").read_text().startswith("2\t0\t30\t")
    with pytest.raises(RegionError, match="'2' is no chrom"):
        exported(stored, tmp_path / "out", "finemo", tmp_path / "p.bed")


def test_store_of_mean_tism_is_refused(tmp_path, peaks):
    store = ScoreStore.create(tmp_path / "mean.zarr", small_plan())
    with pytest.raises(StoreError, match=r"export --format modisco.* run --values tism"):
        exported((store,), tmp_path / "out", "modisco", peaks)
    assert not (tmp_path / "out").exists()


def test_incomplete_store_is_refused_unless_allowed(tmp_path, peaks):
    made = variant_store(tmp_path / "s.zarr", 1, blocks=lambda plan: list(plan.all_blocks())[1:])
    with pytest.raises(StoreError, match="not complete"):
        exported(made, tmp_path / "out", "modisco", peaks)
    (tmp_path / "chr2.bed").write_text("chr2\t10\t20\n")
    exported(made, tmp_path / "chr2", "modisco", tmp_path / "chr2.bed")
    exported(made, tmp_path / "out", "modisco", peaks, allow_incomplete=True)
    made[2]["chr1"][..., :512] = np.nan
    assert_modisco(made, tmp_path / "out", peaks, 100)


def test_infinite_score_is_said_by_its_place(tmp_path, peaks):
    store, letters, tism = variant_store(tmp_path / "s.zarr", 1)
    tism["chr1"][0, 1, 510] = np.inf
    publish(store, tism)
    with pytest.raises(StoreError, match=r"a score of chr1:511 .* is infinite"):
        exported((store, letters, tism), tmp_path / "out", "modisco", peaks)
    assert list((tmp_path / "out").iterdir()) == []


def test_finished_files_are_replaced_only_if_asked_to(stored, peaks, tmp_path):
    out = tmp_path / "out"
    exported(stored, out, "modisco", peaks)
    with pytest.raises(ExportError, match=r"ohe.npz' is there already.*--overwrite"):
        exported(stored, out, "modisco", peaks)
    exported(stored, out, "finemo", peaks)  # of the same peaks
    (tmp_path / "other.bed").write_text("chr2\t10\t20\n")
    with pytest.raises(ExportError, match="other peaks or another width"):
        exported(stored, out, "chrombpnet-h5", tmp_path / "other.bed")
    exported(stored, out, "modisco", tmp_path / "other.bed", overwrite=True)
    assert_modisco(stored, out, tmp_path / "other.bed", 100)


def test_users_own_peaks_are_never_overwritten(stored, tmp_path):
    own = tmp_path / "peaks.narrowPeak"
    own.write_text(PEAKS)
    with pytest.raises(ExportError, match=r"peaks.narrowPeak' was not written by export"):
        exported(stored, tmp_path, "modisco", own, overwrite=True)
    assert own.read_text() == PEAKS


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("is_late", [False, True])
def test_interrupted_export_leaves_nothing_half_written(two_tracks, peaks, tmp_path, form, is_late):
    out = tmp_path / "out"

    def interrupt(progress):
        if progress.n_done > (7 if is_late else 0):  # 7 rows are read first, then written
            raise KeyboardInterrupt

    request = RegionsRequest(form, peaks, 100)
    with pytest.raises(KeyboardInterrupt):
        export_regions(two_tracks[0], out, request, on_progress=interrupt)
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left == ({"peaks.narrowPeak", ".written.json"} if is_late else set())
    assert len(exported(two_tracks, out, form, peaks).tracks) == 2


def test_what_a_killed_export_left_is_removed(stored, peaks, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    left_by_killed_writer(out / "scores.npz")
    exported(stored, out, "modisco", peaks)
    assert list(out.glob(".*.partial")) == []


@pytest.mark.parametrize("form", FORMATS)
def test_want_of_room_is_said_before_the_work(stored, peaks, tmp_path, monkeypatch, form):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("tism_scan.export.folder.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(ExportError, match=r"the rows need up to .* GB free"):
        exported(stored, tmp_path / "out", form, peaks)
    assert list((tmp_path / "out").iterdir()) == []


def test_full_disk_is_said_and_leaves_no_file(stored, peaks, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tism_scan.export.region_rows.Rows.put", full)
    with pytest.raises(StorageFullError, match="no room left"):
        exported(stored, tmp_path / "a", "modisco", peaks)
    monkeypatch.undo()
    monkeypatch.setattr("tism_scan.export.region_files.npy.write_array_header_1_0", full)
    with pytest.raises(StorageFullError, match="no room left"):
        exported(stored, tmp_path / "b", "modisco", peaks)
    assert [path.name for path in tmp_path.rglob("*.npz")] == []
    assert [path.name for path in tmp_path.rglob("*.partial")] == []


def test_memory_does_not_grow_with_the_peaks(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("tism_scan.export.region_rows.BATCH_BYTES", 1 << 18)
    highest = []
    for n in (100, 1000):
        path = tmp_path / f"{n}.bed"
        path.write_text("".join(f"chr1\t{i * 7919 % 1300}\t{i * 7919 % 1300 + 1}\n" for i in range(n)))
        tracemalloc.start()
        exported(stored, tmp_path / f"{n}", "modisco", path, 400)
        highest.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    rows_bytes = 900 * 400 * 16
    assert highest[1] - highest[0] < rows_bytes / 10


def test_numpy_finds_nothing_wrong_with_the_archives(stored, peaks, tmp_path):
    exported(stored, tmp_path / "out", "modisco", peaks)
    exported(stored, tmp_path / "out", "finemo", peaks)
    for path in (tmp_path / "out").glob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


@pytest.mark.parametrize("form", FORMATS)
def test_command_says_what_became_of_every_base(stored, peaks, tmp_path, form):
    out = tmp_path / "out"
    done = tism_scan(
        "export", stored[0].path, "--format", form, "--peaks", peaks, "--out", out, "--width", 100
    )
    assert done.returncode == 0, done.stderr
    assert "7 peaks, as many rows of 100 bp; zeros: " in done.stdout
    assert "bases past a chrom's end, 79 bases not scanned" in done.stdout
    assert "give it with --genome GENOME.fa" in done.stdout
    names = {"modisco": ["hyp.npz", "ohe.npz"], "finemo": ["regions.npz"], "chrombpnet-h5": ["scores.h5"]}
    expected = {f"README.{form}.txt", "peaks.narrowPeak", *names[form]}
    assert {path.name for path in out.glob("[!.]*")} == expected
    text = (out / f"README.{form}.txt").read_text()
    assert stored[0].plan.digest() in text
    assert "finemo call-hits" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "modisco"], "--format modisco needs --peaks"),
        (["--format", "modisco", "--peaks", "absent.bed"], "cannot read 'absent.bed'"),
        (["--format", "finemo", "--peaks", "{peaks}", "--width", "401"], "a width of 401 has no middle"),
        (["--format", "finemo", "--peaks", "{peaks}", "--width", "0"], "--width"),
        (["--format", "finemo", "--peaks", "{peaks}", "--chroms", "chr1"], "--chroms has no meaning"),
        (["--format", "finemo", "--peaks", "{empty}"], "holds no peak"),
        (["--format", "modisco", "--peaks", "{strange}"], "'chr11' is no chrom"),
        (["--peaks", "{peaks}"], "--peaks has no meaning with --format bigwig"),
        (["--format", "snv-tsv", "--width", "8"], "--width has no meaning with --format snv-tsv"),
    ],
)
def test_command_refuses_bad_input_in_one_line(stored, peaks, tmp_path, arguments, message):
    (tmp_path / "empty").touch()
    (tmp_path / "strange").write_text("chr11\t1\t2\n")
    places = {"peaks": peaks, "empty": tmp_path / "empty", "strange": tmp_path / "strange"}
    words = [word.format(**places) for word in arguments]
    done = tism_scan("export", stored[0].path, "--out", tmp_path / "out", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
