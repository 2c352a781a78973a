import gzip
import hashlib
import multiprocessing
import os
import sys
import tempfile
import threading
import zlib

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import given
from hypothesis import strategies as st
from leftovers import left_by_killed_writer

from tism_scan.errors import GenomeError, InputChangedError
from tism_scan.genome import fasta_index
from tism_scan.genome.alphabet import decode, encode
from tism_scan.genome.fasta import Genome
from tism_scan.storage.watched import stamp_of_content

CHR1 = "ACGTNNacgtRYKM" + "GATTACA" * 20 + "n"
CHR2 = "TTTT"
RECORDS = {"chr1": CHR1, "empty": "", "chr2": CHR2}
# The size that Biopython's writer gives a BGZF block.
FULL_BLOCK = 65536


def fasta_text(records, *, width=10, newline="\n"):
    lines = []
    for name, sequence in records.items():
        lines += [f">{name} some words", *(sequence[i : i + width] for i in range(0, len(sequence), width))]
    return newline.join(lines) + newline


def bgzf_bytes(raw, *, block_bytes=64):
    """Compress into small blocks, so that a few bases span several."""
    blocks = []
    for part in [*(raw[i : i + block_bytes] for i in range(0, len(raw), block_bytes)), b""]:
        deflate = zlib.compressobj(wbits=-15)
        body = deflate.compress(part) + deflate.flush()
        header = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(body) + 25).to_bytes(2, "little")
        trailer = zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little")
        blocks.append(header + body + trailer)
    return b"".join(blocks)


@pytest.fixture(params=["plain", "bgzf"])
def fasta(request, tmp_path):
    raw = fasta_text(RECORDS).encode()
    path = tmp_path / ("genome.fa" if request.param == "plain" else "genome.fa.gz")
    path.write_bytes(raw if request.param == "plain" else bgzf_bytes(raw))
    return path


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_chroms_come_in_file_order_with_their_lengths_empty_ones_too(fasta):
    with Genome(fasta) as genome:
        assert list(genome.chroms.items()) == [("chr1", len(CHR1)), ("empty", 0), ("chr2", 4)]


def test_path_is_absolute(fasta, monkeypatch):
    monkeypatch.chdir(fasta.parent)
    with Genome(fasta.name) as genome:
        assert genome.path == fasta


def test_digest_is_that_of_the_file(fasta):
    with Genome(fasta) as genome:
        assert genome.digest() == hashlib.sha256(fasta.read_bytes()).hexdigest()


def test_every_stretch_is_that_of_the_sequence_with_n_around_it(fasta):
    padded = encode("N" * 15 + CHR1 + "N" * 15)
    with Genome(fasta) as genome:
        for start in range(-15, len(CHR1) + 10, 3):
            for end in range(start, len(CHR1) + 15, 7):
                assert np.array_equal(genome.fetch("chr1", start, end), padded[start + 15 : end + 15])


def test_codes_are_uint8_that_may_be_written_to(fasta):
    with Genome(fasta) as genome:
        codes = genome.fetch("chr1", 0, 14)
    assert codes.dtype == np.uint8
    assert codes.flags.writeable
    assert decode(codes) == "ACGTNNACGTNNNN"


@pytest.mark.parametrize(("start", "end"), [(-9, -4), (4, 9), (90, 95)])
def test_stretch_beyond_the_chrom_is_all_n(fasta, start, end):
    with Genome(fasta) as genome:
        assert decode(genome.fetch("chr2", start, end)) == "NNNNN"


def test_chrom_without_bases_reads_as_n(fasta):
    with Genome(fasta) as genome:
        assert decode(genome.fetch("empty", -2, 3)) == "NNNNN"


@given(
    st.lists(st.text("ACGTNacgt", max_size=30), min_size=1, max_size=4).filter(any),
    st.integers(1, 12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(3, 90),
)
def test_any_fasta_reads_as_it_was_written(sequences, width, newline, has_last_newline, block_bytes):
    records = {f"c{i}": sequence for i, sequence in enumerate(sequences)}
    text = fasta_text(records, width=width, newline=newline)
    raw = (text if has_last_newline else text.removesuffix(newline)).encode()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("a.fa", raw), ("a.fa.gz", bgzf_bytes(raw, block_bytes=block_bytes))):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
            with Genome(os.path.join(folder, name)) as genome:
                assert genome.chroms == {chrom: len(sequence) for chrom, sequence in records.items()}
                for chrom, sequence in records.items():
                    for start in range(len(sequence)):
                        assert np.array_equal(
                            genome.fetch(chrom, start, len(sequence)), encode(sequence[start:])
                        )


