"""The one way in which functions of the core are compiled.

Two facts decide the options.  Passing arrays between compiled functions leaves reference counts that the optimiser does
not remove, so everything is inlined and reference counting is off (which also makes any allocation in the event loop a
compile error).  And numba's cache does not notice a changed callee in another module, so the cache folder is named
after a hash of all sources of the core.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

_SETTINGS: Any = config
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = (
    *("control/*.py", "prewarm/*.py"),
    *(f"simulator/{name}.py" for name in ("engine", "log", "serving", "sharing")),
    *("state.py", "observe.py", "network.py"),
)

INNER: dict[str, Any] = {"forceinline": True, "_nrt": False, "error_model": "numpy"}
"""Options of functions that are called from compiled code.  ``_nrt`` is private to numba: it stands here alone."""
APART: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
"""Options of functions that compiled code calls where they stand."""
OUTER: dict[str, Any] = {"cache": True, "_nrt": False, "error_model": "numpy"}
"""Options of functions that Python calls."""


@cache
def cache_folder() -> Path:
    """Where kernels compiled from the present sources are kept: a user cache folder, or ``TYCHE_CACHE_DIR``."""
    digest = hashlib.sha256(f"{numba.__version__} {_SETTINGS.BOUNDSCHECK}".encode())
    for pattern in _SOURCES:
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    base = os.environ.get("TYCHE_CACHE_DIR")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tyche-env"
    folder = root / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"tyche-env-{os.getuid()}" / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def inner(function: F) -> F:
    """Compile a function that only compiled functions call; it is inlined into each caller."""
    return cast(F, numba.njit(**INNER)(function))


def apart(function: F) -> F:
    """Compile a function that compiled functions call and that stays outside: what is seldom needed slows nobody down.

    It gets handles instead of tables, and opens them.
    """
    return cast(F, numba.njit(**APART)(function))


def outer(function: F) -> F:
    """Compile a function that Python calls; its machine code is cached across processes."""
    before = _SETTINGS.CACHE_DIR
    _SETTINGS.CACHE_DIR = str(cache_folder())
    try:
        return cast(F, numba.njit(**OUTER)(function))
    finally:
        _SETTINGS.CACHE_DIR = before
