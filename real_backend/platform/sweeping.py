"""Removes what a platform that was killed has left: processes, control groups, containers."""

from __future__ import annotations

from real_backend.engines import docker, process
from real_backend.platform.state import StateFolder


async def sweep(state: StateFolder) -> list[str]:
    """Remove everything that carries the label of the folder's platform, which must not be running.

    Returns:
        A line for each thing removed.
    """
    removed = await docker.sweep(state.platform, state.folder / "docker")
    return removed + await process.sweep(state.platform)
