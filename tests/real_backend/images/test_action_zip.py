"""The action zip, called as OpenWhisk's Python runtime calls it, and the manifest."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from real_backend.images.action_zip import build_zip, main
from real_backend.worker.messages import Settings

TOYS = ("--functions", "real_backend.functions.toy")
RUNTIME = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("action", sys.argv[1] + "/__main__.py")
action = importlib.util.module_from_spec(spec)
spec.loader.exec_module(action)
for parameters in json.loads(sys.argv[2]):
    print(json.dumps(action.main(parameters)))
"""


def invoke(zipped: Path, folder: Path, *parameters: dict[str, Any], runtime: str = RUNTIME) -> list[dict[str, Any]]:
    """Do what the runtime does: unpack, import ``__main__`` and call ``main``, far from the source."""
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder)
    answer = subprocess.run(
        [sys.executable, "-I", "-c", runtime, str(folder), json.dumps(parameters)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_a_container_keeps_its_residents_between_activations(tmp_path: Path) -> None:
    build_zip(tmp_path / "a.zip", Settings(node="n1"), TOYS)
    load, infer = invoke(
        tmp_path / "a.zip",
        tmp_path / "unpacked",
        {"op": "load", "function": "toy"},
        {"op": "infer", "function": "toy", "payload": {"numbers": [1, 2]}},
    )
    assert load["ok"]
    assert (infer["answer"]["sum"], infer["start_type"], infer["node"]) == (3, "memory", "n1")
    assert infer["boot_id"] == load["boot_id"]


def test_the_zip_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    build_zip(first, Settings())
    assert main([str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 1 << 20


def test_wrong_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a.zip"), "--settings", '{"mode": "x"}']) == 2
    assert "mode must be one of slots, native" in capsys.readouterr().err


def test_the_manifest_names_the_kind() -> None:
    folder = Path(__file__).parents[3] / "real_backend" / "images"
    manifest = json.loads((folder / "runtimes.json").read_text())
    (runtime,) = manifest["runtimes"]["tyche"]
    assert runtime["kind"] == "tyche:1"


def test_nothing_leaves_the_action_as_an_exception(tmp_path: Path) -> None:
    build_zip(tmp_path / "a.zip", Settings(), ("--functions", "no.such.module"))
    (reply,) = invoke(tmp_path / "a.zip", tmp_path / "unpacked", {"op": "status"})
    assert reply["ok"] is False
    assert reply["error"]["code"] == "died"
    assert "the action server did not start" in reply["error"]["message"]


def test_an_action_server_that_died_is_started_again_and_says_how_long_that_took(tmp_path: Path) -> None:
    build_zip(tmp_path / "a.zip", Settings(), TOYS)
    killing = RUNTIME.replace(
        "    print(",
        "    if parameters.pop('kill', 0): action._server._process.kill(), action._server._process.wait()\n    print(",
    )
    replies = invoke(
        tmp_path / "a.zip",
        tmp_path / "unpacked",
        {"op": "load", "function": "toy"},
        {"op": "status"},
        {"op": "status", "kill": 1},
        runtime=killing,
    )
    assert [each["residents"] != [] for each in replies] == [True, True, False]
    assert ["server_ms" in each for each in replies] == [True, False, True]
    assert replies[0]["server_ms"] > 0
    assert replies[0]["boot_id"] == replies[1]["boot_id"] != replies[2]["boot_id"]
