"""Which web pages may read what the server serves: origins that a user names, and names of this machine.

A page of another origin may read an answer only if the answer names that origin (CORS). That is not enough: a
page may point a host name of its own at 127.0.0.1 (DNS rebinding) and then counts as one of ours, but its
requests carry that name in ``Host``.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from tism_scan.errors import InputError

KNOWN = {
    "ucsc": (
        "https://genome.ucsc.edu",
        "https://genome-euro.ucsc.edu",
        "https://genome-asia.ucsc.edu",
    ),
    "igv": ("https://igv.org",),
    "jbrowse": ("https://jbrowse.org",),
    "washu": ("https://epigenomegateway.wustl.edu",),
}
_USUAL_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def origins_of(words: Iterable[str]) -> frozenset[str]:
    """Return origins as browsers send them.

    Parameters
    ----------
    words : iterable of str
        Words of `KNOWN`, or addresses such as ``https://my.site:8443``.

    Raises
    ------
    InputError
        If one is neither.
    """
    found: set[str] = set()
    for word in words:
        found |= set(KNOWN.get(word.lower()) or (_origin_of(word),))
    return frozenset(found)


def is_loopback(host: str | None) -> bool:
    """Return whether a Host header holds a name of this machine that no other machine can take."""
    return _LOOPBACK.fullmatch(host or "") is not None


def _origin_of(text: str) -> str:
    try:
        parts = urlsplit(text.lower().removesuffix("/"))
        port = parts.port
    except ValueError:
        raise _no_origin(text) from None
    host = parts.netloc.removesuffix("" if port is None else f":{port}")
    if parts.scheme not in _USUAL_PORTS or not _HOST.fullmatch(host) or parts.path or parts.query:
        raise _no_origin(text)
    return f"{parts.scheme}://{host}" + ("" if port in (None, _USUAL_PORTS[parts.scheme]) else f":{port}")


def _no_origin(text: str) -> InputError:
    return InputError(
        f"{text!r} is no origin; expected {', '.join(KNOWN)}, or an address such as https://my.site:8443, "
        "without a path"
    )
