import sys
from collections import Counter

import numpy as np
import pytest
from command_line import tism_scan
from sequences import random_sequence
from small_plans import publish, small_plan
from variant_stores import BASES, variant_store

from tism_scan.cli.seqlets import command
from tism_scan.demo.genome import write_motifs
from tism_scan.errors import GenomeError, InputError, StoreError, TismScanError
from tism_scan.export import seqlet_names
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlet_names import Naming
from tism_scan.export.seqlet_parts import COLUMNS, MotifFiles
from tism_scan.export.seqlets import SeqletRule
from tism_scan.genome.alphabet import encode, one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.motifs.meme import meme_text
from tism_scan.motifs.motif import NO_MOTIF, Motif
from tism_scan.motifs.reading import read_motifs
from tism_scan.motifs.tomtom import MOST_BP, Nearest
from tism_scan.store.score_store import ScoreStore

RULE = SeqletRule(quantile=0.95, max_gap=2, min_high=3)
SITE = "TGACTCAGGC"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def motif_of(name, letters):
    return Motif(name, one_hot(encode(letters), BASES).astype(np.float64))


MOTIFS = (motif_of("there", SITE), motif_of("elsewhere", "AATTTAATAATT"))


def by_eye(sequences, motifs):
    """Return the motif that fits best without gaps; a p-value of 0 for a perfect fit, else 1."""
    found = []
    for sequence in sequences:
        assert sequence.shape[0] == 4
        assert sequence.shape[1] <= MOST_BP
        assert sequence.sum(axis=0) == pytest.approx(1)
        fits = []
        for i, motif in enumerate(motifs):
            for is_reverse in (False, True):
                wanted = motif.probabilities[::-1, ::-1] if is_reverse else motif.probabilities
                w = wanted.shape[1]
                places = range(sequence.shape[1] - w + 1)
                most = max(((sequence[:, j : j + w] * wanted).sum() / w for j in places), default=0)
                fits.append((most, i, is_reverse))
        found.append(max(fits))
    most, i_motif, is_reverse = map(np.array, zip(*found, strict=True)) if found else ([],) * 3
    return Nearest(np.array(i_motif, int), np.array(is_reverse, bool), 1.0 - (np.array(most) > 0.999))


