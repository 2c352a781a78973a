"""``hub.txt``: the tracks for the UCSC Genome Browser, in one file.

References
----------
The settings are those of UCSC's Track Database Definition Document and of Track Data Hubs (Raney et al. 2014,
doi 10.1093/bioinformatics/btt637). ``logo on`` draws letters where a bigWig is seen base by base.
"""

from collections.abc import Mapping
from urllib.parse import quote

from tism_scan.browser.annotations import Annotation
from tism_scan.browser.shown import Shown, TrackFile, identifiers
from tism_scan.plan.labels import one_line

LONGEST_SHORT_LABEL = 17
LONGEST_LONG_LABEL = 76
_TRACKS_SEEN_FIRST = 10


def hub_text(shown: Shown) -> str:
    """Return the hub: its own stanza, the genome's, a composite track, and its tracks."""
    hub, genome, parent = _hub(shown), _genome(shown), _parent(shown)
    names = identifiers(track.path.stem for track in shown.tracks)
    # A track may not bear the composite's name either.
    names = [name if name != shown.name else f"{name}_track" for name in names]
    children = [_child(shown, i, name) for i, name in enumerate(names)]
    others = [_annotation(shown, annotation) for annotation in shown.annotations]
    return "\n".join(_stanza(settings) for settings in (hub, genome, *others, parent, *children))


def _hub(shown: Shown) -> dict[str, str]:
    return {
        "hub": shown.name,
        "shortLabel": "tism_scan",
        "longLabel": _label(shown.title, LONGEST_LONG_LABEL),
        "useOneFile": "on",
        # UCSC wants one. Write your own before you register the hub as a public one.
        "email": "nobody@example.org",
    }


def _genome(shown: Shown) -> dict[str, str]:
    if shown.genome_id is not None:
        return {"genome": _label(shown.genome_id, 100)}
    return {
        "genome": shown.assembly,
        "twoBitPath": "genome.2bit",
        "organism": "unknown",
        "scientificName": "unknown",
        "description": _label(f"Genome of SHA-256 {shown.plan.genome_digest[:12]}", LONGEST_LONG_LABEL),
        "defaultPos": _label(f"{shown.locus.chrom}:{shown.locus.start + 1}-{shown.locus.end}", 300),
    }


def _parent(shown: Shown) -> dict[str, str]:
    axis = max(track.axis for track in shown.tracks)
    return {
        "track": shown.name,
        "compositeTrack": "on",
        "shortLabel": shown.quantity,
        "longLabel": _label(shown.title, LONGEST_LONG_LABEL),
        "type": f"bigWig {-axis:.6g} {axis:.6g}",
        "visibility": "full",
        "autoScale": "group",
        "maxHeightPixels": "200:64:16",
        "dragAndDrop": "subTracks",
        **_drawing(shown.tracks[0]),
    }


def _child(shown: Shown, i_track: int, name: str) -> dict[str, str]:
    track = shown.tracks[i_track]
    return {
        "track": name,
        "parent": f"{shown.name} {'on' if i_track < _TRACKS_SEEN_FIRST else 'off'}",
        "bigDataUrl": quote(track.path.name),
        "shortLabel": _label(track.name, LONGEST_SHORT_LABEL),
        "longLabel": _label(
            track.name if track.is_exact else f"{track.name}, {shown.quantity_of(is_exact=False)}",
            LONGEST_LONG_LABEL,
        ),
        "type": f"bigWig {-track.axis:.6g} {track.axis:.6g}",
        **_drawing(track),
    }


def _annotation(shown: Shown, annotation: Annotation) -> dict[str, str]:
    return {
        "track": f"{shown.name}_{annotation.stem}",
        "bigDataUrl": f"{annotation.stem}.bb",
        "shortLabel": _label(annotation.name, LONGEST_SHORT_LABEL),
        "longLabel": _label(annotation.name, LONGEST_LONG_LABEL),
        "type": f"bigBed {annotation.n_columns}",
        "visibility": "pack",
    }


def _drawing(track: TrackFile) -> dict[str, str]:
    above, below = track.colors
    return {
        "color": ",".join(map(str, above)),
        "altColor": ",".join(map(str, below)),
        "alwaysZero": "on",
        "windowingFunction": "mean+whiskers",
        "logo": "on",
    }


def _label(text: str, longest: int) -> str:
    """Return a setting's value: a backslash at its end would join the next line to it."""
    return one_line(text, longest).rstrip("\\ ") or "-"


def _stanza(settings: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in settings.items())
