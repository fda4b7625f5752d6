"""Every policy can be simulated, evaluated and reported on; what cannot be is refused in one line, and stands here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.evidence.run_folder import RunFolder
from agents.policies.loading import BOUND, names
from tyche_env.cli import run
from tyche_env.scenario import Scenario

NAMES = names()
EXPERIMENTS = ("arima", "forest")
"""They need packages that the quick tests do without."""
EVERYTHING = (*NAMES, BOUND)

NO_SIMULATION = {BOUND: "is a lower bound, not a policy"}
"""Refused by ``tyche simulate``: the bound is computed, nothing is run."""

NO_REFERENCE = {
    "learned": "knows no networks",
    "learned-rl": "knows no networks",
    "learned-costly": "knows no rules of your own",
}
"""Refused on the reference engine, which is the rules of docs/engine.md in plain Python and nothing else."""

TIMES = {"cpu_s", "wall_s", "invocations_per_cpu_s", "decision_us_mean"}
PERCENTILES = {"end_to_end_ms_p50", "end_to_end_ms_p95", "end_to_end_ms_p99"}
"""Exact where requests are recorded; ``tyche simulate`` has a histogram of bins of 1 %."""
WINDOW = 1
"""The one that is simulated: it has 241 requests, and policies that load differ in it."""

Rows = dict[tuple[str, int], dict[str, Any]]
"""By policy and window."""


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scenarios") / "every.yaml"
    scenario = Scenario.load("small").with_(**{"name": "every", "trace.group_size": 15})
    path.write_text(scenario.to_yaml(), encoding="utf-8")
    return str(path)


def evaluated(scenario: str, folder: Path, *options: str, left_out: dict[str, str] | None = None) -> Rows:
    """The rows of all policies in two windows, from a run folder that is reported on."""
    policies = [word for name in EVERYTHING if name not in (left_out or {}) for word in ("--policy", name)]
    shared = ["--scenario", scenario, "--windows", "2", "--jobs", "1", "--out", str(folder)]
    assert run(["evaluate", *shared, *policies, *options, "--quiet"]) == 0
    (folder / "report.html").unlink()
    assert run(["report", str(folder)]) == 0
    assert (folder / "report.html").stat().st_size > 10_000
    return {(row["policy"], row["window"]): row for row in RunFolder.read(folder).rows()}


@pytest.fixture(scope="module")
def compiled(scenario_file: str, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return evaluated(scenario_file, tmp_path_factory.mktemp("every") / "compiled")


def timeless(row: dict[str, Any], *besides: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in TIMES and key not in besides}


@pytest.mark.slow
def test_all_are_there(compiled: Rows) -> None:
    assert {"none", "tyche", "oracle", "learned", "arima", "forest"} < set(NAMES)
    assert set(compiled) == {(name, window) for name in EVERYTHING for window in (0, WINDOW)}
    # a policy that another one was run for would have its row
    shown = {row["warming_loading_ms_mean"] for (_, window), row in compiled.items() if window == WINDOW}
    assert len(shown) > len(EVERYTHING) / 2


def simulated(scenario: str, name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``tyche simulate`` prints of a policy."""
    options = ["--scenario", scenario, "--window", str(WINDOW), "--policy", name, "--json"]
    assert run(["simulate", *options]) == 0
    return timeless(json.loads(capsys.readouterr().out), *PERCENTILES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in EXPERIMENTS else ()) for name in NAMES]
)
def test_every_policy_is_simulated(scenario_file: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated(scenario_file, name, capsys)["requests"] == 241


@pytest.mark.slow
def test_a_simulation_finds_what_an_evaluation_finds(
    scenario_file: str, compiled: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        found = simulated(scenario_file, name, capsys)
        assert {"requests", "warming_loading_ms_mean", "loads", "container_gb_s"} <= found.keys()
        assert found == {key: compiled[name, WINDOW][key] for key in found}


@pytest.mark.slow
def test_both_engines_find_the_same(scenario_file: str, tmp_path: Path, compiled: Rows) -> None:
    rows = evaluated(scenario_file, tmp_path / "reference", "--engine", "reference", left_out=NO_REFERENCE)
    assert {name for name, _ in rows} == set(EVERYTHING) - set(NO_REFERENCE)
    for key, row in rows.items():
        assert timeless(row) == timeless(compiled[key])


@pytest.mark.slow
def test_all_decide_every_ten_seconds(scenario_file: str, tmp_path: Path, compiled: Rows) -> None:
    rows = evaluated(scenario_file, tmp_path / "interval", "--decision", "10")
    assert set(rows) == set(compiled)
    assert {row["decision"] for (name, _), row in rows.items() if name != BOUND} == {10.0}
    # what decides nothing, and what is only computed, cannot tell when it was asked
    for name in ("none", "lru", "reap", BOUND):
        assert timeless(rows[name, WINDOW], "decision") == timeless(compiled[name, WINDOW], "decision")
    assert rows["tyche", WINDOW]["loads"] != compiled["tyche", WINDOW]["loads"]


@pytest.mark.parametrize(
    ("command", "name", "reason"),
    [
        *(("simulate", name, reason) for name, reason in NO_SIMULATION.items()),
        *(("evaluate --engine reference", name, reason) for name, reason in NO_REFERENCE.items()),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    scenario_file: str, tmp_path: Path, command: str, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")] if command.startswith("evaluate") else []
    assert run([*command.split(), "--scenario", scenario_file, "--policy", name, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not (tmp_path / "run").exists()


def test_an_object_in_python_is_asked_alike(
    scenario_file: str, my_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", "--scenario", scenario_file, "--policy", str(my_policy), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shared = ["evaluate", "--scenario", scenario_file, "--windows", "1", "--policy", str(my_policy), "--quiet"]
    assert run([*shared, "--jobs", "1", "--record", "none", "--out", str(tmp_path / "run")]) == 0
    (row,) = RunFolder.read(tmp_path / "run").rows()
    common = found.keys() & row.keys() - TIMES
    assert {key: found[key] for key in common} == {key: row[key] for key in common}
    assert row["decision"] == 10.0
    capsys.readouterr()
    assert run([*shared, "--engine", "reference", "--out", str(tmp_path / "other")]) == 2
    assert "--engine reference: makes no observations, which policy lazy is shown" in capsys.readouterr().err