def test_comments_and_blank_lines_between_records_are_no_bases(tmp_path):
    with Genome(write(tmp_path / "a.fa", "; made by hand\n\n>a\nACGT\nAC\n\n>b\nGG\n\n")) as genome:
        assert genome.chroms == {"a": 6, "b": 2}
        assert decode(genome.fetch("b", 0, 2)) == "GG"


def test_first_base_of_a_full_bgzf_block_can_be_read(tmp_path):
    sequence = np.frombuffer(b"ACGT", dtype=np.uint8)[
        np.random.default_rng(0).integers(0, 4, 300_000)
    ].tobytes()
    path = tmp_path / "a.fa.gz"
    with bgzf.BgzfWriter(path) as file:
        file.write(b">a\n" + sequence + b"\n")
    with Genome(path) as genome:
        for start in (FULL_BLOCK - 4, FULL_BLOCK - 3, FULL_BLOCK - 2, 4 * FULL_BLOCK - 3):
            assert np.array_equal(genome.fetch("a", start, start + 5), encode(sequence[start : start + 5]))


def test_threads_may_share_a_genome(tmp_path):
    sequence = "ACGTTGCA" * 5000
    wrong = []
    with Genome(write(tmp_path / "a.fa", fasta_text({"a": sequence}))) as genome:

        def read(seed):
            for start in np.random.default_rng(seed).integers(0, 30_000, 300):
                if decode(genome.fetch("a", int(start), int(start) + 500)) != sequence[start : start + 500]:
                    wrong.append(start)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def open_and_read(path, results):
    try:
        with Genome(path) as genome:
            results.put(decode(genome.fetch("chr2", 0, 4)))
    except BaseException as error:  # a child's failure must reach the parent, whatever it is
        results.put(repr(error))


