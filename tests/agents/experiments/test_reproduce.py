"""``tyche reproduce``: runs, resumes, and says what falls outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli.reproduce import reproduce
from agents.evidence.run_folder import RunError, RunFolder
from agents.experiments import checks, regime
from agents.experiments.paper import EXPERIMENTS, Experiment
from agents.experiments.reproduce import reproduce as run
from agents.experiments.runs import Case, run_all
from agents.experiments.tables import markdown
from agents.playing.spread import ALONE


@pytest.fixture(scope="module")
def _monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def single(day_folder: Path, tmp_path_factory: pytest.TempPathFactory, _monkeypatch_module: Any) -> dict[str, Any]:
    _monkeypatch_module.setenv("TYCHE_TRACES", str(day_folder))
    return run("single-node", 2, tmp_path_factory.mktemp("reproduce") / "single-node", spread=ALONE)


def test_a_row_has_our_numbers_and_the_paper_s(single: dict[str, Any]) -> None:
    rows = {(row["class"], row["prewarm"], row["policy"]): row for row in single["rows"]}
    row = rows["Predictable", "pagurus", "tyche"]
    assert row["paper_warming_loading_ms"] == 223
    assert row["paper_preload_rate"] == pytest.approx(0.85)
    assert row["ci95"][0] <= row["warming_loading_ms_mean"] <= row["ci95"][1]
    assert row["difference_ms"] < 0
    assert row["draws"] == 2
    assert 8 <= row["distinct_functions"] <= 16
    assert rows["Normal", "openwhisk", "none"]["preload_rate"] == 0


def test_every_row_has_the_keys_that_a_table_needs(single: dict[str, Any]) -> None:
    keys = {"class", "prewarm", "policy", "warming_loading_ms_mean", "ci95", "preload_rate"}
    for row in single["rows"]:
        assert keys | {"paper_warming_loading_ms", "paper_preload_rate"} <= row.keys()


def test_the_oracle_and_the_bound_are_checked(single: dict[str, Any]) -> None:
    texts = [each["check"] for each in single["checks"]]
    assert any("not significantly better than the oracle" in text for text in texts)
    bound = [each for each in single["checks"] if "the bound is never beaten" in each["check"]]
    assert bound
    assert all(each["holds"] for each in bound)


def test_a_finished_folder_is_not_run_again(day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("single-node", 1, tmp_path / "out", spread=ALONE)

    def refuse(*_: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr("agents.experiments.runs.play_in", refuse)
    assert run("single-node", 1, tmp_path / "out", spread=ALONE)["rows"] == first["rows"]


def test_another_number_of_draws_needs_another_folder(day: Path, tmp_path: Path) -> None:
    run("ilp", 1, tmp_path / "out")
    with pytest.raises(RunError, match="draws differ"):
        run("ilp", 2, tmp_path / "out")


def test_all_experiments_have_cases_of_distinct_keys(day: Path) -> None:
    for experiment in EXPERIMENTS.values():
        if isinstance(experiment, Experiment) and experiment.name not in ("load", "functions", "large-scale"):
            keys = [case.key for case in experiment.cases(1)]
            assert len(set(keys)) == len(keys) > 0


def test_the_command_prints_json(day: Path, tmp_path: Path) -> None:
    arguments = ["paper", "--experiment", "ilp", "--draws", "1", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(reproduce, arguments)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)["rows"]
    assert rows[0]["experiment"] == "ilp"
    assert rows[0]["lost_percent"] <= 2


def test_an_unknown_experiment_is_refused_by_name() -> None:
    done = CliRunner().invoke(reproduce, ["paper", "--experiment", "nodez"])
    assert "there is no 'nodez'" in str(done.exception)


def test_cells_outside_come_with_their_cause() -> None:
    row = {
        "class": "Normal",
        "prewarm": "openwhisk",
        "policy": "none",
        "warming_loading_ms_mean": 1000.0,
        "ci95": [900, 1100],
        "paper_warming_loading_ms": 3059,
        "paper_preload_rate": None,
    }
    (found,) = checks.tables([row])
    assert not found["holds"]
    assert "530 ms" in found["cause"]
    text = markdown(
        {"axes": ["class"], "columns": [("ms", "warming_loading_ms_mean")], "rows": [row], "checks": [found]}
    )
    assert "0 of 1 checks hold. Outside:" in text


def test_a_regime_corner_compares_the_best_of_each(day: Path, tmp_path: Path) -> None:
    wanted = {"functions": 8, "pool_gb": 16, "class": "Normal"}
    todo: list[Case] = [case for case in regime.cases(1) if {key: case.axes[key] for key in wanted} == wanted]
    folder = RunFolder.open(tmp_path / "run", {}, "", "")
    rows = regime.rows_of(todo, run_all(todo, folder, spread=ALONE))
    assert {row["mode"] for row in rows} == {"paper", "realistic"}
    for row in rows:
        assert row["gain_prewarming_rate"] == pytest.approx(1 - row["tyche_ms"] / row["prewarming_ms"])
        assert row["bound_ms"] <= row["tyche_ms"]


def test_draws_are_for_the_paper_s_map(tmp_path: Path) -> None:
    done = CliRunner().invoke(reproduce, ["regime", "--draws", "2", "--out", str(tmp_path)])
    assert "--draws: is for --map paper" in str(done.exception)
