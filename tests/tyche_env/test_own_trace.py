"""Scenarios on a trace file of one's own: run times, windows without a request, splits that do not fit."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from agents.cli.evaluate import _fitting, evaluate
from agents.evidence.run_folder import RunFolder
from traces.options import Reading
from tyche_env.cli import run
from tyche_env.env import PreloadEnv
from tyche_env.own_scenario import own_scenario
from tyche_env.scenario import Cluster, Scenario, ScenarioError
from tyche_env.simulate import simulate
from tyche_env.sources import SourceError, read_source, repairs_of
from tyche_env.state import sizes_of

COLUMNS = {"time": "t", "function": "f", "duration": "d"}
CLUSTER = Cluster.model_validate({"nodes": [{"memory_mb": 8000}]})


def rows(path: Path, *busy: range) -> Path:
    """Two functions, each asked every ten seconds of some times; run times of 0.25 and 0.5 s."""
    lines = [f"{second},{name},{run}\n" for span in busy for second in span for name, run in (("a", 0.25), ("b", 0.5))]
    path.write_text("t,f,d\n" + "".join(lines), encoding="utf-8")
    return path


def made(path: Path, columns: dict[str, Any] = COLUMNS) -> Scenario:
    return own_scenario("mine", str(path), "paper", CLUSTER, columns)


def test_a_named_column_of_run_times_is_used(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.csv", range(0, 3600, 10))
    scenario = made(path)
    assert scenario.trace.durations == "trace"
    world = scenario.world()
    assert set(world.arrival_duration_us.tolist()) == {250_000, 500_000}
    assert made(path, {"time": "t", "function": "f"}).trace.durations == "profile"


def test_a_window_without_a_request_has_run_times_unknown_for_nobody(tmp_path: Path) -> None:
    # nothing happens for an hour before the last request: all but the last test windows are empty
    scenario = made(rows(tmp_path / "a.csv", range(0, 1800, 10), range(7200, 7210, 10)))
    empty = [k for k in range(len(scenario.windows())) if len(scenario.world(window=k).arrival_us) == 0]
    assert empty
    assert len(scenario.world(window=empty[0]).arrival_duration_us) == 0


def test_such_a_window_is_played_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = made(rows(tmp_path / "a.csv", range(0, 1800, 10), range(7200, 7210, 10)))
    (tmp_path / "mine.yaml").write_text(scenario.to_yaml(), encoding="utf-8")
    requests = [len(scenario.world(window=k).arrival_us) for k in range(len(scenario.windows()))]
    empty = requests.index(0)
    assert simulate(scenario.world(window=empty, kernel="tyche")).totals["requests"].sum() == 0
    env = PreloadEnv(scenario=scenario, split="test")
    env.reset(seed=0, options={"window": empty})
    over = False
    while not over:
        _, reward, _, over, _ = env.step(env.action_space.sample())
        assert reward == 0
    assert run(["simulate", "--scenario", "mine.yaml", "--window", str(empty), "--policy", "tyche"]) == 0
    words = ["evaluate", "--scenario", "mine.yaml", "--windows", str(len(requests)), "--policy", "none", "--jobs", "1"]
    assert run([*words, "--policy", "tyche", "--out", "run", "--quiet"]) == 0
    played = RunFolder.read(tmp_path / "run").rows()
    assert [row["requests"] for row in played if row["window"] == empty] == [0, 0]
    capsys.readouterr()


def test_a_named_column_of_run_times_is_used_on_any_scenario(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.csv", range(0, 3600, 10))
    plain = made(path, {"time": "t", "function": "f"})
    assert plain.trace.durations == "profile"
    named = plain.on_file(path, COLUMNS)
    assert set(named.world().arrival_duration_us.tolist()) == {250_000, 500_000}
    assert plain.on_file(path, {"time": "t", "function": "f"}).trace.durations == "profile"
    unnamed = {"time": "t", "function": "f", "duration": None}
    assert plain.on_file(path, unnamed).trace.durations == "profile"
    assert named.on_file(path, unnamed).trace.durations == "trace"


def test_one_function_without_a_run_time_takes_nobody_elses_away(tmp_path: Path) -> None:
    minutes = ",".join(map(str, range(1, 61)))
    counts = "".join(f"o,a,{f},http,{','.join(['2'] * 60)}\n" for f in "fgh")
    (tmp_path / "i.csv").write_text(f"HashOwner,HashApp,HashFunction,Trigger,{minutes}\n{counts}", encoding="utf-8")
    means = "o,a,f,100,9\no,a,h,300,9\n"
    (tmp_path / "d.csv").write_text(f"HashOwner,HashApp,HashFunction,Average,Count\n{means}", encoding="utf-8")
    files = {"durations_file": str(tmp_path / "d.csv"), "bad_rows": "fail"}
    scenario = own_scenario("mine", str(tmp_path / "i.csv"), "paper", CLUSTER, **files)  # type: ignore[arg-type]
    world = scenario.world()
    by_name = {world.names[f]: us for f, us in zip(world.arrival_function, world.arrival_duration_us, strict=True)}
    assert by_name == {"f": 100_000, "g": 200_000, "h": 300_000}
    (alone,) = np.flatnonzero(np.array(read_source(scenario.trace).names) == "g")
    window = replace(scenario.windows()[0], functions=(int(alone),))
    assert set(scenario.world_of(window).arrival_duration_us.tolist()) == {200_000}
    assert [repair.count for repair in repairs_of(scenario.trace)] == [1]
    assert repairs_of(scenario.with_(**{"trace.durations": "profile"}).trace) == ()


def test_a_trace_without_run_times_is_told_so_wherever_it_is_asked(tmp_path: Path) -> None:
    scenario = made(rows(tmp_path / "a.csv", range(0, 3600, 10)), {"time": "t", "function": "f"})
    with pytest.raises(ScenarioError, match=r"trace.durations is 'trace', but the trace gives no durations"):
        scenario.with_(**{"trace.durations": "trace"}).world()


def test_only_the_split_that_is_used_has_to_fit(tmp_path: Path) -> None:
    scenario = made(rows(tmp_path / "a.csv", range(0, 3600, 10)))
    narrow = {"functions": (0, 1), "time": (0.5, 0.501)}
    scenario = scenario.with_(**{"trace.splits.validation": narrow, "trace.splits.test.time": (0.6, 1)})
    assert len(scenario.windows("test")) > 0
    with pytest.raises(ScenarioError) as caught:
        scenario.windows("validation")
    assert str(caught.value) == (
        "scenario mine: split 'validation': has no room for a warm-up of 9.972 min and a window of 1.994 min in its "
        "0.05983 min of a trace of 59.83 min; widen its time or shorten the window"
    )


@pytest.fixture
def one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario in whose trace only the test split has room for its windows."""
    monkeypatch.chdir(tmp_path)
    scenario = made(rows(tmp_path / "a.csv", range(0, 3600, 10)))
    narrow = {"trace.splits.train.time": (0.0, 0.01), "trace.splits.validation.time": (0.5, 0.501)}
    path = tmp_path / "one.yaml"
    path.write_text(scenario.with_(**narrow).to_yaml(), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["evaluate --policy none --windows 1 --jobs 1 --quiet --out run", "simulate"])
