"""An allele's windows, beside those that are cut out of strings."""

from unittest import mock

import numpy as np
import pytest
import torch
from effect_models import PlainModel, StackModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tism_scan.attribution import ism
from tism_scan.effects import haplotypes, reading
from tism_scan.effects.engines import TrunkEffects, WindowEffects, make_effect_engine
from tism_scan.effects.haplotypes import Allele, resolved
from tism_scan.effects.worker import computed
from tism_scan.genome.alphabet import decode, one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.models.contract import loaded_model
from tism_scan.models.ensemble import Ensemble
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track

L = StackModel.input_bp
TRACKS = (Track("a", (2,), (1.0,)), Track("mean", (0, 1), (0.5, 0.5)))
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="module")
def genome(small_genome):
    with Genome(small_genome.path) as opened:
        yield opened


def model_of(kind):
    return loaded_model(kind(), kind.__name__)


def windows_of_strings(text, position, ref, alt):
    """Return both windows, cut out of whole chroms; the allele is trimmed and moved left base by base."""
    text = text[:position] + ref + text[position + len(ref) :]
    other = text[:position] + alt + text[position + len(ref) :]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        ref, alt, position = ref[1:], alt[1:], position + 1
    while not (ref and alt) and position and text[position - 1] == (ref or alt)[-1]:
        position -= 1
        ref, alt = (text[position] + each[:-1] if each else "" for each in (ref, alt))
    start = position - L // 2
    return tuple(("N" * L + each + "N" * L)[L + start :][:L].ljust(L, "N") for each in (text, other))


def outputs_of_strings(model, windows, strands):
    """Return the tracks, float64 (2, T), of two windows, from a forward pass of each."""
    model = model_of(type(model.body)).double()
    values = []
    for window in windows:
        read = [window] if strands == "forward" else [window, window.translate(COMPLEMENT)[::-1]]
        X = np.stack([one_hot(np.array(["ACGTN".index(base) for base in each])) for each in read])
        with torch.no_grad():
            ours = torch.from_numpy(X).double()[:, ["ACGT".index(base) for base in model.alphabet]]
            values.append(model.body.double()(ours).mean(0).numpy())
    outputs = np.array(values)
    return np.stack([outputs[:, list(t.outputs)] @ np.array(t.weights) for t in TRACKS], axis=1)


alleles = st.tuples(
    st.sampled_from(["chr1", "chr1", "chr1", "chr2"]),
    st.integers(0, 330),
    st.integers(1, 6),
    st.text("ACGT", min_size=1, max_size=8),
    st.sampled_from(["own", "own", "own", "anchored", "anchored", "other"]),
)


def made(letters, drawn):
    """Return an allele of a draw, mostly with the genome's own REF; indels as VCFs anchor them."""
    chrom, position, n_ref, alt, kind = drawn
    position = min(position, len(letters[chrom]) - n_ref)
    ref = letters[chrom][position : position + n_ref]
    if kind == "other":
        ref = ref.translate(str.maketrans("ACGT", "CGTA"))
    return Allele(chrom, position, ref, ref[0] + alt[1:] if kind == "anchored" else alt)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(alleles, min_size=1, max_size=12), batch_size=st.integers(1, 9))
@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("kind", [StackModel, PlainModel])
def test_scores_are_those_of_windows_cut_out_of_strings(
    small_genome, genome, kind, strands, drawn, batch_size
):
    scoring = Scoring(TRACKS, L, L, strands=strands)
    model = model_of(kind)
    engine = make_effect_engine(model, scoring, batch_size=batch_size, device="cpu")
    assert isinstance(engine, TrunkEffects if kind is StackModel else WindowEffects)
    asked = [made(small_genome.letters, each) for each in drawn]
    found = [resolved(genome, allele, L) for allele in asked]
    results = computed(engine, scoring, found, has_log2fc=True)
    for i, (allele, each) in enumerate(zip(asked, found, strict=True)):
        text = small_genome.letters[allele.chrom]
        if allele.ref == allele.alt or "N" in text[allele.position :][: len(allele.ref)] or "N" in allele.ref:
            assert each.reason in (haplotypes.SAME, haplotypes.N_IN_REF, haplotypes.LETTERS)
            assert np.isnan(results.ref[i]).all()
            continue
        windows = windows_of_strings(text, *allele[1:])
        assert decode(each.comparisons[0].reference) == windows[0]
        assert each.ref_match == (text[allele.position :][: len(allele.ref)] == allele.ref)
        assert each.n_in_window == windows[0].count("N")
        before, after = outputs_of_strings(model, windows, strands)
        np.testing.assert_allclose(results.ref[i], before, atol=2e-6)
        np.testing.assert_allclose(results.diff[i], after - before, atol=2e-6)
        np.testing.assert_allclose(results.alt[i], after, atol=2e-6)


