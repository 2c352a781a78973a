"""The contract that a scan in one process and a scan on Ray share: what they take, return and refuse."""

import functools
import inspect
import shutil

import numpy as np
import pytest
import ray

from tism_scan.effects import compute_effects, plan_effects
from tism_scan.errors import InputChangedError, LeaseError, ScanError
from tism_scan.models.source import ModelSource
from tism_scan.peaks import attribute_pending, plan_peaks
from tism_scan.progress import Progress
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.refine import plan_refinement, refine
from tism_scan.scan import Execution, ScanResult, plan_scan, scan_serially
from tism_scan.store.lease import Lease
from tism_scan.store.refined import existing_refinement
from tism_scan.store.score_store import ScoreStore

MODEL = """
import torch

class Peaked(torch.nn.Module):
    input_bp, alphabet = 24, "ACGT"

    def __init__(self, gives_nan):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 96).reshape(1, 96).sin())
        self.gives_nan = gives_nan

    def forward(self, X):
        outputs = (X.flatten(1) @ self.weight.T).tanh()
        if self.gives_nan:  # where a window holds a run of G
            outputs = outputs * torch.where(X[:, 2].sum(1, keepdim=True) > 20, torch.nan, 1.0)
        return outputs

def sound():
    return Peaked(False)

def broken():
    return Peaked(True)
"""
CHROMS = {"a": "GATTACA" * 20, "b": "ACGT" * 9 + "G" * 36 + "TTAA" * 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a genome and a module of models, of which one gives NaN in one of five blocks."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "peaked_model.py").write_text(MODEL)
    (folder / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in CHROMS.items()))
    return folder


@pytest.fixture(scope="module")
def cluster():
    """A Ray of one CPU, which the scans of this module join."""
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=["serial", "ray"])
def execute(request):
    """Return an executor, called as the other is."""
    if request.param == "serial":
        return scan_serially
    request.getfixturevalue("cluster")
    return functools.partial(scan_on_ray, options=RayOptions(n_actors=1))


def planned(folder, factory="sound", block_bp=72):
    source = ModelSource(f"peaked_model:{factory}", folder=folder)
    return plan_scan(folder / "genome.fa", source, stride=12, block_bp=block_bp)


def test_parameters_are_the_same_but_for_the_cluster():
    serial, on_ray = (dict(inspect.signature(each).parameters) for each in (scan_serially, scan_on_ray))
    del on_ray["options"]
    assert {name: each.kind for name, each in serial.items()} == {
        name: each.kind for name, each in on_ray.items()
    }


@pytest.fixture(scope="module")
def finished(execute, folder, tmp_path_factory):
    """Return a store that an executor filled, what it returned, and what it told on its way."""
    plan, seen = planned(folder), []
    store = plan.create_store(tmp_path_factory.mktemp("finished") / "scores.zarr")
    result = execute(store, str(folder / "genome.fa"), plan.model, on_progress=seen.append)
    return store, result, seen


def test_every_block_is_computed_counted_and_told(finished):
    store, result, seen = finished
    assert isinstance(result, ScanResult)
    n_bp = sum(map(len, CHROMS.values()))
    assert (result.n_blocks, result.n_blocks_total, result.n_bp, result.n_scored) == (4, 4, n_bp, n_bp)
    assert not result.was_stopped
    assert all(isinstance(progress, Progress) for progress in seen)
    assert [seen[-1].n_done, seen[-1].n_total, seen[-1].unit] == [n_bp, n_bp, "bases"]
    assert [progress.n_done for progress in seen] == sorted(progress.n_done for progress in seen)
    for name in CHROMS:
        assert np.isfinite(store.read(name)).all()


def test_scores_are_those_of_the_other_executor(finished, folder, tmp_path):
    plan = planned(folder)
    serial = plan.create_store(tmp_path / "serial")
    scan_serially(serial, plan.genome, plan.model)
    for chrom in CHROMS:
        np.testing.assert_array_equal(finished[0].read(chrom), serial.read(chrom))


