"""``tism-scan variants``, as it is typed."""

import numpy as np
import pytest
from command_line import WEIGHTS, tism_scan
from effect_models import table_of
from variant_stores import HEADER, vcf_text

from tism_scan.attribution import ism
from tism_scan.genome.alphabet import encode, one_hot
from tism_scan.models.beluga import load_beluga


@pytest.fixture
def variants(tmp_path):
    """Return a folder with a genome, three substitutions and an insertion, and the genome's bases."""
    bases = "".join(np.random.default_rng(4).choice(list("ACGT"), 2600))
    (tmp_path / "genome.fa").write_text(f">chr1\n{bases}\n")
    rows = [("chr1", p + 1, bases[p], "ACGT".replace(bases[p], "")[0]) for p in (1200, 1230, 1500)]
    (tmp_path / "in.vcf").write_text(vcf_text([*rows, ("chr1", 1600, bases[1599], bases[1599] + "GATTACA")]))
    return tmp_path, bases


def typed(folder, *more, code=0, variants="in.vcf"):
    words = ("variants", variants, "--genome", "genome.fa", "--weights", WEIGHTS, "--tracks", "all")
    done = tism_scan(*words, "--out", "out.tsv.gz", *more, cwd=folder, is_without_ray=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_variants_are_scored_as_exact_ism_scores_them(variants):
    folder, bases = variants
    told = typed(folder)
    assert "4 ALT alleles: 4 scored" in told
    model, table = load_beluga(WEIGHTS), table_of(folder / "out.tsv.gz")
    columns = [name for name in table[0] if name.endswith("_diff")]
    found = np.array([[float(row[name]) for name in columns] for row in table[:3]])
    positions = [int(row["pos"]) - 1 for row in table[:3]]
    windows = [encode(bases.ljust(4000, "N"))[position - 1000 :][:2000] for position in positions]
    X = np.stack([one_hot(window, model.alphabet) for window in windows])
    effects = ism(model, X, start=1000, end=1001)[..., 0]
    channels = [model.alphabet.index(row["alt"]) for row in table[:3]]
    np.testing.assert_allclose(found, effects[range(3), :, channels], rtol=0, atol=1e-5)
    assert np.abs(found).max() > 1e-3
    ratios = np.array([[float(row[name.replace("diff", "log2fc")]) for name in columns] for row in table[:3]])
    np.testing.assert_array_equal(np.sign(ratios), np.sign(found))
    assert not (folder / "out.tsv.gz.parts").exists()


def test_input_that_cannot_be_used_ends_with_code_2_and_leaves_nothing(variants):
    folder, _ = variants
    (folder / "empty.vcf").write_text(HEADER + "\n")
    assert "holds no variant" in typed(folder, variants="empty.vcf", code=2)
    assert "another suffix" in typed(folder, "--out", "out.bed", code=2)
    assert sorted(path.name for path in folder.glob("out*")) == []
