"""What is run where a command's options say so, without running it; and what a list marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tyche_env.cli import run
from tyche_env.scenario import Scenario


def test_the_list_marks_what_knows_the_future(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "privileged" in line]
    assert {line.split()[0] for line in lines} == {"oracle", "minute-oracle"}
    assert run(["policy", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in entries if entry["privileged"]} == {"oracle", "minute-oracle"}


class StoppedError(Exception):
    """Nothing is run."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been run, in place of running it."""
    from agents.evidence import evaluation

    found: list[dict[str, Any]] = []

    def stop(plan: Any, out: Path, **named: Any) -> None:
        found.append({"plan": plan, "out": out, **named})
        raise StoppedError

    monkeypatch.setattr(evaluation, "evaluate", stop)
    return found


def test_every_option_of_evaluate_says_what_is_run(scenario_file: str, asked: list[dict[str, Any]]) -> None:
    several = ["--policy", "lru", "--policy", "tyche", "--prewarm", "histogram", "--prewarm", "pagurus"]
    numbers = ["--windows", "3", "--seeds", "4", "--decision", "7.5", "--jobs", "5"]
    words = ["--split", "validation", "--mode", "realistic", "--record", "none", "--engine", "reference"]
    with pytest.raises(StoppedError):
        run(["evaluate", "--scenario", scenario_file, "--out", "there", *several, *numbers, *words])
    (found,) = asked
    plan = found["plan"]
    assert (plan.scenario.name, plan.policies) == ("tiny", ("lru", "tyche"))
    assert (plan.prewarm, plan.modes) == (("histogram", "pagurus"), ("realistic",))
    assert (plan.windows, plan.seeds, plan.decision, plan.split) == (3, 4, 7.5, "validation")
    assert (plan.record, plan.engine, plan.backend) == ("none", "reference", "simulated")
    assert (found["out"], found["spread"].jobs, found["spread"].on) == (Path("there"), 5, "processes")


def test_what_evaluate_runs_unless_it_is_told(
    scenario_file: str, tiny: Scenario, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoppedError):
        run(["evaluate", "--scenario", scenario_file])
    (found,) = asked
    plan = found["plan"]
    assert plan.policies == ("none", "lru", "tyche", "oracle")
    assert (plan.prewarm, plan.modes) == ((tiny.prewarm.policy,), (tiny.mode,))
    assert (plan.windows, plan.seeds) == (min(12, len(tiny.windows("test"))), 1)
    assert (plan.decision, plan.split, plan.record, plan.engine) == ("event", "test", "sample", "compiled")
    assert (found["out"].parent, found["spread"].jobs) == (Path("runs"), None)
    assert found["out"].name.startswith("tiny-2")


def test_a_trace_of_ones_own_is_read_by_its_columns(
    scenario_file: str, tiny: Scenario, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, Any]] = []

    def on_file(self: Scenario, file: Path, columns: Any = None) -> Scenario:
        given.append((file, columns))
        return tiny

    monkeypatch.setattr(Scenario, "on_file", on_file)
    mine = ["evaluate", "--scenario", scenario_file, "--trace", "mine.csv"]
    for options in ([], ["--column", "time=when", "--column", "time_unit=iso", "--tz", "Europe/Berlin"]):
        with pytest.raises(StoppedError):
            run([*mine, *options])
    named = {"time": "when", "time_unit": "iso", "time_zone": "Europe/Berlin"}
    assert given == [(Path("mine.csv"), None), (Path("mine.csv"), named)]


@pytest.mark.parametrize("option", [["--column", "time=t"], ["--tz", "UTC"]])
def test_columns_belong_to_a_trace(scenario_file: str, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--scenario", scenario_file, *option]) == 2
    assert "needs --trace FILE, which is not given" in capsys.readouterr().err


def test_a_seed_that_no_table_holds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--scenario", "small", "--seed", str(2**63)]) == 2
    assert "is not in the range 0<=x<=9223372036854775807" in capsys.readouterr().err