def test_exact_ism_is_that_of_the_other_executor(folder, tmp_path, cluster):
    plan, refined = planned(folder), []
    for name, ray_options in (("serial", False), ("ray", RayOptions(n_actors=1))):
        scan = plan.create_store(tmp_path / name)
        scan_serially(scan, plan.genome, plan.model)
        result = refine(plan_refinement(scan, plan.genome, plan.model, quantile=0.9), ray=ray_options)
        refined.append(existing_refinement(scan))
        assert result.n_scored == refined[-1].plan.n_wanted
    assert refined[0].plan.digest() == refined[1].plan.digest()
    for chrom in CHROMS:
        np.testing.assert_array_equal(*(store.read_tism(chrom) for store in refined))


def test_rows_around_peaks_are_those_of_the_other_executor(folder, tmp_path, cluster):
    path, rows = tmp_path / "p.bed", []
    path.write_text("".join(f"{chrom}\t{start}\t{start + 9}\n" for chrom in CHROMS for start in (2, 50, 90)))
    source = ModelSource("peaked_model:sound", folder=folder)
    for name, ray_options in (("serial", False), ("ray", RayOptions(n_actors=1))):
        plan = plan_peaks(folder / "genome.fa", source, path, method="ism", width=20, peaks_per_part=2)
        store = plan.create_store(tmp_path / name)
        result = attribute_pending(plan, store, ray=ray_options)
        assert (result.n_blocks, result.n_bp, result.unit) == (3, 6, "peaks")
        rows.append(store.scores())
    assert rows[0].any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(*rows)


def test_failed_block_is_recorded_and_the_scan_goes_on(execute, folder, tmp_path):
    plan = planned(folder, "broken")
    store = plan.create_store(tmp_path / "scores.zarr")
    result = execute(store, plan.genome, plan.model)
    assert list(result.failed) == ["b:1-72"]
    assert result.failed["b:1-72"].startswith("the model gives NaN or infinity at b:")
    assert (result.n_blocks, result.n_blocks_total) == (3, 4)
    (failure,) = store.ledger.failures()
    assert (failure.chrom, failure.i_block, failure.n_attempts) == ("b", 0, 3)
    assert failure.error == result.failed["b:1-72"]


def test_failed_block_is_left_alone_unless_it_is_asked_for(execute, folder, tmp_path):
    plan = planned(folder)
    store = plan.create_store(tmp_path / "scores.zarr")
    first = next(store.pending())
    store.mark_failed(first, "it was dark", 3)
    assert scan_serially(store, plan.genome, plan.model).n_blocks == 3
    assert execute(store, plan.genome, plan.model).n_blocks_total == 0
    again = execute(store, plan.genome, plan.model, execution=Execution(retry_failed=True))
    assert (again.n_blocks, again.n_blocks_total) == (1, 1)
    assert store.ledger.failures() == []


def test_finished_store_has_nothing_to_do(finished, execute, folder):
    plan = planned(folder)
    n_bp = sum(block.n_bases for block in plan.plan.all_blocks())
    again = execute(ScoreStore.open(finished[0].path), plan.genome, plan.model)
    assert again == ScanResult(n_bp_before=n_bp)


def test_block_whose_record_is_removed_in_between_is_no_success(execute, folder, tmp_path):
    plan = planned(folder)
    store = plan.create_store(tmp_path / "scores.zarr")

    def remove_records(progress):
        if progress.n_blocks == 4:
            for marker in (store.path / ".scan" / "done").iterdir():
                marker.unlink()

    with pytest.raises(ScanError, match="are pending again: their records were removed while the scan ran"):
        execute(store, plan.genome, plan.model, on_progress=remove_records)
    assert scan_serially(store, plan.genome, plan.model).n_blocks == 4


def test_store_that_another_process_writes_is_refused(execute, folder, tmp_path):
    plan = planned(folder)
    store = plan.create_store(tmp_path / "scores.zarr")
    with Lease(store.folder).acquire():
        with pytest.raises(LeaseError, match="is being written by process"):
            execute(store, plan.genome, plan.model)
        taken = Execution(break_lock=True)
        assert scan_serially(store, plan.genome, plan.model, execution=taken).n_blocks == 4
    with Lease(store.folder).acquire():
        assert execute(store, plan.genome, plan.model, execution=taken).n_blocks_total == 0


