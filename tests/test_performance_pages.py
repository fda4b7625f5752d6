"""The tables of README.md, docs/performance.md and docs/carries.md are what benchmarks/results holds."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.test_docs import ROOT, script


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return script(ROOT / "benchmarks" / "pages.py")


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md", "docs/carries.md"])
def test_tables_show_the_results(page: str, pages: ModuleType) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- end -->" in text
    assert pages.filled(text, pages.results()) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12_345_678, "12,300,000"), (1234, "1,234"), (12.34, "12.3"), (0.001234, "0.00123"), (0, "0")],
)
def test_numbers_have_three_digits(value: float, shown: str, pages: ModuleType) -> None:
    assert pages.number(value) == shown