@pytest.fixture(autouse=True)
def compared_by_eye(request, monkeypatch):
    """Compare without Tomtom, whose first call is compiled for a minute; the slow test below has it."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(seqlet_names, "nearest_motifs", by_eye)


@pytest.fixture
def planted(tmp_path):
    """Return a store of all four bases with high scores at sites on both strands, and where they are."""
    chroms = {"chr1": 1300, "chr2": 600}
    letters = {chrom: random_sequence(length, i) for i, (chrom, length) in enumerate(chroms.items())}
    sites = [("chr1", 100, "+"), ("chr1", 508, "-"), ("chr2", 300, "+"), ("chr2", 590, "-")]
    for chrom, start, strand in sites:
        site = SITE if strand == "+" else SITE[::-1].translate(COMPLEMENT)
        letters[chrom] = letters[chrom][:start] + site + letters[chrom][start + len(site) :]
    store, _, tism = variant_store(tmp_path / "s.zarr", chroms=chroms, letters=letters)
    for chrom, start, _ in sites:
        tism[chrom][:, :, start : start + len(SITE)] *= 1e3
    high = {"chr1": 900}  # high, but no motif
    for chrom, start in high.items():
        tism[chrom][:, :, start : start + 8] *= 1e3
    publish(store, tism)
    (tmp_path / "genome.fa").write_text("".join(f">{chrom}\n{text}\n" for chrom, text in letters.items()))
    return store, sites, tism


def rows_of(path):
    return [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("with_genome", [False, True])
def test_seqlets_are_named_after_the_motif_there_on_its_strand(planted, tmp_path, monkeypatch, with_genome):
    store, sites, _ = planted
    genome = tmp_path / "genome.fa" if with_genome else None
    monkeypatch.setattr(Genome, "digest", lambda self: store.plan.genome_digest)
    write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS, genome), tracks="1")
    header = (tmp_path / "s.bed").read_text().splitlines()
    assert header[0].endswith("; motif: nearest of 2 motifs, p-value 0.01 at most")
    assert header[1] == "#" + "\t".join((*COLUMNS, "motif", "motif_strand", "motif_p"))
    rows = rows_of(tmp_path / "s.bed")
    for chrom, start, strand in sites:
        over = [row for row in rows if row[0] == chrom and int(row[1]) < start + 10 and int(row[2]) > start]
        assert [row[8:] for row in over] == [["there", strand, "0"]]
    named = [row for row in rows if row[8] != NO_MOTIF]
    assert len(named) == len(sites) < len(rows)
    assert {tuple(row[8:]) for row in rows if row not in named} == {(".", ".", ".")}


def test_names_do_not_change_what_is_called(planted, tmp_path):
    store, _, _ = planted
    write_seqlets(store, tmp_path / "plain.bed", RULE)
    write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS))
    assert rows_of(tmp_path / "plain.bed") == [row[:8] for row in rows_of(tmp_path / "s.bed")]


def test_table_counts_seqlets_and_adds_up_their_magnitudes(planted, tmp_path):
    store, _, tism = planted
    called = write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS))
    numbers, magnitudes = Counter(), Counter()
    for chrom, start, end, track, _, _, _, _, motif, _, _ in rows_of(tmp_path / "s.bed"):
        i_track = int(track.removeprefix("track "))
        inside = tism[chrom][i_track, :, int(start) : int(end)].astype(float)
        numbers[track, motif] += 1
        magnitudes[track, motif] += np.abs(inside.sum(axis=0) / 3).sum()
    head, *lines = MotifFiles.beside(tmp_path / "s.bed").table.read_text().splitlines()
    assert head.split("\t")[:3] == ["track", "motif", "n_seqlets"]
    found = {tuple(row[:2]): row[2:] for row in (line.split("\t") for line in lines)}
    assert set(found) == set(numbers)
    for key, (n, part, magnitude, share) in found.items():
        of_track = [each for each in numbers if each[0] == key[0]]
        assert int(n) == numbers[key]
        assert float(part) == pytest.approx(numbers[key] / sum(map(numbers.get, of_track)), abs=1e-4)
        assert float(magnitude) == pytest.approx(magnitudes[key], rel=1e-4)
        assert float(share) == pytest.approx(magnitudes[key] / sum(map(magnitudes.get, of_track)), abs=2e-4)
    assert [sum(held.n_seqlets for held in each.motifs.values()) for each in called] == [
        each.n_seqlets for each in called
    ]


def test_track_of_names_has_each_place_once_by_motif(planted, tmp_path):
    store, sites, _ = planted
    write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS))
    rows = rows_of(tmp_path / "s.motifs.bed")
    assert len({tuple(row[:4]) for row in rows}) == len(rows)
    named = {(*row[:3], row[8], row[9]) for row in rows_of(tmp_path / "s.bed") if row[8] != NO_MOTIF}
    assert {(*row[:4], row[5]) for row in rows} == named
    assert len(rows) >= len(sites)


def test_names_of_a_compressed_file_are_compressed_with_an_index(planted, tmp_path):
    pysam = pytest.importorskip("pysam")
    store, _, _ = planted
    write_seqlets(store, tmp_path / "a.b.bed.gz", RULE, naming=Naming(MOTIFS), tracks="0")
    with pysam.TabixFile(str(tmp_path / "a.b.motifs.bed.gz")) as found:
        assert [line.split("\t")[3] for line in found.fetch("chr1", 0, 200)] == ["there"]
    assert (tmp_path / "a.b.motifs.tsv").is_file()


def test_long_seqlet_is_compared_where_its_scores_are_highest(tmp_path):
    letters = {"chr1": random_sequence(600, 3)}
    letters["chr1"] = letters["chr1"][:280] + SITE + letters["chr1"][290:]
    store, _, tism = variant_store(tmp_path / "s.zarr", chroms={"chr1": 600}, letters=letters)
    tism["chr1"][..., 200:300] *= 100
    tism["chr1"][..., 280:290] *= 100
    publish(store, tism)
    write_seqlets(store, tmp_path / "s.bed", SeqletRule(0.8, 20, 3), naming=Naming(MOTIFS), tracks="0")
    over = [row for row in rows_of(tmp_path / "s.bed") if int(row[1]) < 290 and int(row[2]) > 280]
    assert [int(row[2]) - int(row[1]) > MOST_BP for row in over] == [True]
    assert over[0][8:10] == ["there", "+"]


def test_store_that_tells_no_sequence_needs_the_genome(tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    with pytest.raises(StoreError, match=r"tells no sequence to compare with motifs; .*--genome"):
        write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS), allow_incomplete=True)


def test_another_genome_is_refused_before_anything_is_written(planted, tmp_path):
    store, _, _ = planted
    with pytest.raises(GenomeError, match=r"genome.fa is another genome, SHA-256 .*expected genome"):
        write_seqlets(store, tmp_path / "s.bed", RULE, naming=Naming(MOTIFS, tmp_path / "genome.fa"))
    assert not list(tmp_path.glob("s.*bed*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--genome", "absent.fa"], "absent.fa"),
        (["--tracks", "nothing"], "'nothing' fits no track"),
        (["--chroms", "chrX"], "chrX"),
        (["--out", "s.txt"], "s.txt"),
    ],
)
def test_all_inputs_are_checked_before_tomtom_is_compiled(planted, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(Naming, "prepare", lambda _: pytest.fail("Tomtom was compiled"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "motifs.meme").write_text(meme_text(MOTIFS))
    words = [str(planted[0].path), "--out", "s.bed", "--motifs", "motifs.meme", *arguments]
    with pytest.raises(TismScanError, match=message):
        command.main(words, standalone_mode=False)


def test_without_memelite_the_extra_is_named(planted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "memelite", None)
    monkeypatch.setitem(sys.modules, "memelite.tomtom", None)
    with pytest.raises(InputError, match=r"'memelite.*' is not installed.*--motifs.*tism-scan\[motifs\]"):
        write_seqlets(planted[0], tmp_path / "s.bed", RULE, naming=Naming(MOTIFS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--motifs", "absent.meme"], "absent.meme"),
        (["--motifs", "motifs.meme", "--motif-p", "2"], "p-value 2 is outside 0 to 1"),
        (["--genome", "genome.fa"], "--genome is for --motifs"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(planted, tmp_path, arguments, message):
    (tmp_path / "motifs.meme").write_text(meme_text(MOTIFS))
    run = tism_scan("seqlets", planted[0].path, "--out", tmp_path / "s.bed", *arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.fixture
def tomtom(is_full_dose):
    """Skip a test with Tomtom itself unless a full dose is asked for: the first call compiles for minutes."""
    if not is_full_dose:
        pytest.skip("compiles Tomtom, which takes minutes; add --dose full")


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("tomtom")
def test_seqlets_of_the_demo_are_named_after_their_factor(demo_store, demo_fasta, demo_sites, tmp_path):
    write_motifs(tmp_path / "motifs.meme")
    motifs = tuple(read_motifs(tmp_path / "motifs.meme"))
    write_seqlets(demo_store, tmp_path / "s.bed", naming=Naming(motifs, demo_fasta))
    rows = rows_of(tmp_path / "s.bed")
    for factor in {factor for factor, _, _ in demo_sites}:
        sites = [(start, end) for each, start, end in demo_sites if each == factor]
        of_track = [
            (any(int(row[1]) < end and start < int(row[2]) for start, end in sites), row[8] == factor)
            for row in rows
            if row[3] == factor
        ]
        recall = np.mean([is_named for is_there, is_named in of_track if is_there])
        precision = np.mean([is_there for is_there, is_named in of_track if is_named])
        assert recall >= 0.9, f"{factor}: {recall:.2f} of its seqlets have its name"
        assert precision >= 0.6, f"{factor}: {precision:.2f} of the seqlets with its name are on its motif"


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("tomtom")
def test_processes_name_as_one_does(planted, tmp_path):
    for jobs in (1, 2):
        write_seqlets(planted[0], tmp_path / f"{jobs}.bed", RULE, naming=Naming(MOTIFS), jobs=jobs)
    assert (tmp_path / "1.bed").read_bytes() == (tmp_path / "2.bed").read_bytes()
    assert (tmp_path / "1.motifs.tsv").read_bytes() == (tmp_path / "2.motifs.tsv").read_bytes()