def test_scan_in_this_process_refuses_a_genome_of_other_bases(folder, tmp_path):
    plan = planned(folder)
    store = plan.create_store(tmp_path / "scores.zarr")
    other = tmp_path / "genome.fa"
    other.write_text((folder / "genome.fa").read_text().replace("ACGT", "TGCA"))
    with pytest.raises(ScanError, match="is another genome here"):
        scan_serially(store, other, plan.model)


def test_genome_that_is_written_in_place_stops_the_scan_and_spoils_no_block(execute, folder, tmp_path):
    """Such as by `cp other.fa genome.fa`, of the same lengths."""
    shutil.copytree(folder, tmp_path / "inputs")
    scan = planned(tmp_path / "inputs", block_bp=12)
    whole = scan.create_store(tmp_path / "whole.zarr")
    scan_serially(whole, scan.genome, scan.model)
    store = scan.create_store(tmp_path / "s.zarr")
    text = scan.genome.read_text()

    def change(progress):
        if progress.n_done and scan.genome.read_text() == text:
            scan.genome.write_text(text.translate(str.maketrans("GATC", "TCGA")))

    with pytest.raises(InputChangedError, match=r"genome\.fa' was changed while it was read; .* restore it"):
        execute(store, scan.genome, scan.model, on_progress=change)
    done = [block for block in store.plan.all_blocks() if (block.chrom, block.i_block) in store.done_blocks()]
    assert 0 < len(done) < sum(1 for _ in store.plan.all_blocks())
    assert store.ledger.failures() == []
    for block in done:
        np.testing.assert_array_equal(store.read_block(block), whole.read_block(block))


def test_many_short_chroms_are_few_blocks_and_have_the_scores_of_each_alone(tmp_path, folder, execute):
    chroms = {f"contig{i}": (CHROMS["a"] * 3)[i : 3 * i + 5] for i in range(120)}
    (tmp_path / "contigs.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in chroms.items()))
    source = ModelSource("peaked_model:sound", folder=folder)
    plans = [
        plan_scan(tmp_path / "contigs.fa", source, stride=12, block_bp=1200, chroms=names)
        for names in ((), ["contig7", "contig100"])
    ]
    assert [each.plan.is_packed for each in plans] == [True, False]
    packed, apart = (each.create_store(tmp_path / f"{i}.zarr") for i, each in enumerate(plans))
    result = execute(packed, tmp_path / "contigs.fa", source)
    assert result.n_blocks == len(list(packed.plan.all_blocks())) < 20
    assert result.n_bp == sum(map(len, chroms.values()))
    scan_serially(apart, tmp_path / "contigs.fa", source)
    for chrom in ("contig7", "contig100"):
        np.testing.assert_allclose(packed.read(chrom, 0), apart.read(chrom, 0), rtol=0, atol=1e-6)


def test_variants_get_the_same_scores_from_both(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tism_scan.effects.planning._MOST_ALLELES", 4)
    bases = CHROMS["a"]
    rows = [f"a\t{p + 1}\t{bases[p]}\t{'CGTA'['ACGT'.index(bases[p])]}\n" for p in range(3, 60, 5)]
    (tmp_path / "in.tsv").write_text("CHROM\tPOS\tREF\tALT\n" + "".join(rows) + "a\t70\tA\tATT\n")
    source = ModelSource("peaked_model:sound", folder=folder)
    asked = plan_effects(folder / "genome.fa", source, tmp_path / "in.tsv", strands="both")
    outs = [tmp_path / f"{name}.tsv.gz" for name in ("serial", "ray")]
    for out, where in zip(outs, (False, RayOptions(n_actors=1)), strict=True):
        summary = compute_effects(asked, out, ray=where)
        assert (summary.result.n_blocks, summary.result.n_bp) == (4, 13)
    assert outs[0].read_bytes() == outs[1].read_bytes()
