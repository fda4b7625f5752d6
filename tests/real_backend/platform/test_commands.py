"""``tyche platform``: up, status, deploy, down, in processes of their own; and what is left after kill -9."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from real_backend.containers.factory import PLATFORM_LABEL
from real_backend.platform.kinds import EXACT_PYTHON
from real_backend.platform.state import StateFolder
from tests.real_backend.needs import needs_docker

TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()", "platform")
CODE = "def main(args):\n    return {'x': args.get('x', 0) + 1}\n"


def tyche(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OW_")}
    return subprocess.run(
        [*TYCHE, arguments[0], "--state", str(state), *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    tyche(tmp_path / "state", "down")


def up(state: Path, *options: str) -> str:
    """Start a platform in the background and return its address."""
    started = tyche(state, "up", "--detach", "--port", "0", *options)
    assert started.returncode == 0, started.stderr
    url = StateFolder(state).url
    assert url is not None
    assert url in started.stdout
    return url


def labelled(state: Path) -> list[int]:
    """Processes that carry the platform's label."""
    label = f"{PLATFORM_LABEL}={StateFolder(state).platform}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if label in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def until_none(state: Path) -> list[int]:
    for _ in range(500):
        if not labelled(state):
            break
        time.sleep(0.01)
    return labelled(state)


def until_stopped(state: Path) -> None:
    for _ in range(500):
        if not StateFolder(state).running:
            break
        time.sleep(0.01)
    assert not StateFolder(state).running


def test_a_platform_goes_up_takes_an_action_shows_itself_and_goes_down(state: Path, tmp_path: Path) -> None:
    url = up(state, "--nodes", "2", "--memory-mb", "512", "--stem-cells", "python:3,128,1")
    again = tyche(state, "up", "--detach", "--port", "0")
    assert (again.returncode, "runs already" in again.stderr) == (2, True)
    (tmp_path / "plus.py").write_text(CODE)
    deployed = tyche(state, "deploy", "plus", "--file", str(tmp_path / "plus.py"), "--kind", "python:3")
    assert deployed.stdout == f"{url} plus 0.0.1\n"
    user, _, password = StateFolder(state).key.partition(":")
    called = httpx.post(
        f"{url}/api/v1/namespaces/_/actions/plus?blocking=true&result=true",
        json={"x": 4},
        auth=(user, password),
        trust_env=False,
    )
    assert called.json() == {"x": 5}
    shown = json.loads(tyche(state, "status", "--json").stdout)
    assert [node["name"] for node in shown["nodes"]] == ["invoker0", "invoker1"]
    assert shown["actions"] == ["plus"]
    assert "plus" in tyche(state, "status").stdout
    stopped = tyche(state, "down")
    assert "stopped the platform" in stopped.stdout
    assert labelled(state) == []
    assert json.loads(tyche(state, "status", "--json").stdout) == {"running": False}


def test_one_that_behaves_like_a_genuine_openwhisk(state: Path) -> None:
    url = up(state, "--like-openwhisk", "--time-scale", "0.01")
    user, _, password = StateFolder(state).key.partition(":")
    with httpx.Client(base_url=f"{url}/api/v1", auth=(user, password), trust_env=False) as http:
        assert http.get("/tyche/containers").status_code == 404
        http.put("/namespaces/_/actions/plus", json={"exec": {"kind": EXACT_PYTHON, "code": CODE}})
        # longer than 60 s, scaled: 202
        slow = "import time\ndef main(args):\n    time.sleep(args['s'])\n    return {}\n"
        http.put("/namespaces/_/actions/slow", json={"exec": {"kind": EXACT_PYTHON, "code": slow}})
        assert http.post("/namespaces/_/actions/slow?blocking=true", json={"s": 5}).status_code == 202
    assert json.loads(tyche(state, "status", "--json").stdout)["containers"] is None
    shown = tyche(state, "status").stdout
    assert "like a genuine OpenWhisk, it tells nothing of its containers" in shown
    assert "plus" in shown


