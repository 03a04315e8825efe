"""Loads the client libraries of key services at their first use, not at the start of every command.

securesystemslib imports all of them as soon as any of it is imported. A command that uses none of them would start half a second later for
it, where the extras of Tufline for such keys are installed.
"""

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

LATE: Final = frozenset({"boto3", "hvac"})
"""The libraries, by the names of their packages. securesystemslib takes nothing out of these when it imports them."""


class _Standin(ModuleType):
    """Stands in for a package until something in it, such as another module, is used."""

    is_imported = False

    def __getattr__(self, name: str) -> Any:
        """Load the package, and return what was asked for."""
        if not self.is_imported:
            raise AttributeError(name)  # the import itself looks for a ``__path__``
        return getattr(_FINDER.load(self), name)


class _Finder(MetaPathFinder, Loader):
    """Gives a stand-in for each package in ``LATE`` that is installed."""

    def __init__(self) -> None:
        self._loaded: dict[str, ModuleType] = {}
        # A thread that comes second waits until the package is loaded whole; loading it asks for parts of the package itself.
        self._lock = threading.RLock()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how to import one of the packages; None for any other, and for one that is loaded by now or not installed."""
        if fullname not in LATE or fullname in self._loaded or PathFinder.find_spec(fullname, path, target) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make a stand-in."""
        return _Standin(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the stand-in empty."""
        module.is_imported = True  # type: ignore[attr-defined]

    def load(self, standin: ModuleType) -> ModuleType:
        """Return the package that a stand-in is for, loaded once."""
        name = standin.__name__
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = standin  # from here on this finder leaves the name to Python's own
                if sys.modules.get(name) is standin:
                    del sys.modules[name]
                try:
                    self._loaded[name] = import_module(name)
                except BaseException:
                    del self._loaded[name]
                    raise
            return self._loaded[name]


_FINDER: Final = _Finder()


def install() -> None:
    """Import the packages in ``LATE`` late from here on, in this process."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
