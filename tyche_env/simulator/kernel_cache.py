"""Old folders of the kernel cache: each version of the core leaves one behind."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tyche_env.kernel_place import COMPLETE

KEEP = 8
"""Folders that are kept, the last used ones."""
KEEP_DAYS = 30
"""Days after its last use for which a folder is kept."""
LOCK = "lock"


def prune(root: Path, keep: int = KEEP, keep_days: float = KEEP_DAYS) -> list[Path]:
    """Remove folders of kernels that were not used lately.

    Args:
        root: holds one folder a version, named by sixteen hexadecimal digits; anything else in it is left alone.
        keep: how many folders stay, the last used ones.
        keep_days: older ones go even so.

    Returns:
        What was removed; folders in use by a process that compiles are not.
    """
    folders = [path for path in root.iterdir() if re.fullmatch("[0-9a-f]{16}", path.name) and path.is_dir()]
    folders.sort(key=_used, reverse=True)
    oldest_s = time.time() - 86_400 * keep_days
    removed = []
    for place, folder in enumerate(folders):
        if place < keep and _used(folder) >= oldest_s:
            continue
        try:
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
        removed.append(folder)
    return removed


def _used(folder: Path) -> float:
    """When a folder was last used; one that is not complete, when it was made; 0 if it has just been removed."""
    for path in (folder / COMPLETE, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0
