"""A window as events of Chrome's trace viewer."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from agents.cli.report import report
from agents.evidence.chrome_trace import STAYS, chrome_trace
from agents.evidence.run_folder import RunFolder
from agents.playing.timeline import Timeline, timeline_of
from tyche_env.scenario import Scenario
from tyche_env.world import StartType

REQUIRED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "b": {"name", "cat", "id", "pid", "tid", "ts"},
    "e": {"name", "cat", "id", "pid", "tid", "ts"},
    "C": {"name", "pid", "tid", "ts", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
}
"""Fields of each kind of event, of those that the format knows."""


def test_a_planted_window_has_every_span_in_its_place_at_its_time() -> None:
    def seen(nodes: int) -> Timeline:
        return Timeline(
            time_s=np.array([1.0, 2.5]),
            memory_gb=np.array([[1.0, 2.0, 4.0, 8.0], [3.0, 1.0, 5.0, 6.0]]),
            gpu_gb=np.array([0.5, 0.25]),
            containers=[(0, 7, 0.0, 2.0), (nodes - 1, 9, 0.5, 2.5)],
            stays=[(1, 2, 0, 0.5, 1.0), (1, 2, 1, 1.0, 1.5), (0, 1, 2, 0.25, 2.0)],
            runs=[(1, 0, int(StartType.WARM), 0.75, 1.25)],
            evictions=np.array([0, 3]),
            shown_s=2.5,
            names=("a", "b", "c"),
        )

    events = chrome_trace({"first": seen(3), "second": seen(1)})["traceEvents"]
    names = {(each["pid"], each["tid"]): each["args"]["name"] for each in events if each["name"].endswith("_name")}
    assert names == {
        (1, 0): "first: node 0",
        (2, 0): "first: node 1",
        (3, 0): "first: node 2",
        (4, 0): "second: node 0",
        (1, 1): "container 0 (slot 7)",
        (3, 2): "container 1 (slot 9)",
        (4, 1): "container 0 (slot 7)",
        (4, 2): "container 1 (slot 9)",
    }
    order = {each["pid"]: each["args"]["sort_index"] for each in events if each["name"] == "process_sort_index"}
    assert order == {1: 1, 2: 2, 3: 3, 4: 4}
    (run, other) = (each for each in events if each["ph"] == "X")
    assert (run["name"], run["cat"], run["pid"], run["tid"]) == ("a", "run,warm", 3, 2)
    assert (run["ts"], run["dur"], run["args"]) == (750_000, 500_000, {"start_type": "warm"})
    assert (other["pid"], other["tid"]) == (4, 2)
    spans: dict[tuple[int, str], list[Any]] = {}
    for each in events:
        if each["ph"] in "be":
            spans.setdefault((each["pid"], each["id"]), []).append(each)
    found = [
        (begin["name"], begin["cat"], begin["pid"], begin["tid"], begin["ts"], end["ts"])
        for begin, end in spans.values()
        if begin["pid"] < 4 and begin["ph"] == "b"
    ]
    assert found == [
        ("container 0", "container", 1, 1, 0, 2_000_000),
        ("container 1", "container", 3, 2, 500_000, 2_500_000),
        ("c", "held", 3, 2, 500_000, 1_000_000),
        ("c", "loading", 3, 2, 1_000_000, 1_500_000),
        ("b", "on a GPU", 1, 1, 250_000, 2_000_000),
    ]
    assert len({key for _, key in spans}) == 10, "no two spans of the window share an identity"
    counted = [(each["pid"], each["name"][:3], each["ts"], each["args"]) for each in events if each["ph"] == "C"]
    # a counter holds from where it is set, so each step's mean stands at the step's beginning
    assert counted[:4] == [
        (1, "mem", 0, {"running": 1.0, "idle, empty": 2.0, "holding functions": 4.0, "free": 8.0}),
        (1, "GPU", 0, {"reserved": 0.5}),
        (1, "mem", 1_000_000, {"running": 3.0, "idle, empty": 1.0, "holding functions": 5.0, "free": 6.0}),
        (1, "GPU", 1_000_000, {"reserved": 0.25}),
    ]
    evicted = [(each["pid"], each["name"], each["ts"]) for each in events if each["ph"] == "i"]
    assert evicted == [(1, "3 evicted", 2_500_000), (4, "3 evicted", 2_500_000)]


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
