import gzip

import pytest

from tism_scan.errors import RegionError
from tism_scan.genome.genes import Gene, bed12, read_genes

CHROMS = {"chr1": 5000, "chr2": 900}
# A gene of two exons with a shorter transcript, one that codes for nothing, one of one exon.
GENES = [
    Gene("chr1", "BRCA1", "+", ((100, 200), (300, 450)), (150, 400)),
    Gene("chr1", "XIST", "-", ((1000, 1100), (1200, 1300)), (1300, 1300)),
    Gene("chr2", "SRY", "-", ((10, 500),), (20, 490)),
]

GTF = """\
#!genome-build x
chr1\th\tgene\t101\t450\t.\t+\t.\tgene_id "E1"; gene_name "BRCA1";
chr1\th\ttranscript\t101\t200\t.\t+\t.\tgene_id "E1"; transcript_id "T0"; gene_name "BRCA1";
chr1\th\texon\t101\t200\t.\t+\t.\tgene_id "E1"; transcript_id "T0"; gene_name "BRCA1";
chr1\th\tCDS\t151\t160\t.\t+\t0\tgene_id "E1"; transcript_id "T0"; gene_name "BRCA1";
chr1\th\texon\t301\t450\t.\t+\t.\tgene_id "E1"; transcript_id "T1"; gene_name "BRCA1"; tag "x"; tag "y";
chr1\th\texon\t101\t200\t.\t+\t.\tgene_id "E1"; transcript_id "T1"; gene_name "BRCA1";
chr1\th\tCDS\t151\t200\t.\t+\t0\tgene_id "E1"; transcript_id "T1"; gene_name "BRCA1";
chr1\th\tCDS\t301\t400\t.\t+\t0\tgene_id "E1"; transcript_id "T1"; gene_name "BRCA1";
chr1\th\tstart_codon\t151\t153\t.\t+\t0\tgene_id "E1"; transcript_id "T1"; gene_name "BRCA1";
chr1\th\texon\t1201\t1300\t.\t-\t.\tgene_id "XIST"; transcript_id "T2";
chr1\th\texon\t1001\t1100\t.\t-\t.\tgene_id "XIST"; transcript_id "T2";
chr2\th\texon\t11\t500\t.\t-\t.\tgene_id "E3"; transcript_id "T3"; gene_name "SRY";
chr2\th\tCDS\t21\t490\t.\t-\t0\tgene_id "E3"; transcript_id "T3"; gene_name "SRY";
"""
GFF3 = """\
##gff-version 3
chr1\th\tregion\t1\t5000\t.\t.\t.\tID=region0
chr1\th\tgene\t101\t450\t.\t+\t.\tID=gene:E1;Name=BRCA1;Note=a%3Bb
chr1\th\tmRNA\t101\t200\t.\t+\t.\tID=T0;Parent=gene:E1
chr1\th\tmRNA\t101\t450\t.\t+\t.\tID=T1;Parent=gene:E1;
chr1\th\texon\t101\t200\t.\t+\t.\tID=x1;Parent=T0,T1
chr1\th\texon\t301\t450\t.\t+\t.\tParent=T1
chr1\th\tCDS\t151\t160\t.\t+\t0\tParent=T0
chr1\th\tCDS\t151\t200\t.\t+\t0\tID=c;Parent=T1
chr1\th\tCDS\t301\t400\t.\t+\t0\tID=c;Parent=T1
chr1\th\texon\t1001\t1100\t.\t-\t.\tParent=L1
chr1\th\tncRNA_gene\t1001\t1300\t.\t-\t.\tID=gene:XIST
chr1\th\tlnc_RNA\t1001\t1300\t.\t-\t.\tID=L1;Parent=gene:XIST
chr1\th\texon\t1201\t1300\t.\t-\t.\tParent=L1
chr2\th\tgene\t11\t500\t.\t-\t.\tID=g3;gene=SRY
chr2\th\texon\t11\t500\t.\t-\t.\tParent=g3
chr2\th\tCDS\t21\t490\t.\t-\t0\tParent=g3
##FASTA
>chr1
ACGT
"""
BED = """\
track name=genes
chr2\t10\t500\tSRY\t0\t-\t20\t490\t0\t1\t490,\t0,
chr1\t100\t200\tBRCA1\t0\t+\t150\t160\t0\t1\t100\t0
chr1\t100\t450\tBRCA1\t0\t+\t150\t400\t0\t2\t100,150,\t0,200,
chr1\t1000\t1300\tXIST\t0\t-\t1300\t1300\t0\t2\t100,100,\t0,200,
"""
GENE_PRED = [
    "N0\tchr1\t+\t100\t200\t150\t160\t1\t100,\t200,\t0\tBRCA1\tcmpl\tcmpl\t0,",
    "N1\tchr1\t+\t100\t450\t150\t400\t2\t100,300,\t200,450,\t0\tBRCA1\tcmpl\tcmpl\t0,1,",
    "N2\tchr1\t-\t1000\t1300\t1300\t1300\t2\t1000,1200,\t1100,1300,\t0\tXIST\tnone\tnone\t-1,-1,",
    "N3\tchr2\t-\t10\t500\t20\t490\t1\t10,\t500,\t0\tSRY\tcmpl\tcmpl\t0,",
]
FILES = {
    "gtf": GTF,
    "gff3": GFF3,
    "bed12": BED,
    "genePred": "\n".join(GENE_PRED),
    "refGene": "#bin\tname\n" + "\n".join(f"585\t{line}" for line in GENE_PRED),
    "refFlat": "\n".join("\t".join([line.split("\t")[11], *line.split("\t")[:10]]) for line in GENE_PRED),
}


