"""Memory as the kernel tells it, cgroups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from real_backend.worker.memory import Cgroup, peak_mb, proportional_mb, resident_mb

GONE = 2**22 + 1
"""No process has this id: it is above the kernel's largest."""


def test_memory_of_a_process_grows_with_what_it_allocates() -> None:
    before = proportional_mb(os.getpid()), resident_mb(os.getpid())
    block = bytearray(b"\x01") * 50_000_000
    after = proportional_mb(os.getpid()), resident_mb(os.getpid())
    del block
    for small, large in zip(before, after, strict=True):
        assert small is not None
        assert large is not None
        assert 45 < large - small < 60
    # The kernel counts a core at a time, so its two numbers may differ by a little.
    assert (peak_mb(os.getpid()) or 0) >= (after[1] or 0) - 2


def test_each_figure_is_read_from_the_line_of_its_name_in_mb_of_ten_to_the_six_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {
        "/proc/7/status": "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t 3000 kB\nVmRSS:\t 2000 kB\nRssAnon:\t 1 kB\n",
        "/proc/7/smaps_rollup": "00-ff ---p 0 0 0 [rollup]\nRss:\t 2000 kB\nPss:\t 500 kB\nPss_Dirty:\t 1 kB\n",
    }
    monkeypatch.setattr("real_backend.worker.memory._read", lambda path: files[str(path)])
    assert (peak_mb(7), resident_mb(7), proportional_mb(7)) == (3.072, 2.048, 0.512)


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert proportional_mb(GONE) is resident_mb(GONE) is peak_mb(GONE) is None


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """An empty /proc/self and an empty /sys/fs/cgroup."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    root.mkdir()
    return proc, root


def test_version_1_is_read_from_the_memory_controller(machine: tuple[Path, Path]) -> None:
    proc, root = machine
    (proc / "cgroup").write_text("5:devices:/x\n4:memory:/box\n0::/\n")
    box = root / "memory" / "box"
    box.mkdir(parents=True)
    (box / "memory.limit_in_bytes").write_text("2147483648\n")
    (box / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    cgroup = Cgroup(proc, root)
    assert cgroup.limit_mb() == pytest.approx(2147.483648)
    assert cgroup.oom_kills() == 3
    (box / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroup.limit_mb() is None


def test_version_2_is_read_from_the_one_hierarchy(machine: tuple[Path, Path]) -> None:
    proc, root = machine
    (proc / "cgroup").write_text("0::/box\n")
    (root / "cgroup.controllers").write_text("memory\n")
    box = root / "box"
    box.mkdir()
    (box / "memory.max").write_text("1000000\n")
    (box / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n")
    cgroup = Cgroup(proc, root)
    assert cgroup.limit_mb() == 1.0
    assert cgroup.oom_kills() == 1
    (box / "memory.max").write_text("max\n")
    assert cgroup.limit_mb() is None


def test_a_container_that_sees_only_its_own_cgroup_reads_the_root(machine: tuple[Path, Path]) -> None:
    proc, root = machine
    (proc / "cgroup").write_text("4:memory:/docker/abc\n")
    (root / "memory").mkdir()
    (root / "memory" / "memory.limit_in_bytes").write_text("5000000\n")
    assert Cgroup(proc, root).limit_mb() == 5.0


def test_a_machine_without_cgroups_has_no_limit_and_counts_no_kills(machine: tuple[Path, Path]) -> None:
    cgroup = Cgroup(*machine)
    assert cgroup.limit_mb() is cgroup.oom_kills() is None