@pytest.mark.parametrize("trace", ["", "--trace a.csv --column time=t --column function=f --column duration=d"])
def test_commands_ask_only_the_split_that_they_use(
    one_split: Path, command: str, trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command.split(), "--scenario", str(one_split), *trace.split()]
    assert run(words) == 0
    capsys.readouterr()
    assert run([*(word.replace("run", "other") for word in words), "--split", "validation"]) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("tyche: scenario mine: split 'validation': has no room for a warm-up of 9.972 min and a ")
    assert " us" not in refused


def test_the_environment_asks_only_its_split(one_split: Path) -> None:
    env = PreloadEnv(scenario=str(one_split), split="test")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(ScenarioError, match=r"split 'train': has no room for a warm-up of 9.972 min"):
        PreloadEnv(scenario=str(one_split), split="train")


def test_a_scenario_is_shown_with_what_its_splits_lack(one_split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenario", "show", str(one_split)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("# train: cannot be used, scenario mine: split 'train': has no room for a warm-up of")
    assert shown[2].startswith("# validation: cannot be used, scenario mine: split 'validation': has no room")
    assert shown[3] == "# test: 12 windows of 1 function groups"
    assert Scenario.load(one_split).to_yaml() in "\n".join(shown) + "\n"


def test_columns_of_a_scenario_that_are_at_their_defaults_leave_its_hash_alone(tmp_path: Path) -> None:
    scenario = made(rows(tmp_path / "a.csv", range(0, 3600, 10)))
    told = scenario.trace.columns
    assert told is not None
    assert set(told.content()) == {"time", "time_unit", "time_is", "function", "duration", "duration_unit"} | {
        "owner",
        "trigger",
    }
    other = scenario.with_(**{"trace.columns.decimal": ","})
    assert other.hash() != scenario.hash()


def test_evaluate_makes_a_scenario_that_fits_a_trace(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.csv", range(0, 4 * 3600, 10))
    fitting = _fitting(path, Reading(columns=("time=t", "function=f")))
    assert (fitting.name, fitting.trace.file, fitting.cluster) == ("a", str(path), Scenario.load("small").cluster)
    assert CliRunner().invoke(evaluate, ["--policy", "lru"]).output.endswith("Error: Missing option '--scenario'.\n")


@pytest.mark.parametrize(("name", "message"), [("-", "standard input cannot be; name a file"), ("pipe", "is a pipe;")])
def test_what_is_read_once_makes_no_scenario(name: str, message: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = name if name == "-" else str(tmp_path / name)
    with pytest.raises(SourceError, match=f"a scenario reads its trace more than once, .*{message}"):
        Scenario.load("small").on_file(file).world()


def test_pools_are_sized_by_functions_and_memory_together() -> None:
    # 300 nodes of 128 GB hold 62 containers of 2,048 MB each, with six functions 6 residents in each: 111,600
    world = Scenario.load("small").with_(**{"cluster.nodes": [{"count": 300, "memory_mb": 128_000}]}).world()
    six = np.arange(6)
    columns = {field.name: getattr(world.functions, field.name)[six] for field in fields(world.functions)}
    functions = replace(world.functions, **columns)
    functions.hold_mb[:] = 50
    keep = world.arrival_function < 6
    world = replace(
        world,
        functions=functions,
        arrival_us=world.arrival_us[keep],
        arrival_function=world.arrival_function[keep],
        names=world.names[:6],
        profiles=world.profiles[:6],
    )
    sizes = sizes_of(world, record=False, features=False)
    assert (sizes.containers, sizes.residents) == (18_600, 111_600)


def test_three_hundred_large_nodes_with_six_functions_run_and_two_thousand_are_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "six.csv"
    path.write_text("t,f,d\n" + "".join(f"{s},f{s // 10 % 6},0.25\n" for s in range(0, 3600, 10)), encoding="utf-8")
    nodes = [{"count": 300, "memory_mb": 128_000}]
    scenario = own_scenario("mine", str(path), "paper", Cluster.model_validate({"nodes": nodes}), COLUMNS)
    world = scenario.world(kernel="tyche")
    assert int(simulate(world, record="none").totals["requests"].sum()) == 12  # one every ten seconds of two minutes
    nodes[0]["count"] = 2000
    with pytest.raises(
        ScenarioError, match=r"residents: \d+ may live at once, .*; take fewer nodes, larger containers"
    ):
        own_scenario("mine", str(path), "paper", Cluster.model_validate({"nodes": nodes}), COLUMNS)