def read(tmp_path, text, chroms=None, **options):
    (tmp_path / "genes").write_text(text)
    return read_genes(tmp_path / "genes", chroms or CHROMS, **options)


@pytest.mark.parametrize("form", FILES)
def test_same_genes_come_from_every_form(tmp_path, form):
    found = read(tmp_path, FILES[form])
    assert list(found.genes) == GENES
    assert found.n_elsewhere == 0


def test_gzipped_file_is_read(tmp_path):
    (tmp_path / "genes.gtf.gz").write_bytes(gzip.compress(GTF.encode()))
    assert list(read_genes(tmp_path / "genes.gtf.gz", CHROMS).genes) == GENES


def test_what_is_written_as_bed_reads_back_the_same(tmp_path):
    text = "".join("\t".join(row) + "\n" for row in bed12(GENES))
    assert list(read(tmp_path, text).genes) == GENES


def test_genes_without_exons_are_blocks(tmp_path):
    gtf = 'chr1\th\tgene\t11\t20\t.\t+\t.\tgene_id "A";\n'
    gff = "chr1\th\tpseudogene\t11\t20\t.\t+\t.\tID=gene-A\n"
    for text in (gtf, gff, "chr1 10 20 A 0 +\n"):
        (gene,) = read(tmp_path, text).genes
        assert gene == Gene("chr1", "A", "+", ((10, 20),), (20, 20))


def test_a_gene_of_transcripts_without_exons_is_one_block(tmp_path):
    lines = ("transcript\t31\t40", "transcript\t11\t20")
    gtf = "".join(f'chr1\th\t{line}\t.\t+\t.\tgene_id "A";\n' for line in lines)
    (gene,) = read(tmp_path, gtf).genes
    assert gene == Gene("chr1", "A", "+", ((10, 40),), (40, 40))


def test_attributes_of_gtf_are_told_apart_whatever_stands_around_them(tmp_path):
    odd = 'x_gene_id "no"; gene_id  "G1" ;xgene "no";transcript_id "T";gene "A";'
    (gene,) = read(tmp_path, f"chr1\th\texon\t11\t20\t.\t+\t.\t{odd}\n").genes
    assert gene.name == "A"


def test_coding_sequence_stands_for_missing_exons(tmp_path):
    gff = "chr1\th\tgene\t11\t40\t.\t+\t.\tID=A\nchr1\th\tCDS\t11\t20\t.\t+\t0\tID=c;Parent=A\n"
    (gene,) = read(tmp_path, gff).genes
    assert (gene.exons, gene.coding) == (((10, 20),), (10, 20))


