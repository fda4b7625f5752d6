"""The tables of README.md, docs/performance.md and docs/carries.md are what benchmarks/results holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def pages() -> Any:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "benchmarks" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md", "docs/carries.md"])
def test_tables_show_the_results(page: str) -> None:
    script = pages()
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- end -->" in text
    assert script.filled(text, script.results()) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12_345_678, "12,300,000"), (1234, "1,234"), (12.34, "12.3"), (0.001234, "0.00123"), (0, "0")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert pages().number(value) == shown
