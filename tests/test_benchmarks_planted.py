"""What scripts of benchmarks and ``tyche bench`` make of times that are planted."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from itertools import cycle
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

import tyche_env
from agents.bench import adapters, memory, packing
from agents.experiments.beside import Figures, Row
from tests.test_docs import script
from tyche_env import vector
from tyche_env.bench import core, measurement
from tyche_env.metrics import STAGES
from tyche_env.scenario import Scenario
from tyche_env.stored import read_world

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Stepping:
    """Something with the face of an environment that does nothing."""

    num_envs = 10

    def __init__(self, *_: object, **__: object) -> None:
        space = SimpleNamespace(shape=(7,))
        scenario = SimpleNamespace(trace=SimpleNamespace(window_min=1, warm_up_min=1), decision_interval_s=10)
        self.batch, self.observation_space = SimpleNamespace(scenario=scenario, max_functions=3), space

    def seed(self, *_: object, **__: object) -> None:
        """Nothing."""

    reset = step = seed


def test_an_adapter_costs_what_its_steps_take_more_than_the_batch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "PreloadVectorEnv", lambda *_, **__: Stepping())
    times_s = cycle([0.6, 0.5])  # a hundred steps with the adapter, and without
    monkeypatch.setattr(measurement, "cpu_s_of", lambda _: next(times_s))
    found = adapters._overhead("it", (Stepping(), [0]), [0], "an adapter", 1)
    assert found.value == pytest.approx(20)
    assert found.ratio == pytest.approx(1.2)
    assert (found.goal, found.at_most) == (10.0, True)
    assert found.note == "an adapter; 6000 us a step, the batch 5000"


@pytest.mark.parametrize("adapter", ["ClusterVecEnv", "FunctionVecEnv"])
def test_each_adapter_takes_its_own_steps(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(batch=SimpleNamespace(max_functions=3))
    actions = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)  # two steps, two clusters, three functions
    envs = ModuleType("agents.training.vec_envs")  # without torch, which takes seconds to import
    setattr(envs, adapter, lambda clusters, scenario: made if scenario == "small" else None)
    monkeypatch.setitem(sys.modules, envs.__name__, envs)
    monkeypatch.setattr("tyche_env.bench.environment.some_actions", lambda functions: actions.copy())
    monkeypatch.setattr(adapters, "_overhead", lambda *given: given)
    measure = adapters.adapter_overhead if adapter == "ClusterVecEnv" else adapters.function_adapter_overhead
    found: Any = measure(4)
    name, (given, own), bare, note, repeats = found
    assert (given, repeats) == (made, 4)
    assert note.startswith(f"{adapter}, ")
    if adapter == "ClusterVecEnv":
        assert name == "sb3_adapter_overhead_percent"
        assert own.tolist() == bare.tolist() == actions.tolist()
    else:
        assert name == "sb3_function_adapter_overhead_percent"
        # a function is an environment: one row each, which says the same for the GPU as for memory
        assert own[0].tolist() == [[0], [2], [4], [6], [8], [10]]
        assert bare[0].tolist() == [[[0, 0], [2, 2], [4, 4]], [[6, 6], [8, 8], [10, 10]]]


def test_packing_loses_what_the_worst_instance_does(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SimpleNamespace(library_us=np.array([2e6, 1e6]), model_us=np.array([4e6, 3e6]), hold_mb=np.array([7, 8]))
    world, priority = SimpleNamespace(functions=table), np.array([1 << 19, 1 << 18])
    packed = iter([90.0, 70.0])
    asked: list[Any] = []

    def optimum(saved_s: Any, *sizes: Any) -> float:
        asked.append((saved_s.tolist(), *sizes))
        return 100.0

    for name, made in (
        ("packing_world", lambda: world),
        ("packing_values", lambda seed: priority),
        ("empty_containers", lambda given: ("empty", given)),
        ("pack", lambda *given: asked.append(given)),
        ("packed_value", lambda *given: next(packed) if given == (("empty", world), world, priority) else 0.0),
    ):
        monkeypatch.setattr(core, name, made)
    monkeypatch.setattr("agents.experiments.packing.optimum", optimum)
    found = packing.packing_lost(2)
    # a chance of a half to save 6 s, and of a quarter to save 4
    optimal = ([3.0, 1.0], table.hold_mb, core.CONTAINERS, core.CONTAINER_MB)
    assert asked == [(("empty", world), priority), optimal] * 2
    assert found.value == pytest.approx(30)  # 10 and 30 per cent
    assert found.ratio == pytest.approx(1.5)
    assert (found.goal, found.at_most) == (2.0, True)
    assert "worst of 2 instances" in found.note


def test_what_was_packed_is_worth_what_the_loads_save() -> None:
    table = SimpleNamespace(library_us=np.array([2e6, 9e6, 1e6]), model_us=np.array([4e6, 9e6, 3e6]))
    state = SimpleNamespace(functions={"loading_copies": np.array([1, 0, 2])})
    engine, world = SimpleNamespace(state=state), SimpleNamespace(functions=table)
    priority = np.array([1 << 19, 1 << 20, 1 << 18])
    assert core.packed_value(engine, world, priority) == 3 + 1  # type: ignore[arg-type]


def test_a_world_that_is_repeated_goes_on_where_it_ended(tmp_path: Path) -> None:
    world = Scenario.load("small").world(kernel="tyche")
    memory.repeat_world(world, 3, tmp_path)
    found = read_world(tmp_path)
    count, end_us = len(world.arrival_us), world.end_us
    assert (len(found.arrival_us), found.end_us, found.score_from_us) == (3 * count, 3 * end_us, world.score_from_us)
    for turn in range(3):
        part = slice(turn * count, (turn + 1) * count)
        np.testing.assert_array_equal(found.arrival_us[part], world.arrival_us + turn * end_us)
        np.testing.assert_array_equal(found.arrival_function[part], world.arrival_function)
    measured = memory.measure(tmp_path, "none", tmp_path / "log.parquet")
    assert measured["invocations"] == 3 * count
    assert measured["requests"] == np.sum(found.arrival_us >= world.score_from_us) < 3 * count
    assert parquet.read_metadata(tmp_path / "log.parquet").num_rows == measured["requests"]
    assert 10 < measured["imports_mb"] <= measured["peak_mb"] < 10_000


def test_memory_of_this_process_grows_by_what_is_taken() -> None:
    before_mb = memory.resident_mb()
    taken = np.ones(8_000_000)
    assert memory.resident_mb() - before_mb == pytest.approx(64, abs=8)
    assert memory.peak_mb() >= before_mb + 56
    assert memory.peak_mb() <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 + 1
    del taken


def test_memory_is_compared_with_arrivals_and_a_log_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arrival is eight bytes of time and four of function; a row of the log takes 96."""
    found = {"imports_mb": 100.0, "peak_mb": 154.0, "invocations": 1_000_000, "requests": 1, "cpu_s": 2.0}

    def run(command: list[str], **_: object) -> SimpleNamespace:
        Path(command[-1]).write_bytes(bytes(3_000_000))
        return SimpleNamespace(stdout=json.dumps(found))

    monkeypatch.setattr("agents.bench.memory.subprocess.run", run)
    monkeypatch.setattr(memory, "repeat_world", lambda *_: None)
    monkeypatch.setattr("tyche_env.scenario.Scenario.world", lambda *_: None)
    monkeypatch.setattr("tyche_env.simulator.loading.warm_up", lambda: None)
    measured = memory.memory(1)
    assert measured.value == 54
    assert measured.ratio == pytest.approx(54 / (8 + 4 + 96))
    assert (measured.goal, measured.at_most) == (160.0, True)
    assert measured.note.startswith("1000000 invocations under tyche in 2.0 CPU-s, ")
    assert "log of 3 MB; 100 MB after the imports, kernels included, 154 MB at most" in measured.note