def test_copies_of_one_name_that_do_not_overlap_are_genes_of_their_own(tmp_path):
    found = read(tmp_path, "chr1\t10\t20\tMIR1\nchr1\t15\t40\tMIR1\nchr1\t40\t50\tMIR1\nchr2\t1\t9\tMIR1\n")
    assert [(gene.chrom, gene.start, gene.end) for gene in found.genes] == [
        ("chr1", 15, 40),
        ("chr1", 40, 50),
        ("chr2", 1, 9),
    ]


def test_genes_on_other_chroms_are_counted(tmp_path):
    found = read(tmp_path, "chr1\t10\t20\tA\nchrUn\t10\t20\tB\nchrM\t1\t2\tC\n")
    assert ([gene.name for gene in found.genes], found.n_elsewhere) == (["A"], 2)


def test_genes_are_found_under_the_genomes_own_names_of_chroms(tmp_path):
    found = read(tmp_path, "NC_1\t10\t20\tA\nchr2\t10\t20\tB\n", other_names={"NC_1": "chr1"})
    assert [(gene.chrom, gene.name) for gene in found.genes] == [("chr1", "A"), ("chr2", "B")]


def test_gene_across_the_end_of_a_circle_is_cut_there(tmp_path):
    (gene,) = read(tmp_path, "chr2\t800\t1000\tA\t0\t+\t850\t1000\t0\t2\t50,100,\t0,100,\n").genes
    assert (gene.exons, gene.coding) == (((800, 850),), (850, 850))


def test_exons_that_overlap_or_touch_are_one(tmp_path):
    table = "A\tchr1\t+\t0\t90\t0\t0\t3\t0,40,60,\t50,60,90,\n"
    (gene,) = read(tmp_path, table).genes
    assert gene.exons == ((0, 90),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no line; expected genes as GTF, GFF3, BED or a table of UCSC"),
        ("# only a comment\n", "it holds no line"),
        ("chr1\t10\n", r"line 1 is of no known form: 'chr1\\t10'"),
        ("chr1\t10\t20\tA\nchr1\tx\t20\tB\n", r"line 2 cannot be read \(invalid literal"),
        (
            "chr1\t10\t20\tA\nchr1\t20\t10\tB\n",
            r"line 2 cannot be read \(the bases after 20 up to 10 are none",
        ),
        ("chr1\t10\t20\tA\nchr1\t-9\t10\tB\n", r"line 2 cannot be read"),
        ("chr1\t10\t20\tA\nchr1\n", "line 2 cannot be read"),
        (GTF + 'chr1\th\texon\t1\t2\t.\t+\t.\ttranscript_id "T9";\n', "line 15 has no 'gene_id'"),
        ("N\tchr1\t+\t1\t9\t1\t1\t0\t\t\n", "it has no exon"),
        ("N\tchr1\t+\t1\t9\t1\t1\t2\t1,5,\t4,\n", "line 1 cannot be read"),
        ("1\t10\t20\tA\n", "'1' is no chrom of the FASTA; expected a name such as 'chr1'"),
        ("chr1\t6000\t6020\tA\n", r"'A' at chr1:6,001-6,020, past the end of the chrom, 5,000; .*assembly"),
        ("\0\x1f\t\n", "is of no known form"),
    ],
)
def test_file_that_cannot_be_used_says_why_and_where(tmp_path, text, message):
    with pytest.raises(RegionError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("content", [gzip.compress(b"chr1\t1\t2\tA\n" * 9, mtime=0)[:-9], b"\xff\xfe\x00"])
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "genes.gz").write_bytes(content)
    with pytest.raises(RegionError, match=r"cannot read .*genes.gz.*expected genes as GTF"):
        read_genes(tmp_path / "genes.gz", CHROMS)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(RegionError, match=r"cannot read .*No such file"):
        read_genes(tmp_path / "absent", CHROMS)
