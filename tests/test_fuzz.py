"""Text and bytes at random into everything that is parsed: only our own errors come out, and in time."""

import contextlib
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_plans import small_plan

from tism_scan.errors import TismScanError
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import parse_region
from tism_scan.genome.wanted import wanted_spans
from tism_scan.plan.tracks import read_track_names, select_tracks
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.lease import current_owner
from tism_scan.store.ledger import FAILED, RUN_KEY, Ledger

CHROMS = {"chr1": 1000, "a:1-2": 50, "HLA*01:01": 7}
NAMES = ("K562_CTCF", "[x]", "K562_CTCF", "a,b")
# Letters that mean something to one parser or another, among any others.
odd_text = st.text(st.sampled_from('chr1:-,*?[]=0123456789 \t\n\r#>;ACGTN{}"\\\0é٣') | st.characters())
quick = settings(
    deadline=timedelta(seconds=2),
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def as_file(lines):
    return "\n".join(lines).encode(errors="surrogatepass")


only_our_errors = contextlib.suppress(TismScanError)


@quick
@given(odd_text)
@example("chr1:" + "9" * 5000)
@example("chr1:1-" + "9" * 5000)
@example("chr1:" + "," * 100_000)
def test_regions(region):
    with only_our_errors:
        interval = parse_region(region, CHROMS)
        assert 0 <= interval.start < interval.end <= CHROMS[interval.chrom]


@quick
@given(st.lists(odd_text, max_size=3), st.lists(odd_text, max_size=3))
@example(["*" * 40 + "x"], [])
@example(["[!" * 30], ["["])
def test_globs_of_chroms(include, exclude):
    with only_our_errors:
        assert wanted_spans(CHROMS, include=include, exclude=exclude).keys() <= CHROMS.keys()


@quick
@given(odd_text, st.lists(odd_text, max_size=2))
@example("9" * 5000, [])
@example("0-" + "9" * 5000, [])
@example("*" * 40 + "x", ["g=" + "*a" * 20 + "b"])
def test_selections_of_tracks(spec, groups):
    with only_our_errors:
        for track in select_tracks(spec, len(NAMES), NAMES, groups):
            assert set(track.outputs) <= set(range(len(NAMES)))


bed_line = st.tuples(
    st.sampled_from([*CHROMS, "chr9", "track", "browser", "#"]),
    st.integers(-5, 2000).map(str) | odd_text,
    st.integers(-5, 2000).map(str) | odd_text,
).map("\t".join)


@quick
@given(st.binary() | st.lists(bed_line, max_size=8).map(as_file))
@example(b"\x1f\x8b")
@example(b"chr1\t" + b"9" * 5000 + b"\t1")
def test_bed_files(tmp_path, content):
    (tmp_path / "x.bed").write_bytes(content)
    with only_our_errors:
        for spans in wanted_spans(CHROMS, beds=[tmp_path / "x.bed"]).values():
            assert all(0 <= start < end for start, end in spans)


fasta_line = (
    st.sampled_from([">", ">a", ">b c", ">a/../b", ";", "", "ACGT", "acgtn", "AC", " ", "\r"]) | odd_text
)


@quick
@given(
    st.binary() | st.lists(fasta_line, max_size=12).map(as_file),
    st.none() | st.binary(),
    st.sampled_from(["x.fa", "x.fa.gz"]),
)
@example(b">a\nAC\n", b"a\t9999999999\t3\t2\t3\n", "x.fa")
@example(b">a\nAC\n", b"a\t-1\t3\t0\t0\n", "x.fa")
@example(b"\x1f\x8b\x08\x04", None, "x.fa.gz")
def test_fasta_files_and_their_indexes(tmp_path, content, index, name):
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / name).write_bytes(content)
    if index is not None:
        (tmp_path / f"{name}.fai").write_bytes(index)
    with only_our_errors, Genome(tmp_path / name) as genome:
        for chrom, length in genome.chroms.items():
            assert len(genome.fetch(chrom, -3, min(length, 1000) + 3)) == min(length, 1000) + 6


@quick
@given(st.binary() | odd_text.map(lambda text: as_file([text])))
def test_files_of_track_names(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    with only_our_errors:
        assert all(read_track_names(tmp_path / "names.txt"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def altered_records(draw):
    """Return a plan's record in which one value, at any depth, is another, or gone."""
    plan = small_plan(2)
    record = {"digest": plan.digest(), "plan": plan.to_json(), "provenance": {}}
    here = json.loads(json.dumps(record))
    top = here
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = draw(st.sampled_from(keys))
        if isinstance(here[key], dict | list) and here[key] and draw(st.booleans()):
            here = here[key]
            continue
        if draw(st.booleans()):
            here[key] = draw(json_like)
        else:
            del here[key]
        return json.dumps(top).encode()


@quick
@given(st.binary() | json_like.map(lambda value: json.dumps(value).encode()) | altered_records())
@example(b"[" * 100_000).via("nests too deeply")
@example(b'{"digest": "", "plan": {"format": 2, "scoring": {"tracks": []}, "chroms": [], "wanted": []}}')
@example(b"9" * 5000)
def test_records_of_a_store(tmp_path, content):
    folder = LocalFolder(tmp_path)
    for key in (RUN_KEY, f"{FAILED}/0.0.json", ".scan/lease/1.json", ".scan/devices/x.txt"):
        folder.put(key, content)
    ledger = Ledger(folder)
    for read in (ledger.plan, ledger.provenance, ledger.failures, ledger.devices):
        with only_our_errors:
            read()
    with only_our_errors:
        current_owner(folder)


@quick
@given(odd_text)
@example("1.2.3.4.0123456789")
@example("9" * 200 + ".0.0.1.00000000")
def test_names_of_markers(tmp_path, name):
    folder = LocalFolder(tmp_path)
    with contextlib.suppress(OSError, ValueError):  # not every text is a file's name
        (tmp_path / ".scan/done").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".scan/done" / name.replace("/", "_")).touch()
    for checksums in Ledger(folder).done().values():
        assert checksums


def test_errors_that_are_not_ours_would_come_out():
    with pytest.raises(ValueError, match="not ours"), only_our_errors:
        raise ValueError("not ours")
