"""Extensions that other packages or single files bring: policies, pre-warming, routing, predictors, rewards.

A package names what it brings in entry points; a file ``FILE.py`` defines an object whose name is its kind.  Both are
asked for where a built-in is: ``--policy NAME``, ``prewarm: {policy: FILE.py}``.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from traces.errors import did_you_mean
from tyche_env.errors import UserError

GROUPS = {
    "policy": "tyche_env.policies",
    "prewarm": "tyche_env.prewarm",
    "routing": "tyche_env.routing",
    "predictor": "tyche_env.predictors",
    "reward": "tyche_env.rewards",
}
"""Entry-point group of each kind."""


class ExtensionError(UserError):
    """An extension that is not there or cannot be loaded; the message names it and what would be right."""


def names(kind: str) -> tuple[str, ...]:
    """Names of the installed extensions of a kind."""
    return tuple(sorted(entry_points(group=GROUPS[kind]).names))


def is_file(reference: str) -> bool:
    """Whether an extension is asked for as a file."""
    return reference.endswith(".py")


def find(kind: str, reference: str, wanted: type | None = None, known: Iterable[str] = ()) -> Any:
    """What an installed package, or a file, brings under a name.

    Args:
        kind: a key of :data:`GROUPS`.
        reference: name of an entry point, or path of a Python file.
        wanted: class that the object must have; None: any.
        known: names of the built-in ones, for the message.

    Raises:
        ExtensionError: there is none of that name, it cannot be imported, or it is something else.
    """
    if is_file(reference):
        found = getattr(import_file(Path(reference), kind), kind, None)
        if found is None:
            raise ExtensionError(f"{kind} {reference}: the file defines no object `{kind}`")
    else:
        found = _load(kind, _point(kind, reference, known))
    if wanted is not None and not isinstance(found, wanted):
        raise ExtensionError(f"{kind} {reference}: is a {type(found).__name__}, expected a {wanted.__name__}")
    return found


def digest(kind: str, reference: str) -> str | None:
    """What tells one version of an extension from another: content of a file, version of a package; None if unknown."""
    if is_file(reference):
        path = Path(reference)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None
    for point in entry_points(group=GROUPS[kind], name=reference):
        version = point.dist.version if point.dist is not None else "unknown"
        return f"{point.value} {version}"
    return None


def import_file(path: Path, what: str) -> ModuleType:
    """Run a Python file and return its module.

    Raises:
        ExtensionError: there is no such file, or it fails; the message names the line.
    """
    if not path.is_file():
        raise ExtensionError(f"{what} {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"user_{what}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ExtensionError(f"{what} {path}: cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ExtensionError(f"{what} {path}: {describe(error, path)}") from error
    return module


def describe(error: BaseException, path: Path) -> str:
    """An error of a user's file and the line of that file where it went wrong."""
    line, trace = None, error.__traceback__
    file = str(path.absolute())  # as the import system names it
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    return f"{type(error).__name__}: {error}{'' if line is None else f' (line {line})'}"


def _point(kind: str, name: str, known: Iterable[str]) -> EntryPoint:
    for point in entry_points(group=GROUPS[kind], name=name):
        return point
    hint = did_you_mean(name, (*known, *names(kind)))
    raise ExtensionError(
        f"{kind} {name}: there is no such {kind}; {hint} (your own is an entry point or a file, FILE.py)"
    )


def _load(kind: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise ExtensionError(f"{kind} {point.name}: {point.value}: {type(error).__name__}: {error}") from error
