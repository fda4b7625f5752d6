"""Runs of an evaluation on other machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.evaluation import Plan, evaluate
from agents.fanout import FanoutError, Row, Task, run_all
from tyche_env.scenario import Scenario

_PROGRAM = """
import json, sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from agents.evaluation import Plan, evaluate
from tyche_env.scenario import Scenario

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    plan = Plan(Scenario.load("small"), ("none", "tyche"), windows=3, record="all")
    outcome = evaluate(plan, Path(sys.argv[1]), where="ray")
    print(json.dumps({"rows": len(outcome.rows), "machines": len(ray.nodes())}))
    ray.shutdown()
    cluster.shutdown()
"""


def _without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "cpu_s" not in key} for row in rows]


def _row(number: int, part: Path) -> Row:
    part.write_text(str(number))
    return {"number": number}


def _tasks(folder: Path, count: int) -> list[Task]:
    return [Task(partial(_row, number), folder / f"{number}") for number in range(count)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_run_gives_one_row(tmp_path: Path, jobs: int) -> None:
    rows = run_all(_tasks(tmp_path, 4), "processes", jobs)
    assert sorted(row["number"] for row in rows) == [0, 1, 2, 3]
    assert sorted(part.read_text() for part in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    assert list(run_all([], "ray", None)) == []


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FanoutError, match=r"needs Ray; pip install 'tyche-env\[cluster\]'"):
        list(run_all(_tasks(tmp_path, 1), "ray", None))


@pytest.mark.slow
def test_two_ray_machines_find_what_one_process_finds(tmp_path: Path) -> None:
    serial = evaluate(
        Plan(Scenario.load("small"), ("none", "tyche"), windows=3, record="all"), tmp_path / "serial", jobs=1
    )
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "ray")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root), "RAY_DISABLE_IMPORT_WARNING": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": 6, "machines": 2}
    summary = json.loads((tmp_path / "ray" / "summary.json").read_text())
    assert _without_time(summary["rows"]) == _without_time(serial.folder.summary["rows"])
    assert (tmp_path / "ray" / "requests.parquet").read_bytes() == serial.folder.requests.read_bytes()
