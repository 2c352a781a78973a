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

    def track(self, name, role):
        """Return where a track is drawn, and how bases become pixels there; None if it has no height."""
        found = self.run(
            """const view = window.tismBrowser.trackViews.find((view) => view.track.name === arguments[0]
                 && view.track.config?.tism_scan?.role === arguments[1]);
               const box = view.viewports[0].viewportElement.getBoundingClientRect();
               const frame = window.tismBrowser.referenceFrameList[0];
               return {left: box.left, top: box.top, width: box.width, height: view.track.height,
                       start: frame.start, bpPerPixel: frame.bpPerPixel, range: view.track.dataRange};""",
            name,
            role,
        )
        return found if found["height"] > 0 else None

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
