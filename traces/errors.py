"""Errors that are the user's to mend, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike
from typing import Self

FileName = str | PathLike[str]
"""A file name as the readers take it."""

_SHOWN = 12


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, as a question; else the known names, the first twelve of many."""
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    if close:
        # blanks at its ends would not be seen
        return f"did you mean {close[0] if close[0] == close[0].strip() else repr(close[0])}?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN]) or 'none'}{more}"


class UserError(ValueError):
    """Bad input, shown as one line.  The message names the file, row, field or option, and what would be right."""


class TraceError(UserError):
    """Input that cannot be read as a trace.

    The message names the file, and where they apply the row and the column, then what is wrong and what would be right.
    Rows of a CSV file are counted as a text editor counts them, the header is row 1; of a Parquet file from the first
    record on.
    """

    @classmethod
    def at(cls, file: FileName, problem: str, *, row: int | None = None, column: str | None = None) -> Self:
        """Build the error for one place in a file.

        Args:
            file: The file as the caller named it.
            problem: What is wrong and what would be right.
            row: Number of the row.
            column: Name of the column.
        """
        place = str(file)
        if row is not None:
            place += f", row {row}"
        if column is not None:
            place += f", column {column}"
        return cls(f"{place}: {problem}")
