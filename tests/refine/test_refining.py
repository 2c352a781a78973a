"""A refinement from its plan to its arrays: resumed, fenced, verified, exported."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pyBigWig
import pytest
import torch
import zarr
from refining import started
from scan_models import smooth_model
from sequences import random_sequence
from small_plans import small_plan

from tism_scan.attribution import ism
from tism_scan.errors import GenomeError, LeaseError, ModelError, PlanError, StoreError, WeightsError
from tism_scan.export import export_bigwigs
from tism_scan.genome.alphabet import channel_of_base, one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga
from tism_scan.models.source import model_source
from tism_scan.plan.probes import Probes
from tism_scan.plan.scan_plan import SHARD_BYTES, ScanPlan
from tism_scan.plan.selection import Selection
from tism_scan.refine import plan_refinement, refine
from tism_scan.refine import planning as refine_planning
from tism_scan.refine.planning import refinement_plan
from tism_scan.scan import plan_scan, scan_serially
from tism_scan.scan.verify import verify_store
from tism_scan.store.lease import Lease
from tism_scan.store.refined import existing_refinement, open_refinement
from tism_scan.store.score_store import ScoreStore


def chosen(store, chrom):
    """Return the bases that a plan has chosen on a chrom."""
    spans = store.plan.wanted.get(chrom, ())
    return np.array([base for start, end in spans for base in range(start, end)], dtype=int)


def effects_in(store):
    return {chrom: store.read_tism(chrom) for chrom in store.plan.wanted}


def test_every_chosen_base_has_its_effects_and_no_other_has(refined):
    n_chosen = 0
    for chrom, effects in effects_in(refined.store).items():
        has_all, has_any = np.isfinite(effects).all((0, 1)), np.isfinite(effects).any((0, 1))
        np.testing.assert_array_equal(has_all, has_any)
        np.testing.assert_array_equal(np.flatnonzero(has_all), chosen(refined.store, chrom))
        n_chosen += has_all.sum()
    assert n_chosen == refined.store.plan.n_wanted
    assert 80 < n_chosen < 181  # one in a hundred of 9 kb, for each of two tracks


def test_effects_are_those_of_ism_in_the_window_whose_core_holds_the_base(refined):
    model, scoring = load_beluga(refined.weights), refined.store.plan.scoring
    bases = chosen(refined.store, "chr1")
    cores = [base // 256 for base in bases.tolist()]
    core = max(set(cores), key=cores.count)
    start = core * 256 - (2000 - 256) // 2
    with Genome(refined.genome) as genome:
        X = one_hot(genome.fetch("chr1", start, start + 2000), model.alphabet)[None]
    effects = ism(model, X, scoring.tracks, start=872, end=872 + 256, progress=False)[0]
    effects = effects[:, channel_of_base(model.alphabet)]
    here = bases[np.array(cores) == core]
    found = refined.store.read_tism("chr1")[..., here]
    assert len(here) > 2
    expected = effects[..., here - core * 256]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    mean = refined.store.read("chr1")[:, here]
    np.testing.assert_allclose(mean, -expected.sum(1) / 3, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_other_readers_find_the_arrays_beside_the_scans(refined):
    group = zarr.open_group(refined.scan.path / "ism", mode="r")
    np.testing.assert_array_equal(group["chr1"][:], refined.store.read_tism("chr1"))
    assert group.attrs["tism_scan"]["values"] == "exact ISM, bases in A, C, G, T order"
    assert "exact ISM of the logit" in repr(refined.store)
    assert set(zarr.open_group(refined.scan.path, mode="r").array_keys()) == {"chr1", "chr2", "track"}


def test_a_mean_of_windows_is_refined_by_the_window_most_centred_on_the_base(make_scan, refined, tmp_path):
    scan = make_scan(stitch="mean", regions=["chr1:1-1,500"])
    (tmp_path / "some.bed").write_text("chr1\t250\t262\n")
    plans = [
        plan_refinement(each, refined.genome, refined.weights, bed=tmp_path / "some.bed")
        for each in (scan, make_scan(regions=["chr1:1-1,500"]))
    ]
    for planned in plans:
        refine(planned)
    found, expected = (existing_refinement(each.scan).read_tism("chr1") for each in plans)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).any()


def test_what_is_interrupted_and_resumed_is_equal_to_what_is_not(refined, scan_copy):
    scan = scan_copy()

    def stop(progress):
        if progress.n_done:
            raise KeyboardInterrupt

    planned = plan_refinement(scan, refined.genome, refined.weights, quantile=0.99)
    with pytest.raises(KeyboardInterrupt):
        refine(planned, on_progress=stop)
    with pytest.raises(StoreError, match="still to be computed; run the same `tism-scan refine` again"):
        existing_refinement(scan).check_complete(["chr1"])
    again = refine(plan_refinement(scan, refined.genome, refined.weights, quantile=0.99))
    assert 0 < again.n_blocks < len(list(planned.plan.all_blocks()))
    for chrom, effects in effects_in(existing_refinement(scan)).items():
        np.testing.assert_array_equal(effects, refined.store.read_tism(chrom))


def test_what_is_killed_goes_on_with_the_same_bits(refined, scan_copy):
    scan, n_kills = scan_copy(), 0
    place = scan.path, refined.genome, refined.weights, 0.99
    while (store := open_refinement(scan)) is None or next(store.pending(), None) is not None:
        n_before = 0 if store is None else len(store.ledger.done())
        process = started(*place)
        while process.is_alive():
            store = open_refinement(scan)
            if n_kills < 2 and store is not None and len(store.ledger.done()) > n_before:
                process.kill()
                n_kills += 1
                break
            time.sleep(0.05)
        process.join()
    assert n_kills == 2
    assert process.exitcode == 0
    assert verify_store(store.path, full=True).is_sound
    for chrom, effects in effects_in(store).items():
        np.testing.assert_array_equal(effects, refined.store.read_tism(chrom))


def test_a_resumed_refinement_keeps_its_bases_without_looking_again(refined, monkeypatch):
    monkeypatch.delattr(refine_planning, "select_highest")
    planned = plan_refinement(refined.scan, refined.genome, refined.weights, quantile=0.99)
    assert planned.plan.digest() == refined.planned.plan.digest()
    assert refine(planned).n_blocks_total == 0


def test_progress_counts_the_chosen_bases(refined, scan_copy):
    planned = plan_refinement(scan_copy(), refined.genome, refined.weights, quantile=0.99)
    told = []
    result = refine(planned, on_progress=told.append)
    n_chosen = planned.plan.n_wanted
    assert {each.n_total for each in told} == {n_chosen}
    assert told[-1].n_done == result.n_bp == n_chosen < planned.scan.plan.n_wanted / 10


def test_an_earlier_refinement_makes_way_only_if_that_is_asked_for(refined, scan_copy):
    scan = scan_copy(with_refinement=True)
    planned = plan_refinement(scan, refined.genome, refined.weights, quantile=0.999, overwrite=True)
    with pytest.raises(StoreError, match="selection"):
        refine(planned)
    for chrom, effects in effects_in(existing_refinement(scan)).items():
        np.testing.assert_array_equal(effects, refined.store.read_tism(chrom))
    refine(planned, overwrite=True)
    store = existing_refinement(scan)
    assert store.plan.digest() == planned.plan.digest()
    for chrom in store.plan.wanted:
        is_chosen = np.isin(np.arange(scan.plan.chroms[chrom]), chosen(store, chrom))
        expected = np.where(is_chosen, refined.store.read_tism(chrom), np.nan)
        np.testing.assert_allclose(store.read_tism(chrom), expected, rtol=1e-6, atol=1e-6)


def test_the_plan_says_how_its_bases_were_chosen(refined):
    selection = refined.store.plan.selection
    assert (selection.scan, selection.rule) == (refined.scan.plan.digest(), "quantile 0.99")
    assert len(selection.thresholds) == 2
    again = ScanPlan.from_json(json.loads(json.dumps(refined.store.plan.to_json())))
    assert again.digest() == refined.store.plan.digest()
    others = [
        replace(again, selection=replace(selection, rule="quantile 0.98")),
        replace(again, wanted={"chr1": ((0, 1),)}),
        replace(again, selection=None),
    ]
    assert len({plan.digest() for plan in (again, *others)}) == 4


def test_very_many_chosen_bases_are_kept_in_a_file_of_their_own(refined, tmp_path):
    scan = replace(refined.scan.plan, chroms={"chr1": 60_000}, wanted={"chr1": ((0, 60_000),)})
    wanted = {"chr1": tuple((i, i + 1) for i in range(0, 60_000, 3))}
    plan = refinement_plan(scan, wanted, Selection(scan.digest(), "quantile 0.5", (0.0, 0.0)))
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    assert (tmp_path / "s.zarr/.scan/run.json").stat().st_size < 20_000
    assert ScoreStore.open(store.path).plan.wanted["chr1"] == plan.wanted["chr1"]


def test_two_cannot_refine_and_nobody_else_writes_the_store(refined, scan_copy):
    scan = scan_copy()
    planned = plan_refinement(scan, refined.genome, refined.weights, quantile=0.995)
    with Lease(scan.folder).acquire(), pytest.raises(LeaseError, match="is being written by process"):
        refine(planned)

    def others(progress):
        for act in (Lease(scan.folder).acquire, lambda: verify_store(scan.path), lambda: refine(planned)):
            with pytest.raises(LeaseError, match="is being written by process"):
                act()

    refine(planned, on_progress=others)
    assert verify_store(existing_refinement(scan).path, full=True).is_sound


def test_a_store_that_is_deleted_takes_its_refinement_with_it(scan_copy):
    scan = scan_copy(with_refinement=True)
    assert open_refinement(scan) is not None
    scan.delete()
    assert open_refinement(scan) is None
    assert not (scan.path / "ism").exists()


def test_a_flipped_bit_is_found_and_computed_again(refined, scan_copy):
    scan = scan_copy(with_refinement=True)
    store = existing_refinement(scan)
    (shard,) = (path for path in (store.path / "chr1").glob("c/0/0/1"))
    content = bytearray(shard.read_bytes())
    content[40] ^= 4
    shard.write_bytes(content)
    report = verify_store(store.path, full=True)
    assert [damage.what for damage in report.damaged] == ["chr1:2,049-4,096"]
    assert refine(plan_refinement(scan, refined.genome, refined.weights, quantile=0.99)).n_blocks == 1
    np.testing.assert_array_equal(store.read_tism("chr1"), refined.store.read_tism("chr1"))
    assert verify_store(store.path, full=True).is_sound


def test_bigwigs_hold_mean_ism_where_there_is_one(refined, tmp_path):
    summaries = export_bigwigs(refined.store, tmp_path)
    assert [each.path.name for each in summaries] == ["0000_output_0_ism.bw", "0002_output_2_ism.bw"]
    for i_track, summary in enumerate(summaries):
        with pyBigWig.open(str(summary.path)) as file:
            for chrom, length in refined.scan.plan.chroms.items():
                found = file.values(chrom, 0, length, numpy=True)
                np.testing.assert_array_equal(found, refined.store.read_track(chrom, 0, length, i_track))


def test_what_cannot_be_refined_is_refused(refined, make_scan, scan_copy, tmp_path):
    scan, genome, weights = scan_copy(), refined.genome, refined.weights
    other_genome, other_weights = tmp_path / "other.fa", tmp_path / "other.pth"
    other_genome.write_text(genome.read_text().replace("ACGT", "ACGA"))
    with pytest.raises(GenomeError, match=r"other\.fa is another genome"):
        plan_refinement(scan, other_genome, weights)
    state = torch.load(weights, weights_only=True)
    torch.save({key: value + 0.1 for key, value in state.items()}, other_weights)
    with pytest.raises(WeightsError, match=r"other\.pth is model beluga with SHA-256"):
        plan_refinement(scan, genome, other_weights)
    with pytest.raises(PlanError, match="quantile 7 is no part"):
        plan_refinement(scan, genome, weights, quantile=7)
    with pytest.raises(PlanError, match="chooses more than half of each track"):
        plan_refinement(scan, genome, weights, quantile=0.49)
    with pytest.raises(PlanError, match="a quantile and a BED file were given"):
        plan_refinement(scan, genome, weights, quantile=0.9, bed="x.bed")
    with pytest.raises(StoreError, match="is a refinement itself"):
        plan_refinement(refined.store, genome, weights)
    with pytest.raises(StoreError, match=r"was refined at the bases of quantile 0\.99, not quantile 0\.997"):
        plan_refinement(refined.scan, genome, weights)
    for address, checksums in scan.ledger.done().items():
        scan.ledger.unmark(address, checksums[0])
        break
    (block,) = scan.pending()
    for _ in range(2):
        with pytest.raises(StoreError, match="is not complete: 1 block is still to be computed"):
            plan_refinement(scan, genome, weights)
        scan.mark_failed(block, "no luck", 3)
    assert not (scan.path / "ism").exists()


def test_a_refinement_of_another_scan_is_not_taken_for_this_ones(refined, make_scan):
    other = make_scan(tracks="0", regions=["chr1:1-1,500"])
    shutil.copytree(refined.scan.path / "ism", other.path / "ism")
    with pytest.raises(StoreError, match=r"ism is no refinement of .*s\.zarr; expected exact ISM at bases"):
        open_refinement(other)


def test_a_model_in_memory_is_refused_for_ray_before_a_store_is_made(refined, scan_copy):
    scan = scan_copy()
    planned = plan_refinement(scan, refined.genome, refined.weights)
    with pytest.raises(ModelError, match="is in the memory of this process"):
        refine(replace(planned, model=model_source(load_beluga(refined.weights))), ray=True)
    assert open_refinement(scan) is None


def test_a_damaged_record_says_whose_it_is(scan_copy):
    scan = scan_copy(with_refinement=True)
    (scan.path / "ism/.scan/run.json").write_text("{")
    with pytest.raises(StoreError, match=r"the exact ISM at .*copy.zarr/ism: .scan/run.json is damaged"):
        open_refinement(scan)


def test_a_chrom_whose_array_has_the_place_is_refused(refined, tmp_path):
    plan = replace(refined.scan.plan, chroms={"ISM": 300}, wanted={"ISM": ((0, 300),)})
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    assert open_refinement(store) is None
    with pytest.raises(StoreError, match="has a chrom named 'ISM'"):
        plan_refinement(store, refined.genome, refined.weights)


def test_short_chroms_that_share_an_array_are_refined_as_each_alone(tmp_path):
    names = [f"contig{i}" for i in range(120)]
    text = "".join(f">{name}\n{random_sequence(30 + i, i)}\n" for i, name in enumerate(names))
    (tmp_path / "contigs.fa").write_text(text)
    (tmp_path / "some.bed").write_text(
        "".join(f"{name}\t{i % 20}\t{i % 20 + 3}\n" for i, name in enumerate(names))
    )
    model, stores = smooth_model(), []
    for chroms in ((), ["contig7", "contig100"]):
        plan = plan_scan(tmp_path / "contigs.fa", model, tracks="0,2", stride=8, block_bp=1200, chroms=chroms)
        scan = plan.create_store(tmp_path / f"{len(chroms)}.zarr")
        scan_serially(scan, plan.genome, plan.model)
        planned = plan_refinement(scan, plan.genome, plan.model, bed=tmp_path / "some.bed")
        assert refine(planned).n_scored == planned.plan.n_wanted == 3 * (len(chroms) or 120)
        stores.append(existing_refinement(scan))
    assert [store.plan.is_packed for store in stores] == [True, False]
    for chrom in ("contig7", "contig100"):
        packed, alone = (store.read_tism(chrom) for store in stores)
        np.testing.assert_array_equal(np.isnan(packed), np.isnan(alone))
        np.testing.assert_allclose(packed, alone, rtol=0, atol=1e-6)
        assert np.isfinite(packed).sum() == 2 * 4 * 3


@pytest.mark.parametrize(
    "settings", [{"strands": "both"}, {"output_space": "probability"}, {"stitch": "mean"}, {"keep_bits": 10}]
)
def test_a_refinement_has_the_tracks_windows_strands_and_outputs_of_its_scan(settings):
    scan = replace(small_plan(**settings), model="other.pth", probes=Probes(((0.5,) * 3,) * 2))
    ours = refinement_plan(scan, {"c": ((3, 9),)}, Selection(scan.digest(), "bed 0"))
    for name in ("tracks", "input_bp", "stride", "strands", "output_space"):
        assert getattr(ours.scoring, name) == getattr(scan.scoring, name)
    for name in ("genome_digest", "weights_digest", "chroms", "block_bp", "model", "keep_bits", "probes"):
        assert getattr(ours, name) == getattr(scan, name)
    assert (ours.scoring.values, ours.scoring.stitch, ours.scoring.precision) == ("tism", "center", "fp32")


@pytest.mark.parametrize("n_tracks", [1, 10, 100, 500])
def test_effects_of_a_block_fit_four_shards(n_tracks):
    scan = small_plan(n_tracks, chroms={"c": 1 << 21}, block_bp=1 << 20)
    ours = refinement_plan(scan, {"c": ((3, 9),)}, Selection(scan.digest(), "bed 0"))
    n_bytes = ours.block_bp * n_tracks * 4 * 4
    assert n_bytes <= 4 * SHARD_BYTES
    assert ours.block_bp == scan.block_bp or 2 * n_bytes > 4 * SHARD_BYTES
