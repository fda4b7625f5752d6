"""However a replay ends, nothing of it stays: processes, control groups, containers, folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from real_backend.containers import cgroup
from tests.real_backend.needs import containers
from tests.real_backend.worlds import TOYS, toy_scenario

pytestmark = pytest.mark.slow

TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()")


class Replay:
    """``tyche evaluate --backend openwhisk`` in a process of its own, with a folder for all temporary files."""

    def __init__(self, folder: Path, containers: str, until: str = "serving") -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        (folder / "toys.yaml").write_text(toy_scenario(folder).to_yaml(), encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OW_")},
            "TMPDIR": str(self.temporary),
            "TYCHE_FUNCTIONS": TOYS,
            "TYCHE_CONTAINERS": containers,
        }
        self.out = folder / "run"
        chosen = ("--scenario", str(folder / "toys.yaml"), "--mode", "paper", "--policy", "none", "--policy", "tyche")
        # a test run that is itself in the background ignores interrupts, and its children would inherit that
        env = ("env", "--default-signal=INT")
        self.process = subprocess.Popen(
            (*env, *TYCHE, "evaluate", "--backend", "openwhisk", *chosen, "--out", str(self.out), "--quiet"),
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.platform = ""
        wait_for(self.serves if until == "serving" else lambda: bool(self.labelled()))

    @property
    def state(self) -> Path:
        """The state folder of its platform."""
        return next(self.temporary.glob("tyche-platform-*"))

    def serves(self) -> bool:
        """Whether a container listens."""
        return any(b"real_backend.worker" in Path(f"/proc/{each}/cmdline").read_bytes() for each in self.labelled())

    def labelled(self) -> list[int]:
        """Processes of its containers and of a Docker daemon of its own."""
        for name in self.temporary.glob("tyche-platform-*/name"):
            self.platform = name.read_text().strip()
        return carrying(f"TYCHE_PLATFORM={self.platform}") if self.platform else []

    def left(self) -> list[str]:
        """What is still there."""
        found = [f"process {each}" for each in self.labelled()]
        found += [f"process {each}" for each in carrying(f"TMPDIR={self.temporary}") if each != os.getpid()]
        hierarchy = cgroup.find()
        if isinstance(hierarchy, cgroup.Hierarchy):
            found += [f"group {each.memory}" for each in hierarchy.groups(f"{self.platform}-")]
        found += [str(each) for each in self.temporary.glob("tyche-*")]
        found += [str(each) for each in Path("/run").glob(f"tyche-{self.platform}*")]
        found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if self.platform in line]
        return found

    def down(self) -> str:
        """What ``tyche platform down`` says."""
        return subprocess.run(
            [*TYCHE, "platform", "down", "--state", str(self.temporary / "other")],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def carrying(label: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and label.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(met: Callable[[], bool], longest_s: float = 60.0) -> None:
    deadline = time.monotonic() + longest_s
    while not met():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)


@containers
def test_ctrl_c_leaves_nothing_and_the_replay_goes_on_later(tmp_path: Path, containers: str) -> None:
    replay = Replay(tmp_path, containers)
    replay.process.send_signal(signal.SIGINT)
    _, said = replay.process.communicate(timeout=120)
    assert replay.process.returncode != 0
    assert "the same command with --out" in said
    wait_for(lambda: not replay.left())
    assert (replay.out / "manifest.json").exists()


@containers
@pytest.mark.parametrize("until", ["starting", "serving"])
def test_a_killed_replay_takes_its_platform_along(tmp_path: Path, containers: str, until: str) -> None:
    replay = Replay(tmp_path, containers, until)
    replay.process.kill()
    replay.process.communicate(timeout=60)
    # the platform notices that its parent is gone, and removes everything
    wait_for(lambda: not replay.left())


@containers
def test_down_sweeps_what_is_left_if_both_are_killed(tmp_path: Path, containers: str) -> None:
    replay = Replay(tmp_path, containers)
    platform = platform_of(replay)
    os.kill(platform, signal.SIGSTOP)
    replay.process.kill()
    os.kill(platform, signal.SIGKILL)
    replay.process.communicate(timeout=60)
    assert replay.left()
    said = replay.down()
    assert f"removed folder {replay.temporary}" in said
    wait_for(lambda: not replay.left())


def platform_of(replay: Replay) -> int:
    """Process id of the platform."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str(replay.state).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("there is no platform")
