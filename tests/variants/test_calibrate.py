import gzip
import json
import re

import numpy as np
import pytest
from command_line import tism_scan
from small_plans import publish, random_scores, small_plan
from variant_stores import variant_store, vcf_text

from tism_scan.errors import RegionError, StoreError
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlets import SeqletRule
from tism_scan.scan.verify import verify_store
from tism_scan.store.arrays import rounded
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import annotate, calibrate, calibration, limits_of, read_calibration


def phreds(ranked, asked):
    """Return PHRED by the definition."""
    in_order = np.sort(np.abs(ranked))
    rank = len(ranked) - np.searchsorted(in_order, np.abs(asked), side="left")
    return np.round(-10 * np.log10(rank / len(ranked)), 2)


def substitutions(letters, tism, i_track, spans=None):
    """Return TISM of each base's three substitutions, one after another."""
    found = []
    for chrom, values in tism.items():
        for position, own in enumerate(letters[chrom]):
            is_in = spans is None or any(start <= position < end for start, end in spans.get(chrom, ()))
            if is_in and own != "N":
                found += [values[i_track, code, position] for code in range(4) if "ACGT"[code] != own]
    return np.array([value for value in found if not np.isnan(value)])


@pytest.mark.parametrize(("jobs", "keep_bits"), [(1, None), (2, None), (1, 10)])
def test_ranks_are_those_of_all_substitutions_and_of_all_bases(tmp_path, monkeypatch, jobs, keep_bits):
    monkeypatch.setattr(calibration, "_TASK_BP", 600)
    store, letters, tism = variant_store(tmp_path / "s.zarr", keep_bits=keep_bits)
    tism = {chrom: rounded(values, keep_bits) for chrom, values in tism.items()}
    found = calibrate(store, jobs=jobs)
    for i_track in range(2):
        ranked = substitutions(letters, tism, i_track)
        assert found.substitutions[i_track].n == len(ranked)
        assert found.substitutions[i_track].phred(ranked) == pytest.approx(phreds(ranked, ranked), abs=1e-9)
        mean = np.concatenate([store.read_track(chrom, 0, len(letters[chrom]), i_track) for chrom in tism])
        mean = mean[~np.isnan(mean)]
        assert found.mean[i_track].n == len(mean)
        assert found.mean[i_track].phred(mean) == pytest.approx(phreds(mean, mean), abs=1e-9)


def test_background_leaves_other_bases_out(tmp_path):
    store, letters, tism = variant_store(tmp_path / "s.zarr")
    (tmp_path / "null.bed").write_text("chr1\t100\t700\nchr1\t650\t800\n")
    found = calibrate(store, background=tmp_path / "null.bed")
    ranked = substitutions(letters, tism, 0, {"chr1": ((100, 800),)})
    assert found.substitutions[0].n == len(ranked)
    everything = substitutions(letters, tism, 0)
    highest = np.sort(np.abs(ranked))[-1]
    inside = everything[np.abs(everything) <= highest]
    assert found.substitutions[0].phred(inside) == pytest.approx(phreds(ranked, inside), abs=1e-9)
    assert found.background == "null.bed"


