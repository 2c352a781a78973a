import gzip

import numpy as np
import pytest

from tism_scan.demo.genome import write_motifs
from tism_scan.demo.synthesis import MOTIFS
from tism_scan.errors import InputError
from tism_scan.genome.alphabet import BASES, decode
from tism_scan.motifs.meme import meme_text
from tism_scan.motifs.motif import Motif
from tism_scan.motifs.reading import read_motifs

HEAD = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
MATRIX = "letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0\n"
ROWS = " 0.25 0.25 0.25  0.25\n 0.7\t0.1 0.1 0.1\n"
GOOD = f"{HEAD}MOTIF MA0001.1 AGL3\n{MATRIX}{ROWS}URL http://example.org\n"


def written(tmp_path, text):
    path = tmp_path / "motifs.meme"
    path.write_text(text)
    return path


def test_motif_of_jaspar_has_its_factors_name_first(tmp_path):
    (motif,) = read_motifs(written(tmp_path, GOOD))
    assert motif.name == "AGL3_MA0001.1"
    assert pytest.approx(np.array([[0.25] * 4, [0.7, 0.1, 0.1, 0.1]])) == motif.probabilities.T


def test_what_is_written_is_read_again(tmp_path):
    rng = np.random.default_rng(0)
    motifs = [Motif(f"m{w}", rng.dirichlet(np.ones(4), w).T) for w in (1, 7, 30)]
    packed = tmp_path / "motifs.meme.gz"
    packed.write_bytes(gzip.compress(meme_text(motifs).encode()))
    for mine, theirs in zip(motifs, read_motifs(packed), strict=True):
        assert mine.name == theirs.name
        assert theirs.probabilities == pytest.approx(mine.probabilities, abs=1e-5)
        assert theirs.probabilities.sum(axis=0) == pytest.approx(np.ones(len(mine)))


def test_rows_end_where_the_matrix_ends(tmp_path):
    text = GOOD.replace("URL", "\n0.1 0.2 are no row\nURL") + f"\nMOTIF two\n{MATRIX}{ROWS}"
    assert [len(motif) for motif in read_motifs(written(tmp_path, text))] == [2, 2]


def test_motif_that_old_releases_of_meme_number_is_called_by_its_number(tmp_path):
    path = tmp_path / "meme.txt"
    path.write_text(f"{HEAD}MOTIF  1\twidth =    2  sites =  25\n{MATRIX}{ROWS}")
    assert [motif.name for motif in read_motifs(path)] == ["1"]


def test_windows_line_ends_and_a_missing_last_one_are_read(tmp_path):
    path = tmp_path / "motifs.meme"
    path.write_bytes(f"{HEAD}MOTIF one\n{MATRIX}{ROWS}".rstrip().replace("\n", "\r\n").encode())
    assert len(read_motifs(path)[0]) == 2


