"""A folder of bigWigs as `tism-scan view` serves it: with igv.js and, if there is one, the genome."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tism_scan.browser import igv_js
from tism_scan.browser.annotations import GENES, Annotation, place_of, read_annotations
from tism_scan.browser.files import PAGE
from tism_scan.browser.igv import SESSION, VIEW, VIEW_SETTINGS, annotation_track
from tism_scan.browser.origins import origins_of
from tism_scan.browser.server import FolderServer
from tism_scan.browser.sessions import CHROM_SIZES
from tism_scan.errors import GenomeError, InputError, RegionError
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import Interval, parse_region

_FAULTS_SHOWN = 3
_FORMER_SETTINGS = f"{VIEW}genome.json"  # what pages of earlier releases ask for


def make_server(
    folder: Path,
    *,
    genome: Path | None = None,
    igv_js_file: Path | None = None,
    port: int | None = None,
    allow_origins: Iterable[str] = (),
    annotations: Sequence[Annotation] = (),
) -> FolderServer:
    """Return a server of a folder that `tism-scan export` wrote; it waits for `serve_forever`.

    Parameters
    ----------
    folder : Path
    genome : Path, optional
        FASTA, plain or compressed with bgzip; its index is made if it is missing.
    igv_js_file : Path, optional
        A copy of igv.js, for a folder that has none.
    port : int, optional
    allow_origins : iterable of str
        Whose pages may read the folder, but nothing else; see `tism_scan.browser.origins.origins_of`.
    annotations : sequence of Annotation
        To be shown beside those that were exported, see `read_folder_annotations`; genes take the place of
        exported ones.

    Raises
    ------
    InputError
        If the folder holds no page, the genome is another one, an origin is none, or the port cannot be used.
    """
    origins = origins_of(allow_origins)
    read_chroms(folder)
    extras: dict[str, Path | bytes] = {}
    if igv_js_file is not None:
        extras[igv_js.FILE] = igv_js_file.resolve()
    reference = None
    if genome is not None:
        reference, files = _genome_files(folder, genome.resolve())
        extras |= files
        extras[_FORMER_SETTINGS] = json.dumps(reference).encode()
    for annotation in annotations:
        extras[f"{VIEW}{annotation.stem}.bed"] = annotation.bed()
    tracks = [
        annotation_track(annotation, f"{VIEW}{annotation.stem}.bed", i_track - len(annotations))
        for i_track, annotation in enumerate(annotations)
    ]
    extras[VIEW_SETTINGS] = json.dumps({"genome": reference, "tracks": tracks}).encode()
    return FolderServer(folder, extras, port, origins=origins)


def read_chroms(folder: Path) -> dict[str, int]:
    """Return the length of every chrom that a folder's tracks are on.

    Raises
    ------
    InputError
        If the folder is not one that `tism-scan export` wrote.
    """
    missing = [name for name in (PAGE, SESSION, CHROM_SIZES) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{str(folder)!r} is not there, or holds no {missing[0]}; expected a folder that `tism-scan "
            "export` wrote; export into it again, or check the path"
        )
    try:
        lines = (folder / CHROM_SIZES).read_text(encoding="utf-8").splitlines()
        return {chrom: int(length) for chrom, length in (line.rsplit("\t", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / CHROM_SIZES} cannot be read ({error}); export again") from None


def page_address(address: str, locus: Interval | None) -> str:
    """Return where the page is to be found, at a locus if one is given."""
    if locus is None:
        return address
    return f"{address}?locus={quote(f'{locus.chrom}:{locus.start + 1}-{locus.end}', safe=':')}"


def read_folder_annotations(
    folder: Path, *, genes: Path | None = None, others: Sequence[str] = ()
) -> list[Annotation]:
    """Return genes and other features on a folder's chroms, by their names there or in the FASTA.

    Parameters
    ----------
    folder : Path
    genes, others
        As for `tism_scan.browser.annotations.read_annotations`.

    Raises
    ------
    RegionError
        If a file cannot be read, or none of it is on the chroms.
    InputError
        If a name is empty, or the folder is not one that `tism-scan export` wrote.
    """
    if genes is None and not others:
        return []
    other_names = {in_fasta: name for name, in_fasta in _read_fasta_names(folder).items()}
    return read_annotations(read_chroms(folder), other_names, genes=genes, others=others)


def read_locus(folder: Path, text: str, annotations: Sequence[Annotation] = ()) -> Interval:
    """Return the place that a text such as ``chr1:1,000-2,000``, or a gene's name, stands for.

    Parameters
    ----------
    folder : Path
    text : str
    annotations : sequence of Annotation
        Their genes come before those that were exported.

    Raises
    ------
    RegionError
        If it is neither on the folder's chroms nor a gene.
    """
    try:
        return parse_region(text, read_chroms(folder))
    except RegionError as error:
        exported = folder / f"{GENES}.bed"
        served = [each.bed() for each in annotations if each.is_genes]
        beds = served or ([exported.read_bytes()] if exported.is_file() else [])
        place = next((place for bed in beds if (place := place_of(text.strip(), bed))), None)
        if place is not None:
            return place
        known = "none of its genes has that name" if beds else "--genes FILE lets genes be found by name"
        raise RegionError(f"{error}; {known}") from None


def _genome_files(folder: Path, path: Path) -> tuple[dict[str, str], dict[str, Path | bytes]]:
    """Return how the page asks for a FASTA and its index, and both by the paths they are served under."""
    in_fasta = _read_fasta_names(folder)
    chroms = {in_fasta.get(chrom, chrom): length for chrom, length in read_chroms(folder).items()}
    with Genome(path) as genome:
        _refuse_other_genome(path, genome.chroms, chroms)
    fasta = f"{VIEW}{'genome.fa.gz' if Path(f'{path}.gzi').exists() and _is_gzip(path) else 'genome.fa'}"
    files: dict[str, Path | bytes] = {fasta: path, f"{fasta}.fai": _renamed_index(path, in_fasta)}
    reference = {"id": path.name, "name": path.name, "fastaURL": fasta, "indexURL": f"{fasta}.fai"}
    if fasta.endswith(".gz"):
        files[f"{fasta}.gzi"] = Path(f"{path}.gzi")
        reference["compressedIndexURL"] = f"{fasta}.gzi"
    return reference, files


def _read_fasta_names(folder: Path) -> dict[str, str]:
    """Return the name in the FASTA of each chrom that the tracks call otherwise."""
    try:
        session = json.loads((folder / SESSION).read_bytes())
        return {str(name): str(in_fasta) for name, in_fasta in session["tism_scan"]["fasta_names"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / SESSION} cannot be read ({error!r}); export again") from None


def _renamed_index(path: Path, in_fasta: Mapping[str, str]) -> Path | bytes:
    """Return the index of a FASTA under the tracks' names of its chroms.

    igv.js finds bases by the index alone, so the FASTA itself may keep its own names.
    """
    index = Path(f"{path}.fai")
    if not in_fasta:
        return index
    name_of = {name: alias for alias, name in in_fasta.items()}
    rows = [line.split("\t", 1) for line in index.read_text(encoding="utf-8").splitlines()]
    return "".join(f"{name_of.get(name, name)}\t{rest}\n" for name, rest in rows).encode()


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _refuse_other_genome(path: Path, found: Mapping[str, int], chroms: Mapping[str, int]) -> None:
    """Raise unless a FASTA holds the tracks' chroms: the letters would be those of other bases."""
    faults = [
        f"{chrom} is missing" if chrom not in found else f"{chrom} has {found[chrom]:,} bp, not {length:,}"
        for chrom, length in chroms.items()
        if found.get(chrom) != length
    ]
    if faults:
        more = f" and {len(faults) - _FAULTS_SHOWN:,} more" if len(faults) > _FAULTS_SHOWN else ""
        raise GenomeError(
            f"{str(path)!r} is not the genome of these tracks: {'; '.join(faults[:_FAULTS_SHOWN])}{more}; "
            "expected the FASTA that was scanned"
        )