def test_positions_of_a_vcf_are_a_background(tmp_path):
    store, letters, tism = variant_store(tmp_path / "s.zarr")
    positions = [700, 5, 6, 6, 1300]
    rows = [("chr1", position, "A", "C") for position in positions]
    (tmp_path / "null.vcf").write_text(vcf_text([*rows, ("chrX", 3, "A", "C")]))
    found = calibrate(store, background=tmp_path / "null.vcf")
    spans = {"chr1": [(position - 1, position) for position in positions]}
    ranked = substitutions(letters, tism, 0, spans)
    assert found.substitutions[0].n == len(ranked) > 0
    assert found.substitutions[0].phred(ranked) == pytest.approx(phreds(ranked, ranked), abs=1e-9)
    assert read_calibration(store).described(0).endswith("substitutions of the positions of null.vcf")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("1", 5, "A", "C")], r"no record of .* is on a chrom of the store: .*'1'"),
        ([("chr1", 5, "A", "C"), ("chr1", 1301, "A", "C")], "line 4: '1301' is no position of 'chr1', 1,300"),
        ([("chr1", "x", "A", "C"), ("chr1", 0, "A", "C")], "2 faults: line 3: 'x' is no .* line 4: '0' is"),
        ([("chr1", 5, "A", "C"), ("chr1", "\u0663", "A", "C")], "line 4: '\u0663' is no position of 'chr1'"),
        ([("chr1", "9" * 5000, "A", "C")], "line 3: '9{40}' is no position of 'chr1'"),
        ([], "it holds no record"),
    ],
)
def test_positions_that_are_none_of_the_stores_are_refused(tmp_path, rows, message):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    (tmp_path / "null.vcf").write_text(vcf_text(rows))
    with pytest.raises(RegionError, match=message):
        calibrate(store, background=tmp_path / "null.vcf")
    assert read_calibration(store) is None


@pytest.mark.parametrize(
    ("last", "n_columns"), [("chr1\t12", 2), ("chr1\n", 1), ("\n", 1), ("chr1 12 . A C\n", 1)]
)
def test_record_that_was_cut_off_is_no_position(tmp_path, last, n_columns):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    (tmp_path / "null.vcf").write_text(vcf_text([("chr1", 5, "A", "C")]) + last)
    with pytest.raises(RegionError, match=f"line 4 has {n_columns} columns; expected 8 or more"):
        calibrate(store, background=tmp_path / "null.vcf")


def test_columns_of_a_background_are_found_by_their_names(tmp_path):
    store, letters, tism = variant_store(tmp_path / "s.zarr")
    (tmp_path / "null.vcf").write_text("POS\tCHROM\tREF\tALT\n6\tchr1\tA\tC\n")
    found = calibrate(store, background=tmp_path / "null.vcf")
    assert found.substitutions[0].n == len(substitutions(letters, tism, 0, {"chr1": [(5, 6)]})) > 0


def test_store_of_mean_scores_is_ranked_too(tmp_path):
    plan = small_plan()
    store, scores = ScoreStore.create(tmp_path / "s.zarr", plan), random_scores(plan)
    publish(store, scores)
    found = calibrate(store)
    mean = np.concatenate([values[2] for values in scores.values()])
    mean = mean[~np.isnan(mean)]
    assert found.substitutions == ()
    assert found.mean[2].phred(mean) == pytest.approx(phreds(mean, mean), abs=1e-9)


@pytest.mark.parametrize("phred", [3, 7.01, 12.5, 90])
def test_bases_of_seqlets_are_those_with_the_phred(tmp_path, phred):
    store, letters, _ = variant_store(tmp_path / "s.zarr")
    found = calibrate(store)
    rule = SeqletRule(max_gap=0, min_high=1, limits=limits_of(store, phred))
    called = write_seqlets(store, tmp_path / "s.bed", rule)
    head, _, *rows = (tmp_path / "s.bed").read_text().splitlines()
    assert f": PHRED {phred:g} among the {found.mean[0].n:,} bases of the store, gap 0" in head
    for i_track, each in enumerate(called):
        high = {
            (chrom, int(position))
            for chrom in store.plan.wanted
            for position in np.flatnonzero(
                found.mean[i_track].phred(store.read_track(chrom, 0, len(letters[chrom]), i_track)) >= phred
            )
        }
        spans = [row.split("\t")[:3] for row in rows if row.split("\t")[3] == each.track.name]
        assert {(c, p) for c, start, end in spans for p in range(int(start), int(end))} == high
        assert bool(high) == (phred < 90)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--phred", "30"], "has no ranks; .* run `tism-scan calibrate` first"),
        (["--phred", "1"], "PHRED 1 is out of its range; expected 3 or more"),
        (["--phred", "30", "--quantile", "0.99"], "--quantile has no meaning with --phred"),
        (["--phred", "30", "--values", "ism"], "--values has no meaning with --phred"),
    ],
)
def test_threshold_by_phred_that_cannot_be_had_is_one_line(tmp_path, arguments, message):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    refused = tism_scan("seqlets", store.path, "--out", tmp_path / "s.bed", *arguments)
    assert refused.returncode == 2
    assert re.search(message, refused.stderr)
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "s.bed").exists()


