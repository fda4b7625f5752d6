"""What the platform counts and prints, from planted activations and containers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from real_backend.commands import _show
from real_backend.platform.metrics import Metrics

NODE = shutil.which("node")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    """Every value by its name and labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for each in families
        for sample in each.samples
    }


def activation(status: str, start: str | None, duration: int, **notes: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in notes.items()]
    if start is not None:
        annotations.append({"key": "tyche", "value": {"start": start}})
    return {"response": {"status": status}, "duration": duration, "annotations": annotations}


def test_activations_are_counted_by_status_and_start_and_their_times_are_in_seconds() -> None:
    metrics = Metrics()
    metrics.observe(activation("success", "cold", 1500, waitTime=30, initTime=700))
    for _ in range(3):
        metrics.observe(activation("success", "warm", 200, waitTime=4))
    metrics.observe(activation("developer error", None, 0, waitTime=0))
    metrics.refusals.labels("429").inc(7)
    found = samples(metrics)

    def counted(status: str, start: str) -> float:
        return found["tyche_activations_total", (("start", start), ("status", status))]

    assert (counted("success", "cold"), counted("success", "warm"), counted("developer error", "none")) == (1, 3, 1)
    sums = {stage: found[f"tyche_{stage}_seconds_sum", ()] for stage in ("wait", "init", "duration")}
    assert sums == pytest.approx({"wait": 0.042, "init": 0.7, "duration": 2.1})
    counts = {stage: found[f"tyche_{stage}_seconds_count", ()] for stage in ("wait", "init", "duration")}
    assert counts == {"wait": 5, "init": 1, "duration": 5}
    # 0 and three of 4 ms are within 5 ms, and 30 ms is not
    assert found["tyche_wait_seconds_bucket", (("le", "0.005"),)] == 4
    assert found["tyche_refusals_total", (("status", "429"),)] == 7


def container(state: str, paused: bool = False) -> SimpleNamespace:
    return SimpleNamespace(state=state, paused=paused)


def test_what_is_there_now_is_told_by_node_state_and_reason() -> None:
    first = [container("idle"), container("idle"), container("idle", paused=True), container("busy")]
    nodes = [
        SimpleNamespace(spec=SimpleNamespace(name="a", memory_mib=4096), used_mib=1024, containers=first),
        SimpleNamespace(spec=SimpleNamespace(name="b", memory_mib=2048), used_mib=512, containers=[container("busy")]),
    ]
    pool = SimpleNamespace(nodes=nodes, removals={"memory": 5, "keep-alive": 6}, queued=8)
    service: Any = SimpleNamespace(pool=pool, in_flight=9)
    metrics = Metrics()
    metrics.watch(service)
    now = {key: value for key, value in samples(metrics).items() if value and not key[0].endswith("_created")}
    assert now == {
        ("tyche_containers", (("node", "a"), ("state", "idle"))): 2,
        ("tyche_containers", (("node", "a"), ("state", "paused"))): 1,
        ("tyche_containers", (("node", "a"), ("state", "busy"))): 1,
        ("tyche_containers", (("node", "b"), ("state", "busy"))): 1,
        ("tyche_memory_mib", (("kind", "capacity"), ("node", "a"))): 4096,
        ("tyche_memory_mib", (("kind", "promised"), ("node", "a"))): 1024,
        ("tyche_memory_mib", (("kind", "capacity"), ("node", "b"))): 2048,
        ("tyche_memory_mib", (("kind", "promised"), ("node", "b"))): 512,
        ("tyche_removals", (("reason", "memory"),)): 5,
        ("tyche_removals", (("reason", "keep-alive"),)): 6,
        ("tyche_queued", ()): 8,
        ("tyche_in_flight", ()): 9,
    }