def test_substitutions_are_those_of_ism(small_genome, genome):
    model, scoring = model_of(StackModel), Scoring(TRACKS, L, L)
    text = small_genome.letters["chr1"]
    asked = [Allele("chr1", p, text[p], alt) for p in range(60, 118) for alt in "ACGT" if alt != text[p]]
    found = [resolved(genome, allele, L) for allele in asked]
    results = computed(make_effect_engine(model, scoring, device="cpu"), scoring, found, has_log2fc=False)
    for allele, each, diff in zip(asked, found, results.diff, strict=True):
        X = one_hot(each.comparisons[0].reference, model.alphabet)[None]
        effects = ism(model, X, list(TRACKS), start=L // 2, end=L // 2 + 1)
        expected = effects[0, :, model.alphabet.index(allele.alt), 0]
        np.testing.assert_allclose(diff, expected, rtol=0, atol=1e-6)
    assert np.abs(results.diff).max() > 1e-3


def test_order_and_batches_change_nothing(small_genome, genome):
    model, scoring = model_of(StackModel), Scoring(TRACKS, L, L)
    text = small_genome.letters["chr1"]
    rng = np.random.default_rng(0)
    asked = [Allele("chr1", p, text[p : p + n], "ACGT"[p % 4]) for p in range(5, 75, 3) for n in (1, 2)]
    found = [resolved(genome, allele, L) for allele in asked]
    whole = computed(make_effect_engine(model, scoring, device="cpu"), scoring, found, has_log2fc=False)
    order = rng.permutation(len(found))
    engine = make_effect_engine(model, scoring, batch_size=3, device="cpu")
    shuffled = computed(engine, scoring, [found[i] for i in order], has_log2fc=False)
    np.testing.assert_allclose(shuffled.diff, whole.diff[order], rtol=0, atol=1e-6)
    np.testing.assert_allclose(shuffled.ref, whole.ref[order], rtol=0, atol=1e-6)


def test_all_placements_of_a_repeat_give_one_sequence_and_are_averaged(small_genome, genome):
    text = small_genome.letters["chr1"]
    at = text.index("CACACACACA")
    deletion = Allele("chr1", at + 3, text[at + 3 : at + 6], text[at + 3])  # two bases in the repeat's middle
    found = resolved(genome, deletion, L, averages_shifts=True)
    one = resolved(genome, deletion, L)
    n_bp = len(text[at:]) - len(text[at:].lstrip("AC"))  # the repeat may go on by chance
    assert len(found.comparisons) >= 9
    assert len(found.comparisons) <= n_bp + 2
    np.testing.assert_array_equal(found.comparisons[0].reference, one.comparisons[0].reference)
    deleted = text[: at + 4] + text[at + 6 :]
    for each in found.comparisons:
        middle = decode(each.alternative)
        assert middle == deleted[each.start :][:L]
        assert decode(each.reference) == text[each.start :][:L]
    starts = [each.start for each in found.comparisons]
    assert starts == list(range(starts[0], starts[0] + len(starts)))
    model, scoring = model_of(PlainModel), Scoring(TRACKS, L, L)
    engine = make_effect_engine(model, scoring, device="cpu")
    apart = [haplotypes.Resolved(comparisons=(each,)) for each in found.comparisons]
    mean = computed(engine, scoring, apart, has_log2fc=False).diff.mean(0)
    together = computed(engine, scoring, [found], has_log2fc=False).diff[0]
    np.testing.assert_allclose(together, mean, atol=1e-6)


@pytest.mark.parametrize(
    ("allele", "reason"),
    [
        (Allele("chr1", 5, "A", "."), haplotypes.NO_ALT),
        (Allele("chr1", 5, "A", "*"), haplotypes.STAR),
        (Allele("chr1", 5, "A", "<DEL>"), haplotypes.SYMBOLIC),
        (Allele("chr1", 5, "A", "G]chr2:5]"), haplotypes.SYMBOLIC),
        (Allele("chr1", 5, "A", "R"), haplotypes.LETTERS),
        (Allele("chr1", 5, "A", "A"), haplotypes.SAME),
        (Allele("", 5, "A", "C"), haplotypes.UNKNOWN_CONTIG),
        (Allele("chr2", 7, "A", "C"), haplotypes.OFF_CHROM),
        (Allele("chr2", 6, "AC", "C"), haplotypes.OFF_CHROM),
        (Allele("chr1", -1, "A", "C"), haplotypes.OFF_CHROM),
        (Allele("chr1", 130, "A", "C"), haplotypes.N_IN_REF),
        (Allele("chr1", 5, "a", "r"), haplotypes.LETTERS),
        (Allele("chr1", 5, "a", "A"), haplotypes.SAME),
        (Allele("chr2", 0, "G", "G" + "T" * (L // 2 + 1)), haplotypes.TOO_LONG),
        (Allele("chr1", 5, "A" * (L // 2 + 2), "A"), haplotypes.TOO_LONG),
    ],
)
def test_allele_that_cannot_be_scored_says_why(genome, allele, reason):
    found = resolved(genome, allele, L)
    assert (found.reason, found.comparisons) == (reason, ())


@pytest.mark.parametrize("input_bp", [L, L + 1])
def test_longest_allele_that_a_window_holds_is_scored(genome, input_bp):
    n = input_bp - input_bp // 2
    found = resolved(genome, Allele("chr2", 0, "G", "G" + "T" * n), input_bp)
    assert decode(found.comparisons[0].alternative) == "N" * 19 + "G" + "T" * n
    assert resolved(genome, Allele("chr2", 0, "G", "GT" + "T" * n), input_bp).reason == haplotypes.TOO_LONG
    last = Allele("chr2", 5, "CA", "CG")  # that ends with the chrom
    assert resolved(genome, last, input_bp).comparisons[0].base == 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["chr1", "chr2"]), st.integers(0, 300), st.integers(0, 9))))
def test_bases_that_are_read_some_at_once_are_the_genomes(genome, asked):
    with mock.patch.object(reading, "_CHUNK_BP", 6):
        bases = reading.ReferenceBases(genome)
        for chrom, start, n in asked:
            expected = genome.fetch(chrom, start, start + n)
            np.testing.assert_array_equal(bases.at(chrom, start, start + n), expected)


def test_mismatch_is_flagged_skipped_or_swapped(small_genome, genome):
    text = small_genome.letters["chr1"]
    own = text[40]
    other, third, _ = (base for base in "ACGT" if base != own)
    flagged = resolved(genome, Allele("chr1", 40, other, third), L)
    assert (flagged.reason, flagged.ref_match) == ("", False)
    assert decode(flagged.comparisons[0].reference)[L // 2] == other
    skipped = resolved(genome, Allele("chr1", 40, other, third), L, on_mismatch="skip")
    assert (skipped.reason, skipped.ref_match) == (haplotypes.MISMATCH, False)
    neither = resolved(genome, Allele("chr1", 40, other, third), L, on_mismatch="swap")
    assert neither.reason == haplotypes.MISMATCH
    swapped = resolved(genome, Allele("chr1", 40, other, own), L, on_mismatch="swap")
    assert (swapped.reason, swapped.ref_match, swapped.is_swapped) == ("", False, True)
    assert decode(swapped.comparisons[0].reference) == text[20:60]
    assert swapped.comparisons[0].base == "ACGT".index(other)


def test_log2_fold_change_is_of_probabilities(small_genome, genome):
    text = small_genome.letters["chr1"]
    half = Track("half", (2,), (0.5,))  # a ratio knows no factor
    model, scoring = model_of(StackModel), Scoring((*TRACKS, half), L, L)
    found = [resolved(genome, Allele("chr1", 70, text[70], alt), L) for alt in "ACGT" if alt != text[70]]
    engine = make_effect_engine(model, scoring, device="cpu")
    results = computed(engine, scoring, found, has_log2fc=True)
    reference, change = engine.outputs([each.comparisons[0] for each in found])
    before, after = (1 / (1 + np.exp(-each)) for each in (reference, reference + change))
    single = np.log2(after[:, 2] / before[:, 2])
    group = np.log2(after[:, :2].mean(1) / before[:, :2].mean(1))
    np.testing.assert_allclose(results.log2fc, np.stack([single, group, single], axis=1), atol=1e-5)
    assert computed(engine, scoring, found, has_log2fc=False).log2fc.shape == (3, 0)


def test_model_that_gives_no_number_leaves_a_reason(small_genome, genome):
    model, scoring = model_of(PlainModel), Scoring(TRACKS, L, L)
    with torch.no_grad():
        model.body.body[1][-1].bias[0] = torch.inf
    found = [resolved(genome, Allele("chr1", 70, small_genome.letters["chr1"][70], "TT"), L)]
    results = computed(make_effect_engine(model, scoring, device="cpu"), scoring, found, has_log2fc=True)
    assert haplotypes.REASONS[results.reason[0]] == haplotypes.NOT_FINITE
    assert np.isnan(results.ref).all()


def test_outputs_of_an_ensemble_are_the_mean_of_its_models(small_genome, genome):
    members = [loaded_model(kind(seed), str(seed)) for seed, kind in enumerate((StackModel, PlainModel))]
    scoring, text = Scoring(TRACKS, L, L), small_genome.letters["chr1"]
    found = [resolved(genome, Allele("chr1", p, text[p], text[p] + "TG"), L) for p in (30, 70)]
    found += [resolved(genome, Allele("chr1", 70, text[70], "ACGT".replace(text[70], "")[0]), L)]
    apart = [
        computed(make_effect_engine(each, scoring, device="cpu"), scoring, found, has_log2fc=False)
        for each in members
    ]
    engine = make_effect_engine(Ensemble(members), scoring, device="cpu")
    together = computed(engine, scoring, found, has_log2fc=False)
    for name in ("ref", "diff"):
        mean = np.mean([getattr(each, name) for each in apart], axis=0)
        np.testing.assert_allclose(getattr(together, name), mean, rtol=0, atol=1e-6)
