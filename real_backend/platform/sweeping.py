"""Removes what a platform that was killed has left: processes, control groups, containers."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from real_backend.containers import docker, process
from real_backend.platform.state import StateFolder
from tyche_env.errors import UserError

TEMPORARY = "tyche-platform-"
"""How the names of the temporary state folders of platforms begin that run for one replay."""


async def sweep(state: StateFolder) -> list[str]:
    """Remove everything that carries the label of the folder's platform, which must not be running.

    Returns:
        A line for each thing removed.
    """
    removed = await docker.sweep(state.platform, state.folder / "docker")
    return removed + await process.sweep(state.platform)


async def sweep_orphans() -> list[str]:
    """Remove what platforms have left that ran for one replay and were killed together with it, and their folders.

    Returns:
        A line for each thing removed.
    """
    removed: list[str] = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*")):
        try:
            # somebody else's, or a link of somebody's to something of ours
            found = folder.lstat()
            if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
                continue
            state = StateFolder(folder)
            if (folder / "name").exists() and not state.running:
                removed += await sweep(state)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(f"folder {folder}")
        except (OSError, UserError):
            # it was removed meanwhile, or is no platform's
            continue
    return removed