def test_ranks_are_kept_and_the_store_stays_sound(tmp_path):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    before = store.plan.digest()
    made = calibrate(store)
    kept = read_calibration(ScoreStore.open(tmp_path / "s.zarr"))
    assert kept.background == made.background == "the store"
    for mine, theirs in zip(made.substitutions + made.mean, kept.substitutions + kept.mean, strict=True):
        assert mine.n == theirs.n
        assert np.array_equal(mine.edges, theirs.edges)
        assert np.array_equal(mine.hundredths, theirs.hundredths)
    assert verify_store(tmp_path / "s.zarr", full=True).is_sound
    assert ScoreStore.open(tmp_path / "s.zarr").plan.digest() == before


def test_store_without_ranks_has_none(tmp_path):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    assert read_calibration(store) is None


def test_ranks_of_other_scores_are_refused(tmp_path):
    store, _, tism = variant_store(tmp_path / "s.zarr")
    calibrate(store)
    block = next(store.plan.all_blocks())
    store.publish_block(block, 2 * tism[block.chrom][..., block.start : block.end] + 1e-9)
    with pytest.raises(StoreError, match=r"ranks other scores than the store has now.*tism-scan calibrate"):
        read_calibration(store)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(200)])
def test_damaged_ranks_are_said(tmp_path, content):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    calibrate(store)
    (tmp_path / "s.zarr" / ".scan" / "calibration.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"calibration.npz .*is damaged.*tism-scan calibrate"):
        read_calibration(store)


@pytest.mark.parametrize(("part", "flip"), [(None, 4), (b"{'descr': '<f4", 1), (b"<f4", 16)])
def test_flipped_bit_in_the_ranks_is_said(tmp_path, part, flip):
    """In a table's header, too, which NumPy parses as Python."""
    store, _, _ = variant_store(tmp_path / "s.zarr")
    calibrate(store)
    path = tmp_path / "s.zarr" / ".scan" / "calibration.npz"
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2 if part is None else packed.index(part)] ^= flip
    path.write_bytes(packed)
    with pytest.raises(StoreError, match=r"calibration.npz .*is damaged"):
        read_calibration(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"bases.1.edges": np.zeros((2, 2), np.float32)},
        *(
            {"bases.1.edges": np.array(edges, np.float32), "bases.1.hundredths": np.array(hundredths)}
            for edges, hundredths in (
                ([2, 1], [1, 2]),
                ([1, 1], [1, 2]),
                ([1, 2], [2, 1]),
                ([1, 2], [1, 1]),
                ([1, 2], [1.5, 2.5]),
            )
        ),
        {"n": {"bases": [5, 5]}},
        {"n": {"bases": [5], "substitutions": [5, 5]}},
    ],
)
def test_ranks_of_another_shape_are_damaged(tmp_path, changes):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    calibrate(store)
    path = tmp_path / "s.zarr" / ".scan" / "calibration.npz"
    with np.load(path) as arrays:
        made = dict(arrays)
    if "n" in changes:
        about = json.loads(made["about"].tobytes()) | changes
        changes = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    np.savez(path, **made | changes)
    with pytest.raises(StoreError, match=r"calibration.npz .*is damaged"):
        read_calibration(store)


def test_verify_knows_the_ranks(tmp_path):
    store, _, tism = variant_store(tmp_path / "s.zarr")

    def verify(*arguments):
        return tism_scan("verify", store.path, *arguments)

    calibrate(store)
    sound = verify("--json")
    assert (sound.returncode, json.loads(sound.stdout)["calibration"]) == (0, None)
    block = next(store.plan.all_blocks())
    store.publish_block(block, 2 * tism[block.chrom][..., block.start : block.end] + 1e-9)
    stale = verify()
    assert stale.returncode == 1
    (line,) = [line for line in stale.stdout.splitlines() if "calibration.npz" in line]
    assert "ranks other scores than the store has now; run `tism-scan calibrate` again" in line
    (tmp_path / "s.zarr" / ".scan" / "calibration.npz").write_bytes(b"no archive")
    damaged = verify("--json")
    assert damaged.returncode == 1
    assert "is damaged" in json.loads(damaged.stdout)["calibration"]


