"""Pages whose tables a command writes: what stands between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tyche_env.errors import UserError

_BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Write blocks into a page, whole or not at all; other blocks and everything between them stay.

    Args:
        page: a Markdown file.
        blocks: their texts by name.

    Raises:
        UserError: the page cannot be read, or lacks the marks of a block.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{page}: cannot be read ({error.strerror})") from None
    missing = set(blocks) - {match["name"] for match in _BLOCK.finditer(text)}
    if missing:
        name = sorted(missing)[0]
        raise UserError(f"{page}: needs a line '<!-- {name} -->' and a line '<!-- end -->' for the table")

    def filled(match: re.Match[str]) -> str:
        name = match["name"]
        return f"{match[1]}{blocks[name].strip()}\n{match[3]}" if name in blocks else match[0]

    temporary = page.with_name(f"{page.name}.partial")
    temporary.write_text(_BLOCK.sub(filled, text), encoding="utf-8")
    temporary.replace(page)
