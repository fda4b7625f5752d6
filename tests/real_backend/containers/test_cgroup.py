"""Control groups of both versions, on a folder that stands for the kernel's files, and on this machine's own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from real_backend.containers import cgroup

pytestmark = pytest.mark.anyio


def test_groups_are_made_below_the_own_one_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"cgroup {tmp_path}/{name} cgroup rw,{name} 0 0" for name in ("memory", "freezer")]
    for folder in ("memory/me", "freezer"):
        (tmp_path / folder).mkdir(parents=True)
    _kernel(monkeypatch, {"memory": ["memory.limit_in_bytes"], "freezer": ["freezer.state"]})
    found = cgroup.find("\n".join(lines), "4:memory:/me\n6:freezer:/\n")
    assert found == cgroup.Hierarchy(tmp_path / "memory" / "me", tmp_path / "freezer", 1)


def test_version_2_needs_the_memory_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"cgroup2 {tmp_path} cgroup2 rw 0 0"
    (tmp_path / "me").mkdir()
    refused = cgroup.find(mounts, "0::/me\n")
    assert isinstance(refused, str)
    assert "no memory.max" in refused
    _kernel(monkeypatch, {tmp_path.name: ["memory.max", "cgroup.freeze"]})
    assert cgroup.find(mounts, "0::/me\n") == cgroup.Hierarchy(tmp_path / "me", tmp_path / "me", 2)


def test_no_control_groups_are_said_to_be_none() -> None:
    assert "no control group" in str(cgroup.find("proc /proc proc rw 0 0", "0::/\n"))


@pytest.mark.parametrize(
    ("version", "stat", "oom", "limit", "frozen"),
    [
        (1, "rss 1\ntotal_rss 4096\n", ("memory.oom_control", "oom_kill 2\n"), "memory.limit_in_bytes", "FROZEN"),
        (2, "anon 4096\nfile 9\n", ("memory.events", "oom 1\noom_kill 2\n"), "memory.max", "1"),
    ],
)
def test_limits_measures_and_freezing_go_through_the_versions_files(
    tmp_path: Path, version: int, stat: str, oom: tuple[str, str], limit: str, frozen: str
) -> None:
    (tmp_path / "memory.stat").write_text(stat)
    (tmp_path / oom[0]).write_text(oom[1])
    (tmp_path / "memory.swap.max").write_text("max")
    group = cgroup.Group(tmp_path, tmp_path, version)
    group.limit_memory(1000)
    group.freeze(True)
    assert (tmp_path / limit).read_text() == "1000"
    assert (tmp_path / ("freezer.state" if version == 1 else "cgroup.freeze")).read_text() == frozen
    assert (group.memory_bytes(), group.oom_kills()) == (4096, 2)
    assert group.join_files == (tmp_path / "cgroup.procs",)


async def test_a_real_group_holds_its_processes_and_takes_them_along() -> None:
    found = cgroup.find()
    if isinstance(found, str):
        pytest.skip(found)
    group = found.create(f"test-{os.getpid()}", 64 * 2**20)
    try:
        sleeper = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
        for file in group.join_files:
            file.write_text(str(sleeper.pid))
        assert group.processes() == [sleeper.pid]
        assert cgroup.group_of(sleeper.pid) is not None
        group.freeze(True)
    finally:
        await group.remove()
    assert await sleeper.wait() == -9
    assert found.groups(f"test-{os.getpid()}") == []


def _kernel(monkeypatch: pytest.MonkeyPatch, files: dict[str, list[str]]) -> None:
    """Make files appear in new folders, as the kernel does, and vanish with them."""
    mkdir, rmdir = Path.mkdir, Path.rmdir

    def appear(self: Path, *arguments: object) -> None:
        mkdir(self)
        for tree, names in files.items():
            if tree in self.parts:
                for name in names:
                    (self / name).touch()

    def vanish(self: Path) -> None:
        for file in self.iterdir():
            file.unlink()
        rmdir(self)

    monkeypatch.setattr(Path, "mkdir", appear)
    monkeypatch.setattr(Path, "rmdir", vanish)
