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

from traces.blame import blaming, home_of, package_of
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
        ExtensionError: there is none of that name, or it is something else.
        UserCodeError: it cannot be imported.
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


def require(kind: str, reference: str, known: Iterable[str] = ()) -> None:
    """Refuse what :func:`find` would not find; runs none of it.

    Raises:
        ExtensionError: there is none of that name, or no such file.
    """
    if not is_file(reference):
        _point(kind, reference, known)
    elif not Path(reference).is_file():
        raise ExtensionError(f"{kind} {reference}: there is no such file")


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
        ExtensionError: there is no such file.
        UserCodeError: it fails; the message names the line.
    """
    require(what, str(path))
    spec = importlib.util.spec_from_file_location(f"user_{what}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ExtensionError(f"{what} {path}: cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    with blaming(f"{what} {path}", path):
        spec.loader.exec_module(module)
    return module


def home(reference: str, found: object) -> str | None:
    """The file that an extension stands in; None if that is unknown.

    Args:
        reference: how it was asked for, see :func:`find`.
        found: the extension.
    """
    return reference if is_file(reference) else home_of(found)


def _point(kind: str, name: str, known: Iterable[str]) -> EntryPoint:
    for point in entry_points(group=GROUPS[kind], name=name):
        return point
    hint = did_you_mean(name, (*known, *names(kind)))
    raise ExtensionError(
        f"{kind} {name}: there is no such {kind}; {hint} (your own is an entry point or a file, FILE.py)"
    )


def _load(kind: str, point: EntryPoint) -> Any:
    with blaming(f"{kind} {point.name}: {point.value}", package_of(point.module)):
        return point.load()