def test_long_form_of_dnas_alphabet_is_read(tmp_path):
    text = GOOD.replace("ALPHABET= ACGT", 'ALPHABET "DNA" DNA-LIKE\nA "Adenine" ~ T "Thymine"\nEND ALPHABET')
    assert len(read_motifs(written(tmp_path, text))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected motifs as MEME text"),
        (">MA0001.1\nA [1 2]\n", "has no line 'MEME version 4'"),
        (HEAD, "holds no motif; expected at least one"),
        (GOOD.replace("ACGT", "ACDEFGHIKLMNPQRSTVWY"), "line 3: .* is not the alphabet of DNA"),
        (GOOD.replace("alength= 4", "alength= 20"), "line 8: alength= 20 of AGL3_MA0001.1; expected 4"),
        (GOOD.replace("0.7", "0.9"), "line 10: .* are no probabilities; expected four that add up to 1"),
        (GOOD.replace("0.7", "nan"), "line 10: .* are no probabilities"),
        (GOOD.replace("0.7\t0.1", "1.1\t-0.3"), "line 10: .* are no probabilities"),
        (GOOD.replace(" 0.7\t", ""), "line 10: .* are no probabilities; expected four"),
        (GOOD.replace("0.7", "0,7"), "line 10: .* are not all numbers"),
        (GOOD.replace("w= 2", "w= 3"), "line 8: AGL3_MA0001.1 has 2 rows of probabilities; expected w= 3"),
        (GOOD.replace("w= 2", "w = 3"), "line 8: AGL3_MA0001.1 has 2 rows of probabilities; expected w= 3"),
        (GOOD.replace("alength= 4", "alength =20"), "line 8: alength= 20 of AGL3_MA0001.1; expected 4"),
        (GOOD.replace(ROWS, ""), "line 8: AGL3_MA0001.1 has 0 rows"),
        (GOOD.replace("w= 2", "w= 0").replace(ROWS, ""), "has 0 rows of probabilities; expected at least"),
        (GOOD.replace(MATRIX, ""), "line 7: AGL3_MA0001.1 has no line 'letter-probability matrix"),
        (GOOD.replace("MA0001.1 AGL3", ""), "line 7: the motif has no name"),
        (GOOD.replace("MA0001.1 AGL3", "."), "line 7: a motif is named '.', .*; rename it"),
        (GOOD + GOOD.removeprefix(HEAD), "line 12: AGL3_MA0001.1 comes twice, first in line 7"),
        (GOOD.replace("0.7", "x").replace(" 0.25 ", " y ", 1), "2 faults: line 9: .* line 10: "),
    ],
)
def test_faults_are_named_by_their_lines(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_motifs(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*absent.*expected MEME text"):
        read_motifs(tmp_path / "absent.meme")
    (tmp_path / "binary").write_bytes(bytes([0xFF, 0xFE, 0x80] * 100))
    with pytest.raises(InputError, match="it is not text"):
        read_motifs(tmp_path / "binary")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(GOOD.encode())[:-9])
    with pytest.raises(InputError, match="compressed data is damaged"):
        read_motifs(tmp_path / "cut.gz")


def patterns(path, **groups):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for group, each in groups.items():
            for name, (sequence, contributions) in each.items():
                pattern = file.create_group(f"{group}/{name}")
                pattern["sequence"], pattern["contrib_scores"] = sequence, contributions


def test_modiscos_patterns_are_read_without_their_flat_ends(tmp_path):
    rng = np.random.default_rng(1)
    sequence = rng.dirichlet(np.ones(4), 30)
    contributions = np.full((30, 4), 0.001)
    contributions[10:18] = 1
    both = (sequence, contributions)
    named = {f"pattern_{i}": both for i in (0, 10, 2)}
    patterns(tmp_path / "m.h5", pos_patterns=named, neg_patterns={"pattern_0": both})
    motifs = read_motifs(tmp_path / "m.h5")
    names = ["pos.pattern_0", "pos.pattern_2", "pos.pattern_10", "neg.pattern_0"]
    assert [motif.name for motif in motifs] == names
    assert motifs[0].probabilities == pytest.approx(sequence[10:18].T, abs=1e-6)


def test_h5_of_something_else_is_named(tmp_path):
    patterns(tmp_path / "m.h5", other={"pattern_0": (np.ones((3, 4)), np.ones((3, 4)))})
    with pytest.raises(InputError, match="is not what `modisco motifs` writes"):
        read_motifs(tmp_path / "m.h5")
    patterns(tmp_path / "n.h5", pos_patterns={"pattern_0": (np.ones((3, 5)), np.ones((3, 4)))})
    with pytest.raises(InputError, match=r"expected \(width, 4\)"):
        read_motifs(tmp_path / "n.h5")


def test_demo_writes_the_motifs_that_it_plants(tmp_path):
    write_motifs(tmp_path / "motifs.meme")
    found = {motif.name: motif.probabilities for motif in read_motifs(tmp_path / "motifs.meme")}
    assert list(found) == [motif.factor for motif in MOTIFS]
    rng = np.random.default_rng(2)
    for motif in MOTIFS:
        letters = [decode(motif.sample(rng)) for _ in range(20)]
        probabilities = found[motif.factor]
        reverse = probabilities[::-1, ::-1]
        for each in letters:
            codes = [BASES.index(base) for base in each]
            places = np.arange(len(each))
            assert any((strand[codes, places] > 0).all() for strand in (probabilities, reverse))