def test_a_day_s_speed_is_that_of_the_day_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = script(BENCHMARKS / "growth.py")
    world = SimpleNamespace(arrival_us=np.zeros(600), end_us=7_200_000_000)
    base = SimpleNamespace(with_settings=lambda **_: world)
    state = SimpleNamespace(_asdict=lambda: {"nodes": np.zeros(250_000)})
    result = SimpleNamespace(cpu_s=3.0, wall_s=4.0, counters={"loads": 300}, totals={"cold": np.array([60])})
    monkeypatch.setattr(growth, "world_of", lambda _: base)
    monkeypatch.setattr(growth, "new_state", lambda *_, **__: state)
    monkeypatch.setattr(growth, "simulate", lambda *_, **__: result)
    found = growth.run_day(2, 5, 100.0, next(iter(growth.POLICIES)))
    assert found["invocations_per_cpu_s"] == 200
    assert (found["loads_each"], found["cold_each"], found["state_mb"]) == (0.5, 0.1, 2.0)
    assert (found["simulated_h"], found["wall_s_of_the_day"], found["cpu_s"]["the day"]) == (2.0, 4.0, 3.0)


def test_a_peer_is_compared_by_cpu_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    peers = script(BENCHMARKS / "peers.py")
    part = SimpleNamespace(arrival_us=np.zeros(1000))
    engine = SimpleNamespace(cpu_s=0.5, totals={"cold": np.array([3, 4])})
    for name in ("world_with", "machine", "today"):
        monkeypatch.setattr(peers, name, lambda *_: "")
    monkeypatch.setattr(peers, "head", lambda *_: part)
    monkeypatch.setattr(peers, "simulate", lambda *_, **__: engine)
    for name in ("plain_heapq", "simpy_model", "simfaas_model"):
        monkeypatch.setattr(peers, name, lambda _: 9)
    clock_s = cycle([10.0, 20.0])
    monkeypatch.setattr(peers.time, "process_time", lambda: next(clock_s))
    monkeypatch.setattr("sys.argv", ["peers.py", "--json"])
    peers.main()
    for row in json.loads(capsys.readouterr().out)["results"]:
        assert (row["requests_per_cpu_s"], row["engine_requests_per_cpu_s"], row["ratio"]) == (100, 2000, 20)
        assert (row["cold_starts"], row["engine_cold_starts"]) == (9, 7)


