"""Pages: tables go between their marks, and what is typed stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.evidence.pages import fill
from tyche_env.errors import UserError

PAGE = "Before.\n<!-- one -->\nold\n<!-- end -->\nBetween.\n<!-- two-2 -->\n<!-- end -->\nAfter.\n"


def test_blocks_are_replaced_and_everything_else_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    fill(page, {"two-2": "| new |\n"})
    assert page.read_text() == PAGE.replace("two-2 -->\n", "two-2 -->\n| new |\n")
    fill(page, {"one": "1", "two-2": r"a \1 b"})
    expected = "Before.\n<!-- one -->\n1\n<!-- end -->\nBetween.\n<!-- two-2 -->\na \\1 b\n<!-- end -->\nAfter.\n"
    assert page.read_text() == expected
    assert list(tmp_path.iterdir()) == [page]


def test_a_page_without_the_marks_is_refused_and_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(UserError, match="needs a line '<!-- three -->'"):
        fill(page, {"one": "1", "three": "3"})
    assert page.read_text() == PAGE
    with pytest.raises(UserError, match="cannot be read"):
        fill(tmp_path / "none.md", {})