def test_the_key_is_made_once_and_only_its_owner_may_read_it(state: Path) -> None:
    folder = StateFolder(state)
    key = folder.key
    assert StateFolder(state).key == key
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_killed_platform_takes_its_containers_along_and_down_sweeps_the_rest(state: Path) -> None:
    up(state, "--stem-cells", "python:3,128,2")
    for _ in range(500):
        if len(labelled(state)) >= 2:
            break
        time.sleep(0.01)
    assert len(labelled(state)) >= 2
    process = StateFolder(state).process
    assert process is not None
    os.kill(process, signal.SIGKILL)
    assert until_none(state) == []
    # The kernel lets go of the lock when the last thread has ended, a moment after the containers.
    until_stopped(state)
    assert tyche(state, "down").returncode == 0


def test_an_interrupt_removes_containers_and_ends_what_runs(state: Path) -> None:
    url = up(state)
    user, _, password = StateFolder(state).key.partition(":")
    with httpx.Client(base_url=f"{url}/api/v1/namespaces/_", auth=(user, password), trust_env=False) as http:
        code = "import time\ndef main(args):\n    time.sleep(60)\n"
        http.put("/actions/slow", json={"exec": {"kind": "python:3", "code": code}})
        http.post("/actions/slow", json={})
        for _ in range(500):
            if labelled(state):
                break
            time.sleep(0.01)
    process = StateFolder(state).process
    assert process is not None
    os.kill(process, signal.SIGINT)
    assert until_none(state) == []
    until_stopped(state)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--stem-cells", "python:3"), "KIND,MEMORY,COUNT"),
        (("--env", "=X"), "NAME=VALUE"),
        (("--env", "TYCHE_NOT_SET"), "a variable that is set here"),
        (("--time-scale", "0.5"), "needs --like-openwhisk"),
        (("--private-key", __file__), "--certificate"),
        (("--host", "192.0.2.1"), "192.0.2.1"),
        (("--engine", "docker"), "--engine: is now --containers"),
    ],
)
def test_wrong_options_are_refused_in_one_line(state: Path, options: tuple[str, ...], reason: str) -> None:
    refused = tyche(state, "up", "--port", "0", *options)
    assert refused.returncode == 2
    assert reason in refused.stderr


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TYCHE_ENGINE", "docker", "TYCHE_ENGINE: is now TYCHE_CONTAINERS"),
        ("TYCHE_CONTAINERS", "vm", "'vm' is not one of 'process', 'docker'"),
    ],
)
def test_the_environment_is_read_and_refused_like_options(
    state: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    refused = tyche(state, "up", "--port", "0")
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_deploy_needs_a_server_and_a_kind(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "say one of --kind, --image and --deployment" in tyche(state, "deploy", "f").stderr
    assert "OW_APIHOST" in tyche(state, "deploy", "f", "--kind", "tyche:1").stderr


def test_deploy_compares_needs_with_limits_first(state: Path) -> None:
    up(state, "--max-action-mb", "256")
    refused = tyche(state, "deploy", "f", "--kind", "tyche:1", "--memory-mb", "512")
    assert refused.returncode == 2
    assert "512 needed, at most 256; set whisk.memory.max" in refused.stderr


@pytest.mark.slow
@pytest.mark.docker
@needs_docker
def test_a_killed_platform_takes_its_docker_daemon_along_and_down_sweeps_the_rest(state: Path) -> None:
    up(state, "--containers", "docker", "--stem-cells", "python:3,128,2")
    process = StateFolder(state).process
    assert process is not None
    os.kill(process, signal.SIGKILL)
    swept = tyche(state, "down")
    assert swept.returncode == 0, swept.stderr
    assert until_none(state) == []
    name = StateFolder(state).platform
    assert not (state / "docker").exists()
    assert not list(Path("/run").glob(f"tyche-{name}*"))
    assert name not in Path("/proc/self/mounts").read_text()


def test_a_state_that_cannot_be_opened_is_named(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "state.sqlite").write_text("this is no database, and longer than the header of one would be" * 20)
    refused = tyche(state, "up", "--port", "0")
    assert refused.returncode == 2
    assert f"--state {state}: The platform cannot write its state" in refused.stderr
