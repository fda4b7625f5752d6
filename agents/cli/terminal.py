"""What commands share: how they were called, and the terminal they print to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traces.output import command_line as command_line

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """The terminal; in a pipe a row stays one line, whatever its length."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=400)
