"""What commands share: how they were called, and the terminal they print to."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def command_line() -> str:
    """The command as it was typed, for manifests."""
    script = Path(sys.argv[0])
    program = ["python", "-m", f"agents.{script.stem}"] if script.parent.name == "agents" else ["tyche"]
    return shlex.join([*program, *sys.argv[1:]])


def console() -> Console:
    """The terminal; in a pipe a row stays one line, whatever its length."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=400)
