"""The page: ``index.html``, which draws ``igv-session.json`` with igv.js, letters and all.

igv.js draws letters below 2 bp a pixel, and fetches the sequence of whatever it draws letters for: without a
visibility window it would download the whole genome when zoomed out. So each track comes twice in the
session: letters near, the highest and lowest score of each pixel far. The page makes one track of the two.
"""

import math
from html import escape
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from tism_scan.browser import igv_js
from tism_scan.browser.annotations import GENES, Annotation
from tism_scan.browser.sessions import CHROM_SIZES
from tism_scan.browser.shown import Shown, TrackFile
from tism_scan.storage.digests import short_digest

SESSION = "igv-session.json"
LETTERS_WINDOW_BP = 5000
# What the server of `tism-scan view` adds to a folder; no file that an export writes begins so.
VIEW = "_view/"
VIEW_SETTINGS = f"{VIEW}settings.json"

_KEY = {
    "mean": ("the reference base supports the prediction", "it lowers the prediction"),
    "tism": ("the other base raises the output", "it lowers it"),
}
_HEIGHT = {
    "mean": "about how much the model's output would fall, on average, if another base stood there",
    "tism": "about how much the model's output would change if the base in the track's name stood there",
}
_LETTERS_HEIGHT = 90
_ANNOTATION_HEIGHT = 56
_ANNOTATION_MARGIN = 22  # the name stands there
_INK = "rgb(70,70,90)"
_OVERVIEW_HEIGHT = 60


def igv_session(shown: Shown) -> dict[str, Any]:
    """Return a session of igv.js. What only our page reads is under ``tism_scan``."""
    locus = shown.locus
    tracks = [
        annotation_track(annotation, f"{annotation.stem}.bed", i_track - len(shown.annotations))
        for i_track, annotation in enumerate(shown.annotations)
    ]
    for i_track, track in enumerate(shown.tracks):
        tracks += [_letters(track, i_track), _overview(track, i_track)]
    return {
        "version": igv_js.VERSION,
        "reference": {
            "id": shown.assembly,
            "name": shown.assembly,
            "format": "chromsizes",
            "fastaURL": CHROM_SIZES,
        },
        "locus": f"{locus.chrom}:{locus.start + 1}-{locus.end}",
        "tracks": tracks,
        "tism_scan": {
            "title": shown.title,
            "plan": shown.plan.digest(),
            "genome_id": shown.genome_id,
            "fasta_names": shown.fasta_names,
            "letters_window_bp": LETTERS_WINDOW_BP,
            "view": VIEW_SETTINGS,
            "names": [track.name for track in shown.tracks],
            "summary": _summary(shown),
        },
    }


def _summary(shown: Shown) -> dict[str, Any]:
    plan, scoring = shown.plan, shown.plan.scoring
    n_bases = sum(shown.chroms.values())
    made_of = {
        "model": f"{plan.model}, weights of SHA-256 {short_digest(plan.weights_digest)}",
        "genome": f"{shown.assembly}, {n_bases:,} bp, SHA-256 {plan.genome_digest[:12]}",
        "windows": f"{scoring.input_bp:,} bp every {scoring.stride:,} bp, stitch {scoring.stitch}, "
        f"strands {scoring.strands}",
        "unit": f"{shown.quantity} of the model's {scoring.output_space}",
        "plan": plan.digest()[:12],
    }
    tracks = [
        {
            "limit": _finite(track.limit),
            "lowest": _finite(track.minimum),
            "highest": _finite(track.maximum),
            "share": track.n_bases / n_bases if n_bases else 0,
            "seqlets": [
                [
                    each.place.chrom,
                    each.place.start,
                    each.place.end,
                    _finite(each.extreme),
                    ", ".join(each.names),
                ]
                for each in track.highest
            ],
        }
        for track in shown.tracks
    ]
    return {"made_of": made_of, "tracks": tracks}


def _finite(number: float) -> float | None:
    """Return a number, or None where JSON has no word for it."""
    return float(f"{number:.4g}") if math.isfinite(number) else None


def annotation_track(annotation: Annotation, url: str, order: int) -> dict[str, Any]:
    """Return a track of features, which igv.js reads whole and finds by name if they are genes."""
    return {
        "type": "annotation",
        "format": "bed",
        "url": quote(url),
        "name": _name(annotation.name),
        "order": order,
        "displayMode": "COLLAPSED",
        "height": _ANNOTATION_HEIGHT,
        "margin": _ANNOTATION_MARGIN,
        "color": _INK,
        "searchable": annotation.is_genes,
        "tism_scan": {"role": GENES if annotation.is_genes else "annotation"},
    }


def _letters(track: TrackFile, i_track: int) -> dict[str, Any]:
    return {
        **_wig(track),
        "name": _name(track.name),
        "order": 2 * i_track,
        "graphType": "dynseq",
        "visibilityWindow": LETTERS_WINDOW_BP,
        "height": _LETTERS_HEIGHT,
        "min": -track.axis,
        "max": track.axis,
        "tism_scan": {"track": i_track, "role": "letters"},
    }


def _overview(track: TrackFile, i_track: int) -> dict[str, Any]:
    return {
        "type": "merged",
        "name": _name(track.name),
        "order": 2 * i_track + 1,
        "height": _OVERVIEW_HEIGHT,
        "alpha": 1,
        # Of a million bases, one is always beyond the limit: far away, only what is in view tells the scale.
        "autoscale": True,
        "tracks": [
            {
                **_wig(track),
                "name": _name(f"{track.name}, {word}"),
                "windowFunction": function,
                "autoscale": True,
            }
            for word, function in (("highest", "max"), ("lowest", "min"))
        ],
        "tism_scan": {"track": i_track, "role": "overview"},
    }


def _wig(track: TrackFile) -> dict[str, Any]:
    return {
        "type": "wig",
        "format": "bigwig",
        "url": quote(track.path.name),
        "color": "rgb({},{},{})".format(*track.colors[0]),
        "altColor": "rgb({},{},{})".format(*track.colors[1]),
    }


def _name(text: str) -> str:
    """Return a track's name for igv.js, which takes it for HTML."""
    return escape(text)


def page_html(shown: Shown) -> str:
    """Return the page."""
    up, down = _KEY[shown.values]
    folder = files("tism_scan.browser") / "page"
    page, style, *scripts = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("index.html", "page.css", "score_track.js", "summary.js", "page.js")
    )
    page = page.replace("@style@", style).replace("@script@", "\n".join(scripts))
    for name, value in {
        "title": shown.title,
        "height": _HEIGHT[shown.values],
        "up": up,
        "down": down,
        "session": SESSION,
        "igv_file": igv_js.FILE,
        "igv_url": igv_js.URL,
        "igv_integrity": igv_js.INTEGRITY,
    }.items():
        page = page.replace(f"@{name}@", escape(value))
    return page
