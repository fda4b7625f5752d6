"""Evaluation: paired runs, resumed and interrupted without a trace, the same over one process or several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.evidence.evaluation import evaluate, run_cell
from agents.evidence.plan import Plan
from agents.evidence.run_folder import RunError, RunFolder
from agents.playing.runs import EvaluationError
from agents.playing.spread import ALONE, Spread
from agents.policies.policy import PolicyError
from tyche_env.metrics import METRIC_KEYS, STAGES
from tyche_env.scenario import Scenario
from tyche_env.stored import read_world, write_world

MakePlan = Callable[..., Plan]
Row = dict[str, Any]

DESIGN_KEYS = ("scenario", "policy", "prewarm", "mode", "backend", "decision", "window", "seed", *METRIC_KEYS)
CLOCKED = ("cpu_s", "invocations_per_cpu_s")


def timeless(rows: list[Row]) -> list[Row]:
    """Rows without what the clock says."""
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


def stop_after(count: int) -> Callable[[int, int], None]:
    """Progress that is interrupted once so many runs are finished."""

    def progress(done: int, _: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def test_a_row_begins_with_the_documented_keys(finished: RunFolder) -> None:
    for row in finished.summary["rows"]:
        assert tuple(row)[: len(DESIGN_KEYS)] == DESIGN_KEYS


def test_there_is_a_row_for_each_policy_condition_and_window(finished: RunFolder) -> None:
    rows = finished.summary["rows"]
    keys = {(row["policy"], row["prewarm"], row["mode"], row["window"], row["seed"]) for row in rows}
    assert len(keys) == len(rows) == 4 * 2 * 6
    assert finished.manifest["status"] == "finished"


def test_every_policy_meets_the_same_requests(finished: RunFolder) -> None:
    by_window: dict[tuple[int, int], set[int]] = {}
    for row in finished.summary["rows"]:
        by_window.setdefault((row["window"], row["seed"]), set()).add(row["requests"])
    assert all(len(counts) == 1 for counts in by_window.values())


def test_the_bound_has_a_row_that_says_so_and_lies_below_all(finished: RunFolder) -> None:
    rows = finished.summary["rows"]
    for bound in (row for row in rows if row["bound"]):
        assert bound["policy"] == "bound"
        assert bound["preload_rate"] is None
        for row in rows:
            if (row["mode"], row["window"]) == (bound["mode"], bound["window"]) and not row["bound"]:
                delay_ms = row["warming_loading_ms_mean"] + row["queue_ms_mean"]
                assert bound["warming_loading_ms_mean"] <= delay_ms + 1e-9


def test_policies_are_compared_with_the_first(finished: RunFolder) -> None:
    comparisons = finished.summary["comparisons"]
    assert {entry["first"] for entry in comparisons} == {"none"}
    assert {entry["policy"] for entry in comparisons} == {"tyche", "oracle"}


def test_what_the_oracle_still_gains_over_each_policy_is_there_too(finished: RunFolder) -> None:
    entries = finished.summary["oracle_comparisons"]
    assert {(entry["policy"], entry["first"]) for entry in entries} == {("none", "oracle"), ("tyche", "oracle")}


LOADING = ["warming_us", "library_us", "model_us", "transfer_us"]


def test_pooled_figures_are_those_of_the_recorded_requests(finished: RunFolder) -> None:
    # another implementation: pandas over requests.parquet
    requests = pd.read_parquet(finished.requests)
    requests["latency_ms"] = (requests["end_us"] - requests["arrival_us"]) / 1e3
    requests["loading_ms"] = requests[LOADING].sum(axis=1) / 1e3
    for entry in finished.summary["aggregates"]:
        if entry["bound"]:
            continue
        own = requests[(requests["policy"] == entry["policy"]) & (requests["mode"] == entry["mode"])]
        assert entry["requests"] == len(own)
        functions = own.groupby(["group", "function"], observed=True)
        expected = {
            "end_to_end_ms_mean": own["latency_ms"].mean(),
            "warming_loading_ms_mean": own["loading_ms"].mean(),
            "warming_loading_ms_function_mean": functions["loading_ms"].mean().mean(),
            "preload_rate": own["start_type"].isin(["gpu", "memory"]).mean(),
            "preload_rate_function_mean": (
                own["start_type"].isin(["gpu", "memory"]).groupby([own["group"], own["function"]], observed=True).mean()
            ).mean(),
            "cold_rate": (own["start_type"] == "cold").mean(),
            "kept_rate": own["kept"].mean(),
            **{f"{stage}_ms_mean": own[f"{stage}_us"].mean() / 1e3 for stage in STAGES},
        }
        for metric, value in expected.items():
            assert entry[metric]["mean"] == pytest.approx(value, rel=1e-3), metric
        for percent, value in own["latency_ms"].quantile([0.5, 0.95, 0.99], interpolation="lower").items():
            above = own["latency_ms"].quantile(percent, interpolation="higher")
            found = entry[f"end_to_end_ms_p{round(100 * percent)}"]["mean"]
            assert 0.98 * value <= found <= 1.02 * above
        windows = own.groupby("window")["loading_ms"].mean()
        assert entry["warming_loading_ms_mean_window_mean"] == pytest.approx(windows.mean(), rel=1e-3)


def test_an_interrupted_run_is_consistent_and_goes_on_where_it_stopped(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of("none", "tyche")
    whole = evaluate(plan, tmp_path / "whole", spread=ALONE)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, tmp_path / "cut", spread=ALONE, progress=stop_after(3))
    folder = RunFolder.read(tmp_path / "cut")
    assert folder.manifest["status"] == "interrupted"
    assert len(folder.summary["rows"]) == 3
    assert not folder.requests.exists()

    seen: list[tuple[int, int]] = []
    resumed = evaluate(plan, tmp_path / "cut", spread=ALONE, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(3, 4), (4, 4)]
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert resumed.folder.requests.read_bytes() == whole.folder.requests.read_bytes()
    assert not (folder.path / "parts").exists()


def test_a_finished_run_is_not_run_again(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of("none")
    first = evaluate(plan, tmp_path / "run", spread=ALONE)
    requests = first.folder.requests.read_bytes()
    again = evaluate(plan, tmp_path / "run", spread=ALONE)
    assert again.rows == first.rows
    assert again.folder.requests.read_bytes() == requests


def test_a_torn_last_line_is_run_again(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of("none")
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, tmp_path / "run", spread=ALONE, progress=stop_after(1))
    with (tmp_path / "run" / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"policy": "no')
    assert len(evaluate(plan, tmp_path / "run", spread=ALONE).rows) == 2


def test_another_plan_in_the_same_folder_is_refused(plan_of: MakePlan, tmp_path: Path, my_policy: Path) -> None:
    plan = plan_of("none")
    evaluate(plan, tmp_path / "run", spread=ALONE)
    with pytest.raises(RunError, match=r"holds a run of another plan \(policies, windows differ\)"):
        evaluate(plan_of("none", "lru", windows=1), tmp_path / "run", spread=ALONE)
    changed = Plan(plan.scenario.with_(**{"prewarm.keep_alive_s": 5}), ("none",), windows=2, engine="reference")
    with pytest.raises(RunError, match="scenario_hash, record differ"):
        evaluate(changed, tmp_path / "run", spread=ALONE)


def test_a_folder_of_something_else_is_refused(plan_of: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="is there, but is no run folder"):
        evaluate(plan_of("none"), tmp_path, spread=ALONE)


def test_several_processes_find_the_same_as_one(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of("none", "tyche")
    one = evaluate(plan, tmp_path / "one", spread=ALONE)
    two = evaluate(plan, tmp_path / "two", spread=Spread(2))
    assert timeless(one.rows) == timeless(two.rows)
    assert one.folder.requests.read_bytes() == two.folder.requests.read_bytes()


def test_expansion_seeds_change_requests_but_are_no_samples(plan_of: MakePlan, tmp_path: Path) -> None:
    outcome = evaluate(plan_of("none", seeds=2), tmp_path / "run", spread=ALONE)
    assert len(outcome.rows) == 4
    assert (outcome.aggregates[0]["windows"], outcome.aggregates[0]["seeds"]) == (2, 2)


@pytest.mark.parametrize(
    ("policies", "changes", "message"),
    [
        (("none", "none"), {}, "--policy: none is given twice"),
        (("none", "arima"), {"prewarm": ("icebreaker",)}, "--prewarm: icebreaker reads the table of forecasts that"),
        (("none",), {"windows": 1000}, r"--windows: scenario tiny has \d+ test windows, asked for 1000"),
        (("none",), {"seeds": 0}, "--seeds: needs at least 1"),
        (("none",), {"decision": -1.0}, "--decision: needs 'event' or seconds above 0"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    plan_of: MakePlan, policies: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        plan_of(*policies, **changes).validated()


def test_an_unknown_policy_is_refused_before_anything_runs(plan_of: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="did you mean tyche"):
        evaluate(plan_of("tyhce"), tmp_path / "run", spread=ALONE)
    assert not (tmp_path / "run").exists()


def test_interval_mode_is_named_in_the_row(plan_of: MakePlan, tmp_path: Path) -> None:
    outcome = evaluate(plan_of("tyche", decision=60.0, windows=1), tmp_path / "run", spread=ALONE)
    assert outcome.rows[0]["decision"] == 60.0


def test_a_policy_in_python_is_asked_each_interval(plan_of: MakePlan, my_policy: Path, tmp_path: Path) -> None:
    plan = plan_of("lru", str(my_policy), windows=1, modes=("paper",), engine="compiled")
    lru, lazy = evaluate(plan, tmp_path / "run", spread=ALONE).rows
    assert (lazy["policy"], lazy["mode"], lazy["decision"], lru["decision"]) == ("lazy", "paper", 10.0, "event")
    assert lazy["decision_us_mean"] > 0
    assert lru["decision_us_mean"] is None
    # Leaving everything as it is is what lru does, so both engines and both ways to run them must agree.
    untimed = [key for key in METRIC_KEYS if key not in ("decision_us_mean", "invocations_per_cpu_s")]
    assert {key: lazy[key] for key in untimed} == {key: lru[key] for key in untimed}


def test_a_built_in_policy_predicts_what_its_kernel_decides(plan_of: MakePlan, tmp_path: Path) -> None:
    path = tmp_path / "asked.py"
    path.write_text("import agents\n\npolicy = agents.wrap(agents.load('tyche'), 'asked')\n", encoding="utf-8")
    plan = plan_of("tyche", str(path), windows=2, decision=30.0, engine="compiled")
    rows = evaluate(plan, tmp_path / "run", spread=ALONE).rows
    for kernel, asked in ((rows[0], rows[1]), (rows[2], rows[3])):
        assert asked["policy"] == "asked"
        # Observations are float32 seconds, so a decision at the edge of a window may differ.
        assert asked["warming_loading_ms_mean"] == pytest.approx(kernel["warming_loading_ms_mean"], rel=0.05)
        assert asked["loads"] == pytest.approx(kernel["loads"], abs=3)


def test_a_process_that_dies_is_reported_with_what_to_do(
    plan_of: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool:
        def __init__(self, *_: Any) -> None: ...
        def submit(self, *_: Any) -> Future[None]:
            dead: Future[None] = Future()
            dead.set_exception(BrokenProcessPool())
            return dead

        def shutdown(self, **_: Any) -> None: ...

    monkeypatch.setattr("agents.playing.processes.ProcessPoolExecutor", Pool)
    with pytest.raises(EvaluationError, match=r"a process died .* the same command goes on"):
        evaluate(plan_of("none"), tmp_path / "run", spread=Spread(2))


def test_cells_run_alike_on_requests_that_are_mapped(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(
        *("none", "tyche", "bound"), prewarm=("histogram", "icebreaker"), modes=("paper", "realistic"), windows=1
    ).validated()
    cells = list(plan.cells())
    assert len(cells) == 12
    write_world(plan.scene(cells[0]).requests(), tmp_path / "world")
    for cell in cells:
        mapped = run_cell(plan, cell, tmp_path / "mapped.parquet", read_world(tmp_path / "world"))
        assert timeless([mapped]) == timeless([run_cell(plan, cell, tmp_path / "read.parquet")])


def test_ray_is_for_simulated_runs_and_has_to_be_there(
    plan_of: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Plan(Scenario.load("real-small"), ("none",), backend="openwhisk-native")
    monkeypatch.setattr("agents.playing.spread.find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(EvaluationError, match="ray: backend openwhisk-native runs on one machine; leave it out"):
        evaluate(real, tmp_path / "run", spread=Spread(on="ray"))
    with pytest.raises(EvaluationError, match="--jobs: runs on backend openwhisk-native would disturb each other"):
        evaluate(real, tmp_path / "run", spread=Spread(2))
    with pytest.raises(EvaluationError, match="--engine reference: is the simulator's; leave it out with"):
        replace(real, engine="reference").validated()
    for option, twice in (("--mode", {"modes": ("paper", "paper")}), ("--prewarm", {"prewarm": 2 * ("histogram",)})):
        with pytest.raises(EvaluationError, match=f"{option}: .* is given twice"):
            replace(real, backend="simulated", **twice).validated()  # type: ignore[arg-type]
    monkeypatch.setattr("agents.playing.spread.find_spec", lambda name: None)
    with pytest.raises(EvaluationError, match=r"ray: Ray is not installed; pip install 'tyche-env\[cluster\]'"):
        evaluate(plan_of("none"), tmp_path / "run", spread=Spread(on="ray"))
    assert not (tmp_path / "run").exists()