def test_the_environment_s_share_is_what_a_costless_one_saves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = script(BENCHMARKS / "learning.py")
    speeds = iter([30_000.0, 40_000.0])  # with the environment, and with one that costs nothing
    monkeypatch.setattr(learning, "FunctionVecEnv", Stepping)
    monkeypatch.setattr(learning, "Costless", Stepping)
    monkeypatch.setattr(learning, "rows_per_cpu_s", lambda *_: next(speeds))
    monkeypatch.setattr(learning.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["learning.py", "--json"])
    learning.main()
    found = json.loads(capsys.readouterr().out)
    assert found["share_of_environment"] == 0.25
    assert (found["rows_per_cpu_s"], found["rows_per_cpu_s_costless"]) == (30_000, 40_000)


def a_real_run(folder: Path) -> Path:
    """Two modes of two policies in a window of ``small``; every request of a run waits for its library alone."""
    folder.mkdir()
    shutil.copy(Path(tyche_env.__file__).with_name("scenarios") / "small.yaml", folder / "scenario.yaml")
    function = Scenario.load("small").world("test", 0, 5).names[0]
    rows: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    for number, (mode, policy) in enumerate(
        (mode, policy) for mode in ("paper", "realistic") for policy in ("none", "tyche")
    ):
        key = {"policy": policy, "window": 0, "seed": 5, "prewarm": "openwhisk", "mode": mode}
        health = {"lost_containers": number, "load_average": [0.5 + number, 9, 9], "where": "here"}
        rows.append(key | {"health": health, "invocations": {"columns": [], "rows": []}})
        times = dict.fromkeys((f"{stage}_us" for stage in STAGES), 0) | {"library_us": 1000 * (number + 1)}
        served = key | times | {"function": function, "start_type": "cold", "status": 0, "arrival_us": 0, "end_us": 1}
        requests += [served] * (number + 1)
    requests.append(requests[-1] | {"status": 1, "start_type": "none"})  # one that failed counts as its limit, 60 s
    (folder / "summary.json").write_text(json.dumps({"rows": rows}))
    (folder / "manifest.json").write_text(json.dumps({"plan": {"split": "test"}, "started": "2026-11-30T12:00:00"}))
    pd.DataFrame(requests).to_parquet(folder / "requests.parquet")
    return folder


