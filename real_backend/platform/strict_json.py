"""JSON that comes from outside: what all of us can read, or a reason that says where it stops being that.

NaN, lone surrogates and nesting beyond 200 levels are no JSON here; a key that stands twice has its last value.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pydantic_core

_PLACE = re.compile(r" at line (\d+) column (\d+)$")


def parse(raw: bytes) -> Any:
    """The value; numbers beyond a double's range are infinite.

    Raises:
        ValueError: It is no JSON; the message shows where, in the words of OpenWhisk's controller.
    """
    try:
        return pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(_words(raw.decode("utf-8", "replace"), str(error))) from None


def parse_finite(raw: bytes) -> Any:
    """The value, which another program can read as JSON again.

    Raises:
        ValueError: It is no JSON, or holds a number beyond a double's range.
    """
    value = parse(raw)
    # Only a number that is written with an exponent of three digits, or with 300 digits, can be out of range.
    if re.search(rb"[eE]\+?0*\d{3}|\d{300}", raw):
        require_finite(value)
    return value


def require_finite(value: Any) -> None:
    """Refuse what JSON cannot express.

    Raises:
        ValueError: There is an infinite number in it.
    """
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("a number is beyond the range of a double") from None


def _words(text: str, reason: str) -> str:
    found = _PLACE.search(reason)
    if found is None:
        return reason
    lines = text.split("\n")
    line, column = int(found[1]), max(1, int(found[2]))
    index = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    shown = lines[line - 1] if line <= len(lines) else ""
    if reason.startswith("EOF"):
        what = "Unexpected end-of-input"
    elif reason.startswith("expected"):
        what = f"Unexpected character '{text[index : index + 1]}'"
    else:
        what = reason[: found.start()].capitalize()
    start = max(0, column - 40)
    return (
        f"{what} at input index {index} (line {line}, position {column}), expected JSON Value:\n"
        f"{shown[start : column + 40]}\n{' ' * (column - 1 - start)}^\n"
    )
