"""All of the browsers' files, written beside the bigWigs."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tism_scan.browser import igv_js
from tism_scan.browser.annotations import Annotation
from tism_scan.browser.description import chrom_sizes, readme_text, tracks_table
from tism_scan.browser.igv import SESSION, igv_session, page_html
from tism_scan.browser.sessions import CHROM_SIZES, as_json, igv_desktop_xml, jbrowse_config, washu_hub
from tism_scan.browser.shown import Shown, TrackFile, known_assembly
from tism_scan.browser.ucsc import hub_text
from tism_scan.errors import InputError
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Values
from tism_scan.storage.atomic import replaced_file

PAGE = "index.html"

_GENOME_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_browser_options(genome_id: str | None, igv_js_file: Path | None) -> None:
    """Raise unless `browser_files` can use these, so that an export fails before its work.

    Raises
    ------
    InputError
        If the genome's name cannot be an assembly's, or the copy of igv.js is none.
    """
    if genome_id is not None and not _GENOME_ID.fullmatch(genome_id):
        raise InputError(
            f"{genome_id!r} is no assembly's name; expected letters, digits, '.', '_' and '-', such as hg38"
        )
    if igv_js_file is not None:
        igv_js.read_igv_js(igv_js_file)


def names_of_browser_files(annotations: Sequence[Annotation] = (), *, with_igv_js: bool = False) -> list[str]:
    """Return the names of what `browser_files` makes."""
    of_annotations = [f"{each.stem}{suffix}" for each in annotations for suffix in (".bed", ".bb")]
    return [*_MAKERS, *of_annotations, *([igv_js.FILE] if with_igv_js else [])]


def browser_files(
    tracks: Sequence[TrackFile],
    plan: ScanPlan,
    provenance: Mapping[str, Any] | None = None,
    *,
    chroms: Mapping[str, int] | None = None,
    values: Values = "mean",
    genome_id: str | None = None,
    igv_js_file: Path | None = None,
    annotations: Sequence[Annotation] = (),
    slopes: Mapping[str, float] | None = None,
) -> dict[str, bytes]:
    """Return what belongs beside the bigWigs, by the names of the files.

    Parameters
    ----------
    tracks : sequence of TrackFile
        At least one.
    plan : ScanPlan
        What the scores are.
    provenance : mapping, optional
        Versions that the scan was made with.
    chroms : mapping from str to int, optional
        Every chrom's length under the name that the bigWigs use, in the plan's order; the plan's by default.
    values : {"mean", "tism"}
        Mean TISM, or TISM of one alternative base in each file.
    genome_id : str, optional
        The assembly's name in the browsers; by default what the chroms' lengths tell, if they are of a common
        assembly.
    igv_js_file : Path, optional
        A copy of igv.js to put beside the page, which needs no internet then.
    annotations : sequence of Annotation
        Genes and other features, on the same chroms.
    slopes : mapping from str to float, optional
        Of exact ISM by TISM, by the track's name, as `tism-scan audit --store` keeps them.

    Raises
    ------
    InputError
        If the genome's name or the copy of igv.js cannot be used.
    ValueError
        If there is no track.
    """
    if not tracks:
        raise ValueError("a page without tracks; expected at least one")
    check_browser_options(genome_id, igv_js_file)
    chroms = plan.chroms if chroms is None else chroms
    genome_id = genome_id or known_assembly(chroms)
    shown = Shown(
        tuple(tracks),
        plan,
        chroms,
        provenance or {},
        genome_id,
        values,
        tuple(annotations),
        slopes or {},
    )
    contents = {name: make(shown) for name, make in _MAKERS.items()}
    for annotation in annotations:
        contents[f"{annotation.stem}.bed"] = annotation.bed()
        contents[f"{annotation.stem}.bb"] = annotation.bigbed(chroms)
    if igv_js_file is not None:
        contents[igv_js.FILE] = igv_js.read_igv_js(igv_js_file)
    return contents


def write_browser_files(
    folder: str | Path,
    tracks: Sequence[TrackFile],
    plan: ScanPlan,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Path]:
    """Return the files that it writes into a folder of bigWigs, each whole or not at all.

    What has one of their names is replaced. The parameters are those of `browser_files`.

    Raises
    ------
    InputError
        If the genome's name or the copy of igv.js cannot be used.
    ExportError
        If a file cannot be written.
    ValueError
        If there is no track.
    """
    contents = browser_files(tracks, plan, provenance, **options)
    for name, content in contents.items():
        with replaced_file(Path(folder) / name) as file:
            file.write(content)
    return [Path(folder) / name for name in contents]


_MAKERS: dict[str, Callable[[Shown], bytes]] = {
    "README.txt": lambda shown: readme_text(shown).encode(),
    "tracks.tsv": lambda shown: tracks_table(shown).encode(),
    CHROM_SIZES: lambda shown: chrom_sizes(shown).encode(),
    "hub.txt": lambda shown: hub_text(shown).encode(),
    "hub.washu.json": lambda shown: as_json(washu_hub(shown)),
    "igv-desktop.xml": igv_desktop_xml,
    "config.json": lambda shown: as_json(jbrowse_config(shown)),
    SESSION: lambda shown: as_json(igv_session(shown)),
    PAGE: lambda shown: page_html(shown).encode(),
}
