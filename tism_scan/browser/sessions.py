"""The tracks for IGV desktop, JBrowse 2 and the WashU Epigenome Browser.

References
----------
IGV desktop draws letters with the renderer DYNSEQ from 2.19.6 on. WashU's hubs have the type ``dynseq``
(Nair et al. 2022, doi 10.1038/s41588-022-01194-w). JBrowse 2 draws bars only.
"""

import json
import re
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from tism_scan.browser.annotations import Annotation
from tism_scan.browser.shown import Shown, TrackFile, identifiers

CHROM_SIZES = "chrom.sizes"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TRACKS_SEEN_FIRST = 10


def igv_desktop_xml(shown: Shown) -> bytes:
    """Return a session of IGV desktop; paths in it are relative to the session's own folder."""
    locus = shown.locus
    settings = {"version": "8", "locus": _xml_text(f"{locus.chrom}:{locus.start + 1}-{locus.end}")}
    if shown.genome_id is not None:
        settings["genome"] = _xml_text(shown.genome_id)
    session = ElementTree.Element("Session", settings)
    resources = ElementTree.SubElement(session, "Resources")
    for annotation in shown.annotations:
        ElementTree.SubElement(resources, "Resource", {"path": f"{annotation.stem}.bed", "type": "bed"})
    panel = ElementTree.SubElement(session, "Panel", {"name": "DataPanel"})
    for track in shown.tracks:
        file = _xml_text(track.path.name)
        ElementTree.SubElement(resources, "Resource", {"path": file, "type": "bw"})
        element = ElementTree.SubElement(panel, "Track", _igv_track(track, file))
        limits = {"minimum": f"{-track.axis:.6g}", "baseline": "0.0", "maximum": f"{track.axis:.6g}"}
        ElementTree.SubElement(element, "DataRange", limits | {"type": "LINEAR", "drawBaseline": "true"})
    ElementTree.indent(session)
    document: bytes = ElementTree.tostring(session, encoding="UTF-8", xml_declaration=True)
    return document + b"\n"


def _igv_track(track: TrackFile, file: str) -> dict[str, str]:
    return {
        "id": file,
        "name": _xml_text(track.name),
        "attributeKey": _xml_text(track.name),
        "clazz": "org.broad.igv.track.DataSourceTrack",
        "renderer": "DYNSEQ",
        "windowFunction": "mean",
        "color": ",".join(map(str, track.colors[0])),
        "altColor": ",".join(map(str, track.colors[1])),
        "autoScale": "false",
        "height": "80",
        "visible": "true",
    }


def _xml_text(text: str) -> str:
    """Return text without the characters that no XML may hold, not even escaped."""
    return _NOT_IN_XML.sub("?", text)


def jbrowse_config(shown: Shown) -> dict[str, Any]:
    """Return a configuration of JBrowse 2: the assembly by its chroms' lengths, the tracks, a first view."""
    names = identifiers(track.path.stem for track in shown.tracks)
    locus = shown.locus
    first = [*(each.stem for each in shown.annotations), *names[:_TRACKS_SEEN_FIRST]]
    return {
        "assemblies": [
            {
                "name": shown.assembly,
                "sequence": {
                    "type": "ReferenceSequenceTrack",
                    "trackId": "reference_sequence",
                    "adapter": {"type": "ChromSizesAdapter", "chromSizesLocation": _uri(CHROM_SIZES)},
                },
            }
        ],
        "tracks": [
            *(_jbrowse_annotation(shown, annotation) for annotation in shown.annotations),
            *(_jbrowse_track(shown, track, name) for track, name in zip(shown.tracks, names, strict=True)),
        ],
        "defaultSession": {
            "name": shown.title,
            "views": [
                {
                    "id": "scores",
                    "type": "LinearGenomeView",
                    "init": {
                        "assembly": shown.assembly,
                        "loc": f"{locus.chrom}:{locus.start + 1}-{locus.end}",
                        "tracks": first,
                    },
                }
            ],
        },
    }


def _jbrowse_track(shown: Shown, track: TrackFile, name: str) -> dict[str, Any]:
    return {
        "type": "QuantitativeTrack",
        "trackId": name,
        "name": track.name,
        "category": [shown.quantity_of(is_exact=track.is_exact)],
        "assemblyNames": [shown.assembly],
        "adapter": {"type": "BigWigAdapter", "bigWigLocation": _uri(quote(track.path.name))},
        "displays": [
            {
                "type": "LinearWiggleDisplay",
                "displayId": f"{name}-LinearWiggleDisplay",
                "minScore": -track.axis,
                "maxScore": track.axis,
                "renderers": {
                    "XYPlotRenderer": {
                        "type": "XYPlotRenderer",
                        "posColor": _hex(track.colors[0]),
                        "negColor": _hex(track.colors[1]),
                    }
                },
            }
        ],
    }


def _jbrowse_annotation(shown: Shown, annotation: Annotation) -> dict[str, Any]:
    return {
        "type": "FeatureTrack",
        "trackId": annotation.stem,
        "name": annotation.name,
        "assemblyNames": [shown.assembly],
        "adapter": {"type": "BedAdapter", "bedLocation": _uri(f"{annotation.stem}.bed")},
    }


def _uri(path: str) -> dict[str, str]:
    return {"uri": path, "locationType": "UriLocation"}


def washu_hub(shown: Shown) -> list[dict[str, Any]]:
    """Return a hub of the WashU Epigenome Browser."""
    annotations = [
        {
            "type": "bigbed",
            "name": annotation.name,
            "url": f"{annotation.stem}.bb",
            "showOnHubLoad": True,
            "metadata": {"genome": shown.assembly},
        }
        for annotation in shown.annotations
    ]
    return annotations + [
        {
            "type": "dynseq",
            "name": track.name,
            "url": quote(track.path.name),
            "showOnHubLoad": i_track < _TRACKS_SEEN_FIRST,
            "options": {
                "label": track.name,
                "color": _hex(track.colors[0]),
                "color2": _hex(track.colors[1]),
                "height": 80,
                "yScale": "fixed",
                "yMin": -track.axis,
                "yMax": track.axis,
            },
            "metadata": {"genome": shown.assembly},
        }
        for i_track, track in enumerate(shown.tracks)
    ]


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def as_json(described: object) -> bytes:
    """Return JSON in ASCII, which is the same in every encoding that a server may claim."""
    return json.dumps(described, indent=1).encode("ascii") + b"\n"
