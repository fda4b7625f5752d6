"""Other distributions bring a top-level package ``agents`` too; this tells whether Python finds that of tyche-env."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "agents"
_MARK = "of tyche-env"
"""Stands in the first line of our package."""


def explain_collision() -> str | None:
    """What is wrong and what to do, if ``import agents`` brings another package; None if it brings ours, or nothing.

    Nothing is imported: the beginning of the package's file is read.
    """
    try:
        spec = find_spec(PACKAGE)
    except ValueError:  # a module made by hand, which has no spec
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    try:
        with origin.open(encoding="utf-8", errors="replace") as file:
            first_line = file.readline()
    except OSError:
        return None
    if _MARK in first_line:
        return None
    if origin.parents[1] == Path(__file__).parents[1]:
        advice = "another package was installed over it; give tyche-env a virtual environment of its own"
    else:
        advice = "rename that one, or start Python where it is not found first"
    return (
        f"the package {PACKAGE!r} that Python finds is not that of tyche-env, but {origin.parent}, "
        f"so `import {PACKAGE}` and `tyche evaluate` will fail: {advice}"
    )
