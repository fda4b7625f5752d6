"""Memory of processes and containers, read from the kernel; MB are 10^6 bytes."""

from __future__ import annotations

from pathlib import Path

_NO_LIMIT = 1 << 60
"""Cgroup v1 writes a huge number where there is no limit."""


def proportional_mb(pid: int) -> float | None:
    """Proportional set size: private memory plus the process's share of what it shares; None if it is gone.

    Takes about 20 ms a GB, because the kernel walks the page tables.
    """
    text = _read(Path(f"/proc/{pid}/smaps_rollup"))
    return _kb(text, "Pss:")


def resident_mb(pid: int) -> float | None:
    """Resident set size, in 0.02 ms whatever the size; None if the process is gone."""
    return _kb(_read(Path(f"/proc/{pid}/status")), "VmRSS:")


def peak_mb(pid: int) -> float | None:
    """The largest resident set size that the process ever had; None if it is gone."""
    return _kb(_read(Path(f"/proc/{pid}/status")), "VmHWM:")


def _kb(text: str | None, key: str) -> float | None:
    for line in (text or "").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e6
    return None


class Cgroup:
    """The memory cgroup that this process lives in, version 1 or 2."""

    def __init__(self, proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> None:
        self._v2 = (root / "cgroup.controllers").exists()
        self._folder = self._find(proc, root)

    def _find(self, proc: Path, root: Path) -> Path | None:
        for line in (_read(proc / "cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == ("" if self._v2 else "memory"):
                base = root if self._v2 else root / "memory"
                inside = base / path.lstrip("/")
                # In a container without a cgroup namespace the path is the host's, and only the root is visible.
                return inside if inside.is_dir() else base
        return None

    def limit_mb(self) -> float | None:
        """The hard limit; None if there is none or it cannot be read."""
        text = self._file("memory.max" if self._v2 else "memory.limit_in_bytes")
        if text is None or text.strip() == "max" or int(text) >= _NO_LIMIT:
            return None
        return int(text) / 1e6

    def oom_kills(self) -> int | None:
        """How often the kernel killed one of its processes for memory; None if it cannot be read."""
        text = self._file("memory.events" if self._v2 else "memory.oom_control")
        for line in (text or "").splitlines():
            key, value = line.split()
            if key == "oom_kill":
                return int(value)
        return None

    def _file(self, name: str) -> str | None:
        return None if self._folder is None else _read(self._folder / name)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return None
