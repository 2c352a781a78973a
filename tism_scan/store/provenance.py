"""The versions that a store is made with: recorded when it is begun, compared when it is resumed."""

import logging
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

_PACKAGES = ("tism-scan", "torch", "numpy", "zarr", "ray", "pyfaidx")
_COMPARED = ("tism-scan", "torch")

log = logging.getLogger(__name__)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a scan depends on."""
    return {"python": sys.version.split()[0], **{package: version(package) for package in _PACKAGES}}


def warn_of_other_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn in the log if a store was begun with other versions, which may round differently."""
    changed = [
        f"{name} {before[name]}, now {now[name]}"
        for name in _COMPARED
        if before.get(name, now[name]) != now[name]
    ]
    if changed:
        log.warning(
            "this store was begun with %s; scores may differ in their last digits", "; ".join(changed)
        )
