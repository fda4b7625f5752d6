"""The one way in which functions of the core are compiled.

Two facts decide the options.  Passing arrays between compiled functions leaves reference counts that the optimiser does
not remove, so everything is inlined and reference counting is off (which also makes any allocation in the event loop a
compile error).  And numba's cache does not notice a changed callee in another module, so the cache folder is named
after a hash of all sources of the core.  Nothing else is in the name but what machine code depends on, so that two
checkouts or environments with equal sources share what either has compiled.  Reading a cache runs what is in it:
:mod:`tyche_env.kernel_place` says which folders are used, and each file is looked at before it is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numba
from llvmlite import binding
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

from tyche_env.kernel_place import COST, Place, doubt, place_of, say

F = TypeVar("F", bound=Callable[..., Any])

_SETTINGS: Any = config
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = (
    *("control/*.py", "prewarm/*.py"),
    *(f"simulator/{name}.py" for name in ("engine", "log", "serving", "sharing")),
    *(
        f"{name}.py"
        for name in (
            *("codes", "state", "observe", "spaces", "scaling", "network", "world", "draws", "tables", "metrics"),
        )
    ),
)
_LOCATORS = "CACHE_LOCATOR_CLASSES"
"""Numba's setting for who says where machine code is kept; older versions have none."""

INNER: dict[str, Any] = {"forceinline": True, "_nrt": False, "error_model": "numpy"}
"""Options of functions that are called from compiled code.  ``_nrt`` is private to numba: it stands here alone."""
APART: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
"""Options of functions that compiled code calls where they stand."""
OUTER: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
"""Options of functions that Python calls."""
_FUSED: dict[str, Any] = {"fastmath": {"contract"}}
"""More options: a product and the sum that it goes into may be rounded once."""


@cache
def kernel_place() -> Place:
    """Where kernels compiled from the present sources are kept: a user cache folder, or ``TYCHE_CACHE_DIR``.

    Raises:
        UserError: others can write where the user wants kernels to be.
    """
    about = [numba.__version__, _SETTINGS.BOUNDSCHECK, sys.version_info[:2], binding.get_host_cpu_name()]
    if not hasattr(_SETTINGS, _LOCATORS):
        about.append(_PACKAGE)  # numba's own locator keeps machine code by path
    digest = hashlib.sha256(" ".join(map(str, about)).encode())
    for pattern in _SOURCES:
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return place_of(digest.hexdigest()[:16])


class Locator:
    """Where numba keeps the machine code of one function: by module, line and content, wherever the source lies.

    The names of the methods are numba's.
    """

    def __init__(self, module: str, path: Path, line: int) -> None:
        self._module, self._line = module, line
        self._py_file = str(path)  # numba's warnings show it
        self._stamp = hashlib.sha256(path.read_bytes()).hexdigest()

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Locator | None:
        """The locator of a function; None if its source is no file."""
        path = Path(py_file)
        if not path.is_file():
            return None
        return cls(py_func.__module__, path, py_func.__code__.co_firstlineno)

    def ensure_cache_path(self) -> None:
        """Make the folder, unless what is in its place may be another's."""
        folder = Path(self.get_cache_path())
        if reason := doubt(folder):
            raise PermissionError(errno.EPERM, reason)
        folder.mkdir(mode=0o700, exist_ok=True)

    def get_cache_path(self) -> str:
        """The folder."""
        return str(_folder() / self._module)

    def get_source_stamp(self) -> str:
        """What has to be equal for machine code to be used again."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """Tells functions of one name apart."""
        return str(self._line)


class _Files(IndexDataCacheFile):
    """The files of one function; those that somebody else may have written count as missing.

    The names of the methods are numba's.
    """

    def _load_index(self) -> dict[Any, str]:
        return super()._load_index() if _is_safe(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        if not _is_safe(path):
            raise FileNotFoundError(path)  # as if it had been removed
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        """As numba's, but whatever the user's umask is, nobody else may write."""
        fresh = Path(f"{filepath}.tmp.{uuid.uuid4().hex[:16]}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file
            fresh.replace(filepath)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


class _Cache(FunctionCache):
    """Numba's cache, which does without what it cannot write."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            say(f"kernels cannot be kept in {_folder()} ({error.strerror}): {COST}")


def _is_safe(path: str) -> bool:
    reason = doubt(Path(path))
    if reason:
        say(f"a compiled kernel is not used, since {reason}: it is compiled anew")
    return not reason


def _folder() -> Path:
    folder = kernel_place().folder
    assert folder is not None, "functions are not cached without a folder"
    return folder


def inner(function: F) -> F:
    """Compile a function that only compiled functions call; it is inlined into each caller."""
    return cast(F, numba.njit(**INNER)(function))


def apart(function: F) -> F:
    """Compile a function that compiled functions call and that stays outside: what is seldom needed slows nobody down.

    It gets the state, or handles, which it opens; no single tables, whose reference counts would stay.
    """
    return cast(F, numba.njit(**APART)(function))


def inner_fused(function: F) -> F:
    """As :func:`inner`, for numbers that nothing is decided by: twice as fast, and rounded as the processor likes."""
    return cast(F, numba.njit(**INNER, **_FUSED)(function))


def outer(function: F) -> F:
    """Compile a function that Python calls; its machine code is cached across processes."""
    return _cached(function, OUTER)


def outer_fused(function: F) -> F:
    """As :func:`outer`, see :func:`inner_fused`."""
    return _cached(function, OUTER | _FUSED)


def _cached(function: F, options: dict[str, Any]) -> F:
    compiled = numba.njit(**options)(function)
    if kernel_place().folder is None:
        return cast(F, compiled)
    changes = {"CACHE_DIR": str(_folder())}
    if hasattr(_SETTINGS, _LOCATORS):
        changes[_LOCATORS] = f"{Locator.__module__}.{Locator.__qualname__}"
    before = {name: getattr(_SETTINGS, name) for name in changes}
    try:
        vars(_SETTINGS).update(changes)
        compiled._cache = _Cache(function)  # what numba's enable_caching does with its own
    finally:
        vars(_SETTINGS).update(before)
    return cast(F, compiled)
