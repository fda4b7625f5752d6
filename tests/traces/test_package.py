"""Importing the package costs nothing, and it imports nothing of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import traces


def test_importing_loads_no_data_library() -> None:
    code = "import sys, traces, traces.commands; print([m for m in ('numpy', 'pandas', 'pyarrow') if m in sys.modules])"
    root = Path(traces.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    for name in traces._HOME:
        assert getattr(traces, name).__module__.startswith("traces.")
    assert set(traces._HOME) <= set(dir(traces))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        traces.nothing  # noqa: B018


def test_imports_nothing_of_ours() -> None:
    for path in Path(traces.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            names = (
                [module or ""] + [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [module or ""]
            )
            assert not any(name.split(".")[0] in ("tyche_env", "agents", "real_backend") for name in names), path