def test_processes_that_start_together_all_get_an_index(fasta):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=open_and_read, args=(fasta, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert found == ["TTTT"] * 4


def test_index_is_what_samtools_writes_and_nothing_else_is_left(tmp_path):
    path = write(tmp_path / "a.fa", fasta_text(RECORDS))
    left_by_killed_writer(path)
    Genome(path).close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.fa", "a.fa.fai"]
    assert (tmp_path / "a.fa.fai").read_text().splitlines()[0] == "chr1\t155\t17\t10\t11"


def test_bgzf_gets_both_indexes(tmp_path):
    Genome(write(tmp_path / "a.fa.gz", bgzf_bytes(fasta_text(RECORDS).encode()))).close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.fa.gz", "a.fa.gz.fai", "a.fa.gz.gzi"]


def test_index_that_fits_is_left_alone_even_if_older(fasta):
    Genome(fasta).close()
    index = fasta.with_name(fasta.name + ".fai")
    os.utime(index, (1, 1))
    Genome(fasta).close()
    assert index.stat().st_mtime == 1


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_folder_that_cannot_be_written_is_named_with_a_remedy(fasta, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(fasta_index, "folder_beside", refuse)
    with pytest.raises(
        GenomeError, match=f"has no index, and none can be .*{error.strerror}.*samtools faidx"
    ):
        Genome(fasta)


def test_indexed_genome_in_a_folder_that_cannot_be_written_opens(fasta, monkeypatch):
    Genome(fasta).close()
    monkeypatch.setattr(fasta_index, "folder_beside", lambda path: pytest.fail("wrote"))
    with Genome(fasta) as genome:
        assert genome.chroms["chr2"] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a FASTA file"),
        ("hello\nACGT\n", "is not FASTA, it starts with b'hello"),
        ("\n\n", "is not FASTA, it starts with"),
        (b"\x43\x27\x41\x1a" + bytes(99), "is not FASTA, it starts with b\"C'A"),
        (b">a\nAC\xff\xfe\n", "is not FASTA, or damaged: .*codec"),
        (">a\n", "holds no base"),
        (
            ">p53\nMEEPQSDPSVEPPLSQETFSDLWKLLPENNVLSPLPSQAM\n",
            "looks like protein: 22 of its first 40 letters",
        ),
        (">p\nmkvlaagiVGLL\n", "looks like protein"),
        (">a\rACGT\r", "holds no base"),
        (">\nACGT\n", "line 1 of .* is a header without a name"),
        (">a\nACGT\n> \nACGT\n", "line 3 of .* is a header without a name"),
        (">a x\nACGT\n>b\nA\n>a y\nACGT\n", "has several records named 'a'; expected unique names"),
        (">a\nACGT\nAC\nACGT\n", "not of equal length at line 3"),
        (">a\nACGT\n\nACGT\n", "not of equal length at line 3"),
        (">a\nACGT\nACGTAC\n", "not of equal length at record 'a'"),
        (">a\nACGT\nACGTACGTACGT\n", "not of equal length"),
        (">a\nACGT \nACGT \nAC \n", "none with a space at its end"),
        (">a\nACGT \nACGT \nAC\n>b\nACGT\n", "not of equal length"),
        (">a\nACGT\n>b\nACGT \n", "not of equal length at record 'b'"),
        (">a\nACGT\nACGTAC\n>b\nACGT\n", "not of equal length"),
    ],
)
def test_file_that_is_no_good_fasta_says_why_and_leaves_no_index(tmp_path, text, message):
    path = write(tmp_path / "a.fa", text)
    with pytest.raises(GenomeError, match=message):
        Genome(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sequence", ["ACGTRYSWKMBDHVNacgtryswkmbdhvn", "X" * 60, "ACGT" * 10 + "E", "-" * 9])
def test_letters_that_genomes_have_are_no_protein(tmp_path, sequence):
    with Genome(write(tmp_path / "a.fa", f">LEFT and {'FILE' * 9}\n{sequence}\n")) as genome:
        assert genome.chroms == {"LEFT": len(sequence)}


def test_missing_file_is_named(tmp_path):
    with pytest.raises(GenomeError, match=r"cannot read '.*none.fa': No such file"):
        Genome(tmp_path / "none.fa")


def test_directory_is_not_a_genome(tmp_path):
    with pytest.raises(GenomeError, match="Is a directory; expected a FASTA file"):
        Genome(tmp_path)


RAW = fasta_text(RECORDS).encode()
WHOLE = bgzf_bytes(RAW)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.fa.gz", gzip.compress(RAW), r"with gzip, .*; expected BGZF; run: gunzip a.fa.gz && bgzip a.fa$"),
        ("a.fa.gz", RAW, "is not compressed in spite of its name; .* rename it"),
        ("a.fa", WHOLE, "is BGZF under a plain name; expected a name in .gz"),
        ("a.fa.gz", WHOLE[:-28], "is cut short, its BGZF end mark is missing"),
        ("a.fa.gz", WHOLE[:150], "is cut short"),
        ("a.fa.gz", bgzf_bytes(b"hello"), "is not FASTA, it starts with b'hello'"),
        ("a.fa.gz", WHOLE[:18] + b"\xff" * 9 + WHOLE[27:], "is damaged"),
        ("a.fa.gz", WHOLE[:170] + b"\xff" * 40 + WHOLE[210:], "damaged"),
        ("a.fa.gz", b"\x1f\x8b", "compressed with gzip"),
    ],
)
def test_compressed_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    with pytest.raises(GenomeError, match=message):
        Genome(write(tmp_path / name, content))


def test_bgzf_without_biopython_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    with pytest.raises(GenomeError, match="only with Biopython; run 'pip install biopython'"):
        Genome(write(tmp_path / "a.fa.gz", WHOLE))


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"garbage\n",
        b"\x00\xff\xfe",
        b"chr1\t155\t17\t10\t11\n",
        b"chr1\t155\t17\t10\t11\nempty\t0\t",
        b"chr1\t155\tx\t10\t11\n",
        b"chr1\t-155\t17\t10\t11\n",
        b"chr1\t155\t17\t0\t11\n",
        b"chr1\t155\t17\t10\t99\n",
        b"chr1\t155\t17\t11\t12\nempty\t0\t206\t0\t0\nchr2\t4\t223\t4\t5\n",
        b"chr1\t150\t17\t10\t11\nempty\t0\t206\t0\t0\nchr2\t4\t223\t4\t5\n",
        b"chrX\t155\t17\t10\t11\nempty\t0\t206\t0\t0\nchr2\t4\t223\t4\t5\n",
        b"chr1\t155\t17\t10\t11\nempty\t0\t206\t0\t0\nchr2\t9\t223\t9\t10\n",
        b"chr1\t99999999999999999999\t17\t10\t11\n",
        b"chr1\t155\t17\t10\t11\nchr2\t4\t223\t4\t5\n",
    ],
)
def test_index_that_does_not_fit_the_file_is_refused_with_a_remedy(fasta, index):
    Genome(fasta).close()
    write(fasta.with_name(fasta.name + ".fai"), index)
    with pytest.raises(
        GenomeError, match=r"the index of '.*' (does not fit|cannot be read).*; delete genome.fa"
    ):
        Genome(fasta)


