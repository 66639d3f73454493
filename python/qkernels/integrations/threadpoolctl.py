# SPDX-License-Identifier: Apache-2.0
"""threadpoolctl's limits hold for qkernels, whichever of the two is imported first.

threadpoolctl walks through the loaded shared libraries and hands each whose file name has a known
prefix to a controller. Ours recognises the extension module by its path. If threadpoolctl is not
imported yet, a finder on sys.meta_path waits for it, registers the controller right after its
import, and removes itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from qkernels import _core

_LIBRARY = os.path.realpath(_core.__file__)


def register(threadpoolctl: ModuleType) -> None:
    """Add the controller of qkernels to an imported threadpoolctl, once."""
    known = getattr(threadpoolctl, "_ALL_CONTROLLERS", ())
    if not any(getattr(each, "internal_api", None) == "qkernels" for each in known):
        threadpoolctl.register(_controller(threadpoolctl))


def _controller(threadpoolctl: ModuleType) -> type:
    base: Any = threadpoolctl.LibController

    class QKernelsController(base):  # type: ignore[misc]
        """Sees and limits the thread pool of qkernels."""

        user_api = "qkernels"
        internal_api = "qkernels"
        filename_prefixes = (os.path.basename(_LIBRARY).lower(),)  # noqa: PTH119 - as they do
        check_symbols = ("PyInit__core",)

        def get_num_threads(self) -> int:
            return _core.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            # A number set for this thread alone would hide the process-wide one.
            if _core.get_local_threads():
                _core.set_local_threads(num_threads)
            else:
                _core.set_num_threads(num_threads)

        def get_version(self) -> str:
            return _core.__version__

        def set_additional_attributes(self) -> None:
            # Another package's extension may have the same file name: without its handle it
            # fails the check of symbols that follows, and is passed over.
            if os.path.realpath(self.filepath) != _LIBRARY:
                self.dynlib = None

    return QKernelsController


class _Waiter:
    """A meta path finder that notices the first import of threadpoolctl."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "threadpoolctl":
            return None
        for finder in sys.meta_path:
            if not isinstance(finder, _Waiter) and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    loader: Any = _RegisteringLoader(spec.loader)
                    spec.loader = loader if spec.loader is not None else None
                    return spec
        return None


class _RegisteringLoader:
    """Loads through another loader, then registers."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # Not in find_spec: looking for a module is not yet importing it.
        sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Waiter)]
        self._loader.exec_module(module)
        register(module)


def install() -> None:
    """Register now if threadpoolctl is imported, otherwise as soon as it is."""
    loaded = sys.modules.get("threadpoolctl")
    if loaded is not None and hasattr(loaded, "register"):
        register(loaded)
    else:
        sys.meta_path.insert(0, _Waiter())
