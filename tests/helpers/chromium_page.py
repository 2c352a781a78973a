"""A page in Chromium, and a server for it."""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from serving import serving

from tism_scan.browser.view import make_server

# As the page draws them.
LETTERS = np.array([(0x10, 0x96, 0x48), (0x25, 0x5C, 0x99), (0xF7, 0xA2, 0x1B), (0xD6, 0x28, 0x39)])
FACTOR = "CTCF"


def colored(pixels, colors):
    """Return where pixels have one of some colors, bool (len(colors), height, width)."""
    distance = np.abs(pixels[None].astype(int) - np.asarray(colors)[:, None, None, :]).max(axis=-1)
    return distance < 40


@dataclass
class Page:
    """A page that is open in Chromium."""

    driver: object
    seconds: float = 30

    def run(self, script, *arguments):
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, what):
        """Wait until a script returns something true, and return it."""
        until = time.monotonic() + self.seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"{what} after {self.seconds} s; {self.message()!r}"
            time.sleep(0.05)
        return found

    def open(self, address):
        """Open an address, and wait until the page is drawn, or says why not."""
        self.driver.get(address)
        return self.wait("return document.body.dataset.ready", "not drawn")

    def go(self, locus):
        """Go to a locus."""
        self.driver.execute_async_script("window.tismBrowser.search(arguments[0]).then(arguments[1])", locus)
        self.settle()

    def settle(self):
        """Wait until nothing is being fetched or drawn."""
        quiet = """return window.tismBrowser.trackViews.every(
            (view) => view.viewports.every((viewport) => !viewport.isLoading?.() && !viewport.loading))"""
        self.wait(quiet, "still loading")
        time.sleep(0.7)

    def message(self):
        """Return what the page tells its reader."""
        return self.run("return document.getElementById('message')?.textContent")

    def pixels(self):
        """Return what is seen, uint8 (height, width, 3), in CSS pixels."""
        return np.asarray(Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB"))

    def track(self, name):
        """Return where a track is drawn, and how bases become pixels there."""
        return self.run(
            """const view = window.tismBrowser.trackViews.find((view) => view.track.name === arguments[0]);
               const box = view.viewports[0].viewportElement.getBoundingClientRect();
               const frame = window.tismBrowser.referenceFrameList[0];
               return {left: box.left, top: box.top + NAME_STRIP_PX, width: box.width,
                       height: view.track.height - NAME_STRIP_PX, isNear: view.track.isNear,
                       start: frame.start, bpPerPixel: frame.bpPerPixel, range: view.track.dataRange};""",
            name,
        )

    def columns(self):
        """Return the top and height of each part of each track that has a height, by the part's name."""
        return self.run(
            """const box = (part) => {
                 const {top, height} = part.getBoundingClientRect();
                 return [top, height];
               };
               const parts = (view) => ({
                 axis: box(view.axis), data: box(view.viewports[0].viewportElement),
                 handle: box(view.dragHandle), gear: box(view.gearContainer),
               });
               return window.tismBrowser.trackViews
                 .filter((view) => view.track.config?.tism_scan && view.track.height).map(parts);"""
        )

    def console(self):
        """Return what the page wrote to the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Return the requests since the last call: each one's address and headers."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                request = message["params"]["request"]
                if urlsplit(request["url"]).scheme not in ("chrome", "data", "blob"):
                    found.append((request["url"], request["headers"]))
        return found


def served(folder, **options):
    """Serve a folder as `tism-scan view` does, and yield its address; a context manager."""
    return serving(make_server(Path(folder), port=0, **options))