@pytest.mark.parametrize(
    "index", [b"", b"\x09" + bytes(7), b"\xff" * 24, (1).to_bytes(8, "little") + b"\x05" * 16]
)
def test_block_index_that_does_not_fit_is_refused_with_a_remedy(tmp_path, index):
    path = write(tmp_path / "a.fa.gz", WHOLE)
    Genome(path).close()
    write(tmp_path / "a.fa.gz.gzi", index)
    with pytest.raises(GenomeError, match=r"the index of '.*' (does not fit|cannot be read).*\(and .gzi\)"):
        Genome(path)


def test_index_of_an_earlier_version_of_the_file_is_refused(fasta):
    Genome(fasta).close()
    raw = fasta_text({**RECORDS, "chr1": CHR1 + "ACGT"}).encode()
    write(fasta, bgzf_bytes(raw) if fasta.suffix == ".gz" else raw)
    with pytest.raises(GenomeError, match=r"does not fit the file .* delete"):
        Genome(fasta)


def test_unknown_chrom_is_named(fasta):
    with Genome(fasta) as genome, pytest.raises(GenomeError, match="has no chrom 'chr3'"):
        genome.fetch("chr3", 0, 1)


def test_stretch_that_ends_before_it_starts_is_the_callers_mistake(fasta):
    with Genome(fasta) as genome, pytest.raises(ValueError, match="ends before it starts"):
        genome.fetch("chr1", 5, 4)


def test_file_cut_while_it_is_read_is_noticed(tmp_path):
    path = write(tmp_path / "a.fa", fasta_text({"a": "ACGT" * 50_000}))
    with Genome(path) as genome:
        os.truncate(path, 100_000)
        with pytest.raises(InputChangedError, match=r"a\.fa' was changed while it was read"):
            genome.fetch("a", 150_000, 150_100)


def test_byte_that_is_no_letter_is_damage_and_no_n(tmp_path):
    path = write(tmp_path / "a.fa", fasta_text({"a": "ACGT" * 50}))
    Genome(path).close()  # which makes the index
    raw = bytearray(path.read_bytes())
    raw[60] |= 0x80
    path.write_bytes(raw)
    with Genome(path) as genome:
        with pytest.raises(
            GenomeError, match=r"cannot read a:1-200 of .*: it holds bytes that are no letters"
        ):
            genome.fetch("a", 0, 200)
        assert decode(genome.fetch("a", 100, 104)) == "ACGT"


def test_closed_genome_cannot_be_read(fasta):
    genome = Genome(fasta)
    genome.close()
    genome.close()
    with pytest.raises(ValueError, match="is closed"):
        genome.fetch("chr1", 0, 4)


def test_file_that_is_written_in_place_is_not_read_on(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGT\n")
    os.utime(path, ns=(0, 1))
    with Genome(path) as genome:
        digest = genome.digest()
        assert stamp_of_content(path, digest) == genome.stamp
        assert stamp_of_content(path, "another") is None
        path.write_text(">a\nTTTT\n")
        for read in (genome.digest, lambda: genome.fetch("a", 0, 4)):
            with pytest.raises(InputChangedError, match="was changed while it was read; expected"):
                read()
        assert stamp_of_content(path, digest) == genome.stamp  # of what was read


def test_file_whose_name_another_takes_stays_as_it_was(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGT\n")
    with Genome(path) as genome:
        digest = genome.digest()
        (tmp_path / "other.fa").write_text(">a\nTTTT\n")
        (tmp_path / "other.fa").replace(path)
        assert decode(genome.fetch("a", 0, 4)) == "ACGT"
        assert genome.digest() == digest


@pytest.mark.parametrize("blank", [" ", "\t"])
def test_blanks_within_lines_are_no_bases(tmp_path, blank):
    path = tmp_path / "genome.fa"
    path.write_text(f">a\nAC{blank}GT\nACGTA\n")
    with Genome(path) as genome, pytest.raises(GenomeError, match="its lines hold spaces or tabs"):
        genome.fetch("a", 0, 5)
