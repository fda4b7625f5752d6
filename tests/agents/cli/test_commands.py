"""``tyche evaluate``, ``policy``, ``report`` and ``compare`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.evidence.run_folder import RunFolder
from agents.experiments.fidelity import Study
from tyche_env.cli import run
from tyche_env.scenario import Scenario


def evaluate(scenario: str, out: Path, *options: str) -> int:
    arguments = ["--scenario", scenario, "--out", str(out), "--jobs", "1", "--engine", "reference", *options]
    return run(["evaluate", *arguments])


def test_evaluate_prints_a_table_and_leaves_a_run_folder(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert evaluate(scenario_file, out, "--windows", "4") == 0
    printed = capsys.readouterr().out
    for expected in ("none", "lru", "tyche", "oracle", "openwhisk pre-warming, realistic mode", "of the gap"):
        assert expected in printed
    assert {"manifest.json", "scenario.yaml", "summary.json", "requests.parquet", "report.html"} <= {
        path.name for path in out.iterdir()
    }


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_narrow_terminal_shows_fewer_columns_but_none_cut(finished: RunFolder, width: int) -> None:
    from io import StringIO

    from rich.console import Console

    from agents.evidence.tables import show

    file = StringIO()
    show(Console(file=file, width=width), finished.summary)
    printed = file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert "per function" in printed
    assert ("cost" in printed.partition("Pooled over")[0]) == (width >= 200)


def test_json_is_all_that_is_printed(scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--policy", "none", "--policy", "bound", "--windows", "1", "--json")
    assert evaluate(scenario_file, tmp_path / "run", *options) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {"rows", "aggregates", "comparisons"} <= set(summary)
    assert [row["bound"] for row in summary["rows"]] == [False, True]


def test_quiet_prints_nothing(scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenario_file, tmp_path / "run", "--policy", "none", "--windows", "1", "--quiet") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "tyhce"], "did you mean tyche"),
        (["--windows", "0"], "--windows"),
        (["--windows", "999"], "test windows, asked for 999"),
        (["--decision", "soon"], "'soon' is neither 'event' nor a number of seconds"),
        (["--decision", "-3"], "--decision"),
        (["--mode", "pape"], "--mode"),
        (["--trace", "nowhere.parquet"], "nowhere.parquet"),
        (["--policy", "nowhere.py"], "there is no such file"),
        (["--backend", "openwhisk"], "backend openwhisk: has no GPUs"),
    ],
)
def test_a_user_s_error_is_one_line_and_status_2(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert evaluate(scenario_file, tmp_path / "run", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import agents.evidence.evaluation

    original = agents.evidence.evaluation.run_cell
    calls: list[int] = []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(agents.evidence.evaluation, "run_cell", interrupted)
    assert evaluate(scenario_file, tmp_path / "run", "--policy", "none", "--windows", "2") == 130
    assert "the same command with --out" in capsys.readouterr().err
    assert len(RunFolder.read(tmp_path / "run").summary["rows"]) == 1


def test_policy_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "list"]) == 0
    text = capsys.readouterr().out
    for expected in ("tyche-histogram", "minute-oracle", "privileged", "bound", "FILE.py"):
        assert expected in text
    assert run(["policy", "list", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} >= {"none", "tyche", "oracle"}


def test_report_is_written_anew(finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    assert run(["report", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert run(["report", str(tmp_path / "nothing")]) == 2


def test_two_runs_are_compared_window_by_window(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, policy, windows in (("first", "none", "4"), ("second", "tyche", "5")):
        assert evaluate(scenario_file, tmp_path / name, "--policy", policy, "--windows", windows, "--quiet") == 0
    assert run(["compare", str(tmp_path / "first"), str(tmp_path / "second"), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {(entry["policy"], entry["first"], entry["windows"]) for entry in entries} == {("tyche", "none", 4)}
    assert run(["compare", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    assert "warming_loading_ms_function_mean" in capsys.readouterr().out


def test_a_run_compared_with_itself_does_not_differ(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(finished.path), str(finished.path), "--json"]) == 0
    for entry in json.loads(capsys.readouterr().out):
        assert entry["difference"]["mean"] == 0.0
        assert not entry["clear_of_zero"]


def test_runs_of_different_scenarios_are_not_compared(
    finished: RunFolder, tiny: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(tiny.with_(name="other").to_yaml(), encoding="utf-8")
    assert evaluate(str(path), tmp_path / "run", "--policy", "none", "--windows", "1", "--quiet") == 0
    assert run(["compare", str(finished.path), str(tmp_path / "run")]) == 2
    assert "its scenario is other" in capsys.readouterr().err


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--help"]) == 0
    assert (
        "tyche evaluate --scenario small --policy tyche --policy my_policy.py --decision 10" in capsys.readouterr().out
    )


def test_real_time_is_spent_on_one_window_unless_more_are_asked_for(
    scenario_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    class StoppedError(Exception):
        pass

    def stop(study: Study, *_: Any, **__: Any) -> None:
        asked.append(study.plan.windows)
        raise StoppedError

    monkeypatch.setattr("agents.experiments.fidelity.study", stop)
    for options in ([], ["--windows", "2"]):
        with pytest.raises(StoppedError):
            run(
                ["evaluate", "--scenario", scenario_file, "--backend", "both", "--out", str(tmp_path / "run"), *options]
            )
    assert asked == [1, 2]


def planted(folder: RunFolder, **change: Any) -> RunFolder:
    """The folder, as if a run of it had gone so."""
    summary = folder.path / "summary.json"
    found = json.loads(summary.read_text(encoding="utf-8"))
    for entry in found["aggregates"]:
        entry.update({name: {"mean": value} for name, value in change["rates"].items()})
    found["rows"][0]["health"] = change["health"]
    summary.write_text(json.dumps(found), encoding="utf-8")
    return folder


@pytest.mark.parametrize("share", [0.02, pytest.param(0.01, marks=pytest.mark.slow)])
def test_what_was_not_served_is_said_last_and_fails_where_that_is_asked_for(
    scenario_file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
) -> None:
    from agents.evidence import evaluation

    options = ("--policy", "none", "--windows", "1")
    out = tmp_path / "run"
    assert evaluate(scenario_file, out, *options, "--strict") == 0
    honest = evaluation.evaluate
    rates = {"unserved_rate": share, "failed_rate": share, "timed_out_rate": 0.0, "rejected_rate": 0.0}
    health = {"failing_loads": {"1-mine": [12, "its libraries cannot be imported"]}, "lost_containers": 3}

    def unlucky(*arguments: Any, **named: Any) -> Any:
        outcome = honest(*arguments, **named)
        planted(outcome.folder, rates=rates, health=health)
        return outcome

    monkeypatch.setattr(evaluation, "evaluate", unlucky)
    much = share > 0.01
    capsys.readouterr()
    for strict, quiet in ((False, False), (True, False), (True, True)):
        words = (*options, *(["--strict"] if strict else []), *(["--quiet"] if quiet else []))
        assert evaluate(scenario_file, out, *words) == (1 if strict and much else 0)
        lines = capsys.readouterr().out.splitlines()
        if quiet:
            continue
        if much:
            assert lines[-1] == "Requests that were not served: none (openwhisk, realistic): 2.0 % failed."
            lines.pop()
        assert lines[-1] == "Loads that failed: 1-mine 12 times (its libraries cannot be imported)."
        assert lines[-2].startswith("Containers that were lost: none (openwhisk, realistic) 3. ")


def test_nothing_is_tried_before_a_simulated_run(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(scenario_file, tmp_path / "run", "--no-preflight") == 2
    assert "--no-preflight: is for real containers" in capsys.readouterr().err
