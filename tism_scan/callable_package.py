"""Packages that can be called.

`tism_scan.scan` and `tism_scan.plot` are packages, and functions of the Python API have these names:
``ts.scan(...)``, ``ts.plot(...)``. Python puts a package into its parent's namespace when it is imported,
whatever was there, so the one object must be both: the package, which calls the function of its name in
`tism_scan.api`.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that calls the function of its name in `tism_scan.api`, which is loaded only then."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the function."""
        return self._function()(*arguments, **settings)

    @property
    def __signature__(self) -> inspect.Signature:
        """What a notebook or an editor shows of the call."""
        return inspect.signature(self._function())

    def _function(self) -> Callable[..., Any]:
        package, _, name = self.__name__.rpartition(".")
        function: Callable[..., Any] = getattr(importlib.import_module(f"{package}.api"), name)
        return function


def make_callable(name: str) -> None:
    """Have a package, which is being imported, be called as a function."""
    sys.modules[name].__class__ = CallablePackage