def test_the_status_tells_each_figure_under_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("id", "node", "kind", "action", "state", "memory_mib", "used_mb", "activations")
    _show(
        {
            "url": "http://u",
            "process": 71,
            "container_factory": {"name": "process", "notes": ["n1", "n2"]},
            "nodes": [
                {"name": "a", "memory_mib": 4096, "free_mib": 1024, "containers": 3},
                {"name": "b", "memory_mib": 2048, "free_mib": 512, "containers": 4},
            ],
            "containers": [dict(zip(names, ("c1", "a", "k", "f", "idle", 256, 12.5, 17), strict=True))],
            "actions": ["f", "g"],
        }
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["platform at http://u, process 71, process containers", "n1; n2"]
    tables = [
        [cell.strip() for cell in line.strip("┃│").replace("│", "┃").split("┃")] for line in lines if line[0] in "┃│"
    ]
    nodes = [dict(zip(tables[0], cells, strict=True)) for cells in tables[1:3]]
    assert nodes == [
        {"node": "a", "MiB": "4096", "MiB free": "1024", "containers": "3"},
        {"node": "b", "MiB": "2048", "MiB free": "512", "containers": "4"},
    ]
    assert tables[3] == list(names)
    assert tables[4] == ["c1", "a", "k", "f", "idle", "256", "12.5", "17"]
    assert lines[-1] == "actions: f, g"


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_the_status_page_shows_each_figure_in_its_place() -> None:
    planted = {
        "summary": {"in_flight": 5, "queued": 7, "removals": {"memory": 2, "keep-alive": 9}},
        "container-factory": {"name": "process", "notes": ["n1", "n2"]},
        "nodes": [
            {"name": "a", "memory_mib": 4000, "free_mib": 3000, "containers": 3},
            {"name": "b", "memory_mib": 500, "free_mib": 500, "containers": 0},
        ],
        "gpus": {
            "absent": "",
            "gpus": [
                {"index": 1, "name": "card", "is_stub": False, "used_mb": 600.4, "total_mb": 2401.6}
                | {"utilisation_percent": 37}
            ],
        },
        "containers": [
            {"id": "c1", "node": "a", "action": "f", "kind": "k", "state": "idle", "used_mb": 99.6, "memory_mib": 256}
            | {"activations": 17, "last_used": 940, "residents": [resident(), resident(state="LOADING", memory_mb=8)]},
            {"id": "c2", "node": "b", "action": None, "kind": "k", "state": "busy", "used_mb": None, "memory_mib": 100}
            | {"activations": 4, "last_used": 990, "residents": [resident(gpu=True, torch_reserved_mb=300)]},
        ],
    }
    here = Path(__file__)
    page = here.parents[3] / "real_backend" / "platform" / "status.html"
    answer = subprocess.run(
        [str(NODE), str(here.with_name("page.mjs")), str(page)],
        input=json.dumps(planted),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = json.loads(answer.stdout)
    said = {"in-flight": "5", "queued": "7", "removed": "11", "notes": "process containers · n1 · n2", "trouble": ""}
    assert shown["said"] == said
    assert [list(each.values()) for each in shown["nodes"]] == [
        ["a", "1000 of 4000 MiB in 3 containers", "25%", "bar "],
        ["b", "0 of 500 MiB in 0 containers", "0%", "bar "],
    ]
    assert [list(each.values()) for each in shown["gpus"]] == [
        ["1 card", "600 of 2402 MB, 37 % busy", "25%", "bar gpu"]
    ]
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", page.read_text(encoding="utf-8"))
    first, second = (dict(zip(headings, row, strict=True)) for row in shown["containers"])
    # 256 MiB are 268 MB, and a minute has passed since it was used
    assert {name: cell["text"] for name, cell in first.items()} == {
        "container": "c1",
        "node": "a",
        "action": "f",
        "state": "idle",
        "used / limit, MB": "100 / 268",
        "runs": "17",
        "idle, s": "60",
        "residents": "r 50 MBr 8 MB",
    }
    assert first["residents"]["chips"] == ["chip ", "chip loading"]
    assert second["used / limit, MB"]["text"].split(" / ") == ["\N{EN DASH}", "105"]
    assert second["idle, s"]["text"] == ""
    assert (second["action"]["text"], second["residents"]["text"]) == ("k", "r 300 MB GPU")
    assert second["residents"]["chips"] == ["chip on-gpu"]


def resident(**changes: Any) -> dict[str, Any]:
    return {"function": "r", "state": "HELD", "gpu": False, "memory_mb": 50, "torch_reserved_mb": None} | changes
