"""Genomes of many short chroms: the scores are those of each chrom by itself, and nothing costs per chrom."""

from dataclasses import replace

import numpy as np
import pyBigWig
import pytest
import zarr
from ready_engine import ReadyEngine
from scan_models import INPUT_BP, TRACKS, mean_of, naive_scores, plan_of, smooth_model
from sequences import random_sequence
from serial_scans import scan_with
from small_plans import random_scores
from stand_in_weights import load_narrow_beluga

import tism_scan as ts
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import StoreError
from tism_scan.export.bigwigs import export_bigwigs
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlets import SeqletRule
from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.plan.packing import PACK
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.scan import planning
from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.status import store_status

BLOCK_BP = 1024
N_CONTIGS = 130


def contigs_of(n, lengths, seed=0):
    rng = np.random.default_rng(seed)
    records = {}
    for i in range(n):
        length = int(rng.integers(*lengths))
        sequence = random_sequence(length, seed + i)
        records[f"ctg{i}"] = "NN" + sequence[2:] if i % 7 == 0 and length > 2 else sequence
    return records


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return 130 contigs of 1 to 90 bp, and among them a chrom of 700 bp."""
    records = contigs_of(N_CONTIGS, (1, 91))
    items = list(records.items())
    items.insert(60, ("chr1", random_sequence(700, 999)))
    path = tmp_path_factory.mktemp("contigs") / "contigs.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in items))
    with Genome(path) as genome:
        yield genome


@pytest.fixture(scope="module")
def chroms(genome):
    return {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}


def plan_for(chroms, **choices):
    stride = choices.pop("stride", 6)
    scoring = Scoring(TRACKS, INPUT_BP, stride, **choices)
    return plan_of(scoring, chroms, block_bp=BLOCK_BP)


def read(store, chrom):
    return np.stack([store.read_track(chrom, 0, store.plan.chroms[chrom], i) for i in range(len(TRACKS))])


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"stitch": "mean", "strands": "both"},
        {"values": "tism", "stride": 24},
        {"stitch": "mean", "values": "tism", "stride": 2},
    ],
)
def test_each_chrom_has_the_scores_that_it_has_by_itself(tmp_path, genome, chroms, tiny_model, choices):
    plan = plan_for(chroms, **choices)
    assert list(plan.arrays) == ["chr1", PACK]
    assert len(list(plan.all_blocks())) > 2
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    result = scan_with(genome, WindowEngine(tiny_model, plan.scoring), store)
    assert result.n_scored == sum(int(is_acgt(codes).sum()) for codes in chroms.values())
    assert result.n_bp == result.n_bp_total == sum(map(len, chroms.values()))
    for chrom, codes in chroms.items():
        expected = naive_scores(tiny_model, plan.scoring, codes)
        if plan.scoring.values == "tism":
            found = np.stack([store.read_channels(chrom, 0, len(codes), i) for i in range(len(TRACKS))])
        else:
            expected, found = mean_of(expected), read(store, chrom)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("stitch", ["center", "mean"])
def test_shared_trunk_gives_packed_chroms_the_scores_of_their_windows(tmp_path, stitch, strands):
    path = tmp_path / "contigs.fa"
    records = contigs_of(110, (200, 2_500), seed=3)
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))
    scoring = Scoring(TRACKS, 2000, 256, stitch, strands)
    wanted = {f"ctg{i}": ((0, len(records[f"ctg{i}"])),) for i in (0, 1, 2, 50, 51, 109)}
    with Genome(path) as genome:
        whole = {chrom: ((0, length),) for chrom, length in genome.chroms.items()}
        packed = ScanPlan(scoring, "genome", "weights", genome.chroms, whole, 1 << 15)
        apart = ScanPlan(scoring, "genome", "weights", genome.chroms, wanted, 1 << 15)
        assert packed.is_packed
        assert not apart.is_packed
        fast, slow = (ScoreStore.create(tmp_path / plan.digest(), plan) for plan in (packed, apart))
        scan_with(genome, TrunkEngine(load_narrow_beluga(7, tmp_path), scoring), fast)
        scan_with(genome, WindowEngine(load_narrow_beluga(7, tmp_path), scoring), slow)
    for chrom in wanted:
        expected = read(slow, chrom)
        np.testing.assert_allclose(read(fast, chrom), expected, atol=1e-5 * np.nanmax(np.abs(expected)))


@pytest.fixture(scope="module")
def store(tmp_path_factory, genome, chroms):
    """Return a finished store; who damages it heals it."""
    store = ScoreStore.create(tmp_path_factory.mktemp("packed") / "s.zarr", plan_for(chroms))
    scan_with(genome, WindowEngine(smooth_model(), store.plan.scoring), store)
    return store


def test_number_of_objects_does_not_grow_with_the_chroms(store):
    files = [path for path in store.path.rglob("*") if path.is_file()]
    assert len(files) < 30
    assert {path.name for path in store.path.iterdir()} == {
        *(".scan", "zarr.json", "chr1", "short=20chroms", "track"),
    }


def test_plain_reader_finds_each_short_chrom_by_the_attributes(store):
    array = zarr.open_group(store.path, mode="r", use_consolidated=True)["short=20chroms"]
    names, starts, lengths = (array.attrs[name] for name in ("chroms", "starts", "lengths"))
    assert len(names) == len(starts) == len(lengths) == N_CONTIGS
    for name, start, length in zip(names, starts, lengths, strict=True):
        assert np.array_equal(array[:, start : start + length], read(store, name), equal_nan=True)


def test_pieces_are_read_whatever_their_order(store):
    order = np.random.default_rng(1).permutation(N_CONTIGS)
    for i in order:
        chrom = f"ctg{i}"
        length = store.plan.chroms[chrom]
        start = length // 3
        piece = store.read_track(chrom, start, length, 1)
        assert np.array_equal(piece, read(store, chrom)[1, start:], equal_nan=True)


def test_status_shows_short_chroms_in_one_row(store):
    status = store_status(store.path)
    assert [row["chrom"] for row in status["chroms"]] == ["chr1", "130 short chroms"]
    assert status["is_complete"]
    assert status["total"]["bases_done"] == sum(store.plan.chroms.values())


def test_damage_is_found_named_and_healed(store, genome, tiny_model):
    before = {chrom: read(store, chrom) for chrom in store.plan.wanted}
    victim = store.path / "short=20chroms" / "c" / "0" / "1"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    (store.path / "short=20chroms" / "zarr.json").write_text("{}")
    report = verify_store(store.path, full=True)
    (damage,) = report.damaged
    assert "short chroms from ctg" in damage.what
    (mended,) = report.mended
    assert mended.what == "short=20chroms/zarr.json"
    again = ScoreStore.open(store.path)
    assert [str(block) for block in again.pending()] == [damage.what]
    scan_with(genome, WindowEngine(tiny_model, store.plan.scoring), again)
    for chrom, scores in before.items():
        assert np.array_equal(read(again, chrom), scores, equal_nan=True)


def test_missing_blocks_are_told_by_their_chroms(tmp_path, chroms):
    plan = plan_for(chroms)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    first, *others = plan.blocks(PACK)
    for block in others:
        store.publish_block(block, np.zeros((2, len(block)), np.float32))
    with pytest.raises(StoreError, match=r"not complete: ctg0 \(1 block\) still to be computed"):
        store.check_complete(["ctg0", "ctg129"])
    store.check_complete(["ctg129"])
    assert "ctg0" in plan.chroms_of(first)


def test_nan_of_a_model_is_told_by_chrom_and_position(tmp_path, genome, chroms, tiny_model):
    plan = plan_for(chroms)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    engine = WindowEngine(tiny_model, plan.scoring)

    class NanAtOneBase(ReadyEngine):
        def score(self, codes, stretch, wanted):
            scores = engine.score(codes, stretch, wanted)
            if stretch.block.chrom == PACK:
                start = plan.pack.start_of["ctg4"]
                scores[:, start + 2] = np.nan
            return scores

    scan_with(genome, NanAtOneBase(), store)
    failures = store.ledger.failures()
    assert [failure.error.split(";")[0] for failure in failures[:1]] == [
        "the model gives NaN or infinity at ctg4:3"
    ]


def test_store_with_an_array_for_each_chrom_is_resumed_as_it_is(tmp_path, genome, chroms, tiny_model):
    packed = plan_for(chroms)
    old = ScoreStore.create(tmp_path / "s.zarr", replace(packed, is_packed=False))
    first = next(old.plan.all_blocks())
    old.publish_block(first, np.ones((2, len(first)), np.float32))
    store = ScoreStore.create(tmp_path / "s.zarr", packed)
    assert not store.plan.is_packed
    assert store.done_blocks() == {("ctg0", 0)}
    scan_with(genome, WindowEngine(tiny_model, packed.scoring), store)
    assert (store.path / "ctg129").is_dir()
    assert np.isfinite(read(store, "ctg129")).all()


def test_blocks_that_are_chosen_give_the_plan_of_their_length(tmp_path, monkeypatch):
    contigs = {f"ctg{i}": random_sequence(9000, i) for i in range(101)}
    (tmp_path / "contigs.fa").write_text("".join(f">{name}\n{dna}\n" for name, dna in contigs.items()))

    def planned(block_bp):
        settings = {"tracks": "0", "stride": 6, "on_gpus": False}
        return ts.plan_scan(tmp_path / "contigs.fa", smooth_model(), block_bp=block_bp, **settings).plan

    of_store = planned(0)
    monkeypatch.setattr(planning, "fitting_block_bp", lambda *given, **settings: 2 * of_store.block_bp)
    longer = planned(0)
    assert longer == planned(2 * of_store.block_bp)
    assert longer.is_packed
    assert not of_store.is_packed


def test_store_goes_on_with_its_codec_and_a_new_one_takes_the_default(tmp_path, chroms):
    packed = plan_for(chroms)
    old = ScoreStore.create(tmp_path / "s.zarr", replace(packed, is_packed=False, codec="zstd"))
    assert ScoreStore.create(old.path, packed).plan == old.plan
    with pytest.raises(StoreError, match="made under another plan: stride 6, not 12") as caught:
        ScoreStore.create(old.path, replace(packed, scoring=replace(packed.scoring, stride=12)))
    assert "codec" not in str(caught.value)  # which nobody can ask for
    assert ScoreStore.create(old.path, packed, overwrite=True).plan == packed


def test_interrupted_equals_uninterrupted(tmp_path, store, genome, tiny_model):
    stopped = ScoreStore.create(tmp_path / "other.zarr", store.plan)
    blocks = list(store.plan.all_blocks())
    for block in blocks[::2]:
        stopped.publish_block(block, store.read_block(block))
    scan_with(genome, WindowEngine(tiny_model, store.plan.scoring), ScoreStore.open(stopped.path))
    for block in blocks:
        assert np.array_equal(stopped.read_block(block), store.read_block(block), equal_nan=True)


def test_bigwig_holds_the_scores_of_every_chrom(store, tmp_path):
    summaries = export_bigwigs(store, tmp_path / "bw", tracks="0")
    with pyBigWig.open(str(summaries[0].path)) as file:
        assert file.chroms() == store.plan.chroms
        for chrom, length in store.plan.chroms.items():
            assert np.array_equal(
                file.values(chrom, 0, length, numpy=True), read(store, chrom)[0], equal_nan=True
            )


@pytest.mark.parametrize("jobs", [1, 2])
def test_seqlets_of_a_packed_store_are_those_of_one_with_an_array_for_each(tmp_path, chroms, jobs):
    packed = plan_for(chroms)
    scores = random_scores(packed)
    for plan in (packed, replace(packed, is_packed=False)):
        store = ScoreStore.create(tmp_path / plan.digest(), plan)
        for block in plan.all_blocks():
            values = np.full((2, len(block)), np.nan, np.float32)
            for chrom, start, end, at in plan.parts(block.chrom, block.start, block.end):
                values[:, at - block.start : at - block.start + end - start] = scores[chrom][:, start:end]
            store.publish_block(block, values)
        write_seqlets(
            store,
            tmp_path / f"{plan.is_packed}.bed",
            SeqletRule(quantile=0.9, max_gap=2, min_high=2),
            jobs=jobs,
        )
    one, other = ((tmp_path / f"{kind}.bed").read_text().splitlines()[1:] for kind in (True, False))
    assert len(one) > 50
    assert one == other
