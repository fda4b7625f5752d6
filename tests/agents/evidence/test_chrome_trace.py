"""A window as events of Chrome's trace viewer."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli.report import report
from agents.evidence.chrome_trace import STAYS, chrome_trace
from agents.evidence.run_folder import RunFolder
from agents.playing.timeline import Timeline, timeline_of
from tyche_env.scenario import Scenario

REQUIRED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "b": {"name", "cat", "id", "pid", "tid", "ts"},
    "e": {"name", "cat", "id", "pid", "tid", "ts"},
    "C": {"name", "pid", "tid", "ts", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
}
"""Fields of each kind of event, of those that the format knows."""


@pytest.fixture(scope="module")
def timelines(tiny: Scenario) -> dict[str, Timeline]:
    return {name: timeline_of(tiny.world(window=0, kernel=name)) for name in ("lru", "tyche")}


@pytest.fixture(scope="module")
def events(timelines: dict[str, Timeline]) -> list[dict[str, Any]]:
    content = json.loads(json.dumps(chrome_trace(timelines), allow_nan=False))
    assert content["displayTimeUnit"] == "ms"
    found: list[dict[str, Any]] = content["traceEvents"]
    return found


def test_every_event_has_the_fields_of_its_kind(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert set(event) - {"ph"} == REQUIRED[event["ph"]]
        assert all(isinstance(event[name], int) for name in ("ts", "dur", "pid", "tid") if name in event)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0


def test_each_policy_has_processes_of_its_own(events: list[dict[str, Any]], timelines: dict[str, Timeline]) -> None:
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    nodes = {name: 1 + max(node for node, *_ in seen.containers) for name, seen in timelines.items()}
    assert sorted(names.values()) == sorted(f"{name}: node {n}" for name in nodes for n in range(nodes[name]))
    assert {event["pid"] for event in events} == set(names)


def test_runs_of_a_container_follow_each_other(events: list[dict[str, Any]], timelines: dict[str, Timeline]) -> None:
    runs = [event for event in events if event["ph"] == "X"]
    assert len(runs) == sum(len(seen.runs) for seen in timelines.values())
    by_thread: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        by_thread[run["pid"], run["tid"]].append(run)
    for own in by_thread.values():
        own.sort(key=lambda run: run["ts"])
        assert all(one["ts"] + one["dur"] <= other["ts"] for one, other in pairwise(own))


def test_what_begins_also_ends(events: list[dict[str, Any]]) -> None:
    begins = {(event["id"], event["name"]): event["ts"] for event in events if event["ph"] == "b"}
    ends = {(event["id"], event["name"]): event["ts"] for event in events if event["ph"] == "e"}
    assert begins.keys() == ends.keys()
    assert all(begins[key] <= ends[key] for key in begins)
    assert max(Counter(identity for identity, _ in begins).values()) == 1
    assert {"container"} < {event["cat"] for event in events if event["ph"] == "b"} <= {"container", *STAYS.values()}


def test_the_report_command_writes_it(finished: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "window.json"
    done = CliRunner().invoke(report, [str(finished.path), "--chrome-trace", str(target)], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == str(target)
    events = json.loads(target.read_text(encoding="utf-8"))["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert {name.partition(":")[0] for name in names} == {"none", "tyche"}