def test_make_real_sets_each_run_beside_its_own_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    real_replay = script(BENCHMARKS / "real_replay.py")
    fitted: list[Any] = []

    def fit(scenario: Scenario, split: str, rows: list[dict[str, Any]], source: str) -> Any:
        fitted.extend((row["mode"], row["policy"]) for row in rows)
        return SimpleNamespace(profiles=(), applied=lambda _: scenario)

    def predicted(_: Scenario, policy: str, *, mode: str, window: int, **__: Any) -> pd.DataFrame:
        library_us = {"none": 1000, "tyche": 2000}[policy] + (2000 if mode == "realistic" else 0)
        stages = dict.fromkeys((f"{stage}_us" for stage in STAGES), 0) | {"library_us": library_us}
        return pd.DataFrame([stages | {"window": window, "function": "f", "start_type": "memory"}])

    monkeypatch.setattr(real_replay, "fit", fit)
    monkeypatch.setattr(real_replay, "simulated", predicted)
    monkeypatch.setattr(real_replay, "write_catalogue", lambda *_: None)
    folder = a_real_run(tmp_path / "run")
    rows = real_replay.beside(folder, tmp_path)
    assert fitted == [("paper", "none")]
    assert [(row.name, row.policy, row.measured.requests, row.lost) for row in rows] == [
        ("paper, window 0", "none", 1, 0),
        ("paper, window 0", "tyche", 2, 1),
        ("realistic, window 0", "none", 3, 2),
        ("realistic, window 0", "tyche", 5, 3),
    ]
    assert [row.measured.loading for row in rows[:3]] == [1, 2, 3] == [row.simulated.loading for row in rows[:3]]
    assert rows[3].measured.loading == pytest.approx((4 * 4 + 60_000) / 5)
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- real-{name} -->\n<!-- end -->\n" for name in ("conditions", "paper", "realistic")))
    assert real_replay.main(["--from", str(folder), "--page", str(page)]) == 1  # Tyche pays twice of none
    said = "Measured 2026-11-30 on here; load average of the runs 0.5 to 3.5."
    assert said in capsys.readouterr().out
    paper, _, realistic = page.read_text().partition("<!-- real-realistic -->")
    assert said in paper
    assert ("| paper, window 0 | tyche | 2 | 2 / 2 |" in paper, "outside" in paper) == (True, False)
    assert "| realistic, window 0 | tyche | 5 | 1 |" in realistic  # one was not served
    assert "Where the simulator is outside: stage by stage" in realistic


def test_make_real_refuses_what_it_cannot_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        real_replay = script(BENCHMARKS / "real_replay.py")
    finally:
        sys.path.remove(str(BENCHMARKS))
    assert real_replay.main(["--from", str(tmp_path)]) == 2
    assert f"make real: {tmp_path}: is no folder of a finished run" in capsys.readouterr().err
    folder = a_real_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    rows = [row for row in summary["rows"] if row["policy"] != "none"]
    (folder / "summary.json").write_text(json.dumps({"rows": rows}))
    assert real_replay.main(["--from", str(folder)]) == 2
    assert "has no real run of the policy none, which profiles are fitted to" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        real_replay.main(["--windows", "0"])
    assert "--windows: needs at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(("tyche_ms", "status"), [(33.0, 0), (34.0, 1)])
def test_make_real_says_what_share_tyche_s_requests_pay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tyche_ms: float, status: int
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    real_replay = script(BENCHMARKS / "real_replay.py")

    def a_row(name: str, policy: str, loading_ms: float, requests: int = 7) -> Row:
        figures = Figures(requests, loading_ms, 3.0, {}, {})
        return Row(name, policy, figures, figures, 0)

    rows = [
        *(a_row("paper, window 0", "none", 100), a_row("paper, window 1", "none", 100, 21)),
        # of both windows together, weighted by their requests
        *(a_row("paper, window 0", "tyche", tyche_ms - 9), a_row("paper, window 1", "tyche", tyche_ms + 3, 21)),
        *(a_row("realistic, window 0", "none", 1), a_row("realistic, window 0", "tyche", 9)),
    ]
    assert real_replay._verdict(rows) == status
    printed = capsys.readouterr().out
    assert f"paper mode: Tyche's requests pay {tyche_ms:.0f} % of the warming and loading time without it" in printed
    assert real_replay._verdict(rows[-2:]) == 0