def test_unfinished_store_is_not_ranked(tmp_path):
    store, _, _ = variant_store(tmp_path / "s.zarr", blocks=lambda plan: list(plan.all_blocks())[1:])
    with pytest.raises(StoreError, match=r"not complete: chr1 \(1 block\)"):
        calibrate(store)


def test_infinite_score_is_named(tmp_path):
    store, _, tism = variant_store(tmp_path / "s.zarr")
    values = tism["chr1"].copy()
    values[1, 2, 700] = np.inf
    publish(store, {**tism, "chr1": values})
    with pytest.raises(StoreError, match="the score of chr1:701 is infinite"):
        calibrate(store, jobs=1)


def test_infinities_that_cancel_are_named(tmp_path):
    store, _, tism = variant_store(tmp_path / "s.zarr")
    values = tism["chr1"].copy()
    values[0, :2, 700] = np.inf, -np.inf
    publish(store, {**tism, "chr1": values})
    with pytest.raises(StoreError, match="the score of chr1:701 is infinite"):
        calibrate(store, jobs=1)


def test_background_without_a_score_is_refused(tmp_path):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    (tmp_path / "null.bed").write_text("unwanted\t0\t100\n")
    with pytest.raises(StoreError, match=r"no base of .*null\.bed has a score"):
        calibrate(store, background=tmp_path / "null.bed")
    (tmp_path / "null.bed").write_text("chrX\t0\t100\n")
    with pytest.raises(RegionError, match="chrX"):
        calibrate(store, background=tmp_path / "null.bed")


def test_annotation_brings_phred_and_names_its_background(tmp_path):
    store, letters, tism = variant_store(tmp_path / "s.zarr")
    calibrate(store)
    rows = []
    for position in range(1, 400):
        ref = letters["chr1"][position - 1]
        rows.append(("chr1", position, ref, ",".join(base for base in "ACGT" if base != ref)))
    (tmp_path / "in.vcf").write_text(vcf_text(rows))
    annotate(store, tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    with gzip.open(tmp_path / "out.vcf.gz", "rt") as file:
        lines = file.read().splitlines()
    ranked = substitutions(letters, tism, 1)
    (about,) = [line for line in lines if line.startswith("##INFO=<ID=TISM_track_1_PHRED")]
    assert f"among the {len(ranked):,} substitutions of the store" in about
    found = [line.split("\t") for line in lines if not line.startswith("#")]
    for (_, position, _, alts), row in zip(rows, found, strict=True):
        info = dict(part.partition("=")[::2] for part in row[7].split(";"))
        values = np.array([tism["chr1"][1, "ACGT".index(alt), position - 1] for alt in alts.split(",")])
        expected = ["." if np.isnan(value) else f"{phreds(ranked, value):.2f}" for value in values]
        assert info["TISM_track_1_PHRED"].split(",") == expected


def test_command_prints_where_phred_begins(tmp_path):
    store, letters, tism = variant_store(tmp_path / "s.zarr")
    done = tism_scan("calibrate", store.path, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    ranked = np.sort(np.abs(substitutions(letters, tism, 0)))
    assert f"{len(ranked):,}" in done.stdout
    assert "PHRED 20 above" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if "track 0, substitutions" in line]
    edge = float(row.split("│")[3])
    assert (ranked > edge).mean() == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize("arguments", [["--background", "absent.bed"], ["--jobs", "0"]])
def test_command_refuses_bad_input_in_one_line(tmp_path, arguments):
    store, _, _ = variant_store(tmp_path / "s.zarr")
    done = tism_scan("calibrate", store.path, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
