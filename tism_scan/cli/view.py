"""``tism-scan view``: look at exported tracks in a web browser."""

import os
import signal
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tism_scan.cli.console import say
from tism_scan.cli.options.annotations import annotations_option, genes_option, say_annotations, say_reading
from tism_scan.cli.options.common import PATH

if TYPE_CHECKING:
    from tism_scan.browser.server import FolderServer

_LOOK_S = 0.1


@click.command(name="view")
@click.argument("folder", type=PATH)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port on this machine. [default: 8765, or any that is free]",
)
@click.option("--genome", type=PATH, help="The FASTA that was scanned; needed to draw letters.")
@click.option(
    "--locus", metavar="REGION|GENE", help="Region or gene to show first, such as chr1:1,000-2,000."
)
@genes_option
@annotations_option
@click.option("--igv-js", type=PATH, help="A copy of igv.js to draw with. [default: fetched once]")
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web pages that may read the tracks too: ucsc, igv, jbrowse, washu, or an address such as "
    "https://my.site. Repeat it for several. [default: none]",
)
@click.option("--no-browser", is_flag=True, help="Only serve the folder and print its address.")
def command(
    folder: Path,
    port: int | None,
    genome: Path | None,
    locus: str | None,
    genes: Path | None,
    annotations: tuple[str, ...],
    igv_js: Path | None,
    allow_origins: tuple[str, ...],
    *,
    no_browser: bool,
) -> int:
    """Serve FOLDER, as `tism-scan export` wrote it, to browsers on this machine, until Ctrl-C.

    Nothing is served to other machines, and no other page that is open in your browser can read the genome.
    Pages named by --allow-origin can read the tracks.

    The page draws with igv.js, which is fetched once, from its public address or with npm, and kept.
    """
    from tism_scan.browser.igv_js import FILE, fetch_igv_js, read_igv_js
    from tism_scan.browser.view import make_server, page_address, read_folder_annotations, read_locus

    say_reading(genes)
    features = read_folder_annotations(folder, genes=genes, others=annotations)
    say_annotations(features)
    place = read_locus(folder, locus, features) if locus is not None else None
    if igv_js is not None:
        read_igv_js(igv_js)
    server = make_server(
        folder,
        genome=genome,
        igv_js_file=igv_js,
        port=port,
        allow_origins=allow_origins,
        annotations=features,
    )
    with server:
        if igv_js is None and not (folder / FILE).exists():
            copy = fetch_igv_js()
            if copy is None:
                say("igv.js could not be fetched; the page will ask for it itself, and needs the internet")
            else:
                server.extras[FILE] = copy
        address = page_address(server.address, place)
        say(f"serving {folder}, stop with Ctrl-C")
        say(address)
        if not no_browser and _has_display():
            # A browser in the terminal would hold us up.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        _serve_until_stopped(server)
        say("stopped")
    return 0


def _serve_until_stopped(server: "FolderServer") -> None:
    """Serve until SIGINT or SIGTERM comes.

    Both are only noted. An exception that a handler raises may meet code that drops it, such as the end of an
    object, and the server would go on.
    """
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: came.append(number))
    thread = threading.Thread(target=server.serve_forever, name="server", daemon=True)
    thread.start()
    while not came and thread.is_alive():
        time.sleep(_LOOK_S)
    server.shutdown()


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or any(
        name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
