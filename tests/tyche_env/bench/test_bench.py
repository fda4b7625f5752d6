"""``tyche bench``: every figure has a name, a reference and a goal, and a chosen few can be measured alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tyche_env.bench import benchmarks
from tyche_env.bench.measurement import Measurement
from tyche_env.cli import run

ISSUED: dict[str, Callable[[Any], float]] = {
    "fixed_keep_alive_invocations_per_cpu_s": lambda given: given[1].goal - 8e6,
    "full_model_invocations_per_cpu_s": lambda given: given[1].goal - 4e6,
    "env_step_per_s": lambda given: given[2] - 40_000,
    "vector_env_steps_per_core_s": lambda given: given[2] - 60_000,
}
"""What was promised first, and how far the arguments of its benchmark are from that."""


def a_measurement(value: float, goal: float | None, at_most: bool) -> Measurement:
    return Measurement("name", value, "us", "reference", 2.0, goal, "", at_most)


def test_among_the_names_are_the_promised_ones_with_their_promises() -> None:
    found: dict[str, Any] = {**benchmarks()}
    assert set(found) >= set(ISSUED)
    assert [away(found[name].args) for name, away in ISSUED.items()] == [0] * len(ISSUED)


@pytest.mark.parametrize(
    ("value", "goal", "at_most", "met"),
    [(5, 5, False, True), (4, 5, False, False), (5, 5, True, True), (6, 5, True, False), (1e9, None, True, True)],
)
def test_a_goal_is_a_least_or_a_greatest_value(value: float, goal: float | None, at_most: bool, met: bool) -> None:
    assert a_measurement(value, goal, at_most).met is met


def test_a_figure_is_printed_and_written_with_machine_and_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "help.json"
    assert run(["bench", "--json", "--repeats", "1", "--only", "help", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text(encoding="utf-8"))
    (result,) = printed["results"]
    assert {"name", "value", "unit", "reference", "ratio", "goal", "note", "at_most", "met"} == set(result)
    assert result["name"] == "help_per_s"
    assert {"processor", "cores", "memory_gib", "python", "numba", "load_average"} <= set(printed["machine"])
    assert len(printed["date"].split("-")) == 3


def test_a_table_shows_small_ratios_too(capsys: pytest.CaptureFixture[str]) -> None:
    from tyche_env.bench import _show

    _show(Measurement("n", 12345.6, "steps/CPU-s", "nothing", 0.00321, 20_000, "a note"))
    printed = capsys.readouterr().out
    assert "12,346 steps/CPU-s  (NOT at least 20,000)" in printed
    assert "0.00321 x nothing" in printed


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--only", "warp"]) == 2
    assert "no benchmark has warp in its name" in capsys.readouterr().err


def test_packing_from_scratch_fills_the_containers() -> None:
    from tyche_env.bench.core import empty_containers, pack, packed_value, packing_values, packing_world

    world = packing_world(functions=60, containers=10)
    priority = packing_values(60)
    engine = empty_containers(world)
    assert packed_value(engine, world, priority) == 0
    pack(engine, priority)
    assert packed_value(engine, world, priority) > 0
    assert int(engine.state.cluster["loads"][0]) >= 10


class Spent:
    """CPU seconds that are planted: call after call those of a list, over and over."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self, run: Callable[[], object]) -> float:
        run()
        self.calls += 1
        return self.seconds[(self.calls - 1) % len(self.seconds)]

    def median(self, run: Callable[[], object], _: int) -> float:
        return self(run)


def test_invocations_a_cpu_second_are_all_of_the_day_over_the_median_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from tyche_env.bench import engine

    world = SimpleNamespace(arrival_us=np.arange(9000), function_count=5)
    head = SimpleNamespace(arrival_us=np.arange(2000))
    # the first run warms up; of the three that count the median takes 3 s; the reference engine takes 40 s for its part
    spent = iter((100.0, 2.0, 30.0, 3.0))

    def simulate(of: object, *, record: str = "all", engine: str = "compiled") -> SimpleNamespace:
        cpu_s = 40.0 if engine == "reference" else next(spent)
        assert of is (head if engine == "reference" else world)
        return SimpleNamespace(cpu_s=cpu_s, counters={"loads": 2250, "created": 900})

    monkeypatch.setattr("tyche_env.simulate.simulate", simulate)
    monkeypatch.setattr(engine, "head_of", lambda _: head)
    monkeypatch.setattr(engine, "events_of", lambda of: 27_000 if of is world else 8_000)
    run: Any = SimpleNamespace(world=lambda: world, record="none", nodes=7, cores=4, goal=2999.0)
    found = engine.measure("n", run, 3)
    assert (found.value, found.ratio, found.goal, found.met) == (3000.0, 3000 / 50, 2999.0, True)
    assert found.note == (
        "5 functions on 7 nodes of 4 cores, 9000 invocations, each 0.250 loads, 0.100 containers, 3.00 events"
    )
    spent = iter((2.0, 30.0, 2.7))
    found = engine.event_us("n", run, 3)
    # 2.7 s for 27,000 events; the reference engine 40 s for 8,000
    assert [found.value, found.ratio] == pytest.approx([100.0, 100 / 5000])
    assert "27000 events" in found.note


def test_the_part_of_a_world_for_the_reference_engine_ends_with_its_last_request() -> None:
    from tests.tyche_env.simulator.test_rules import SECOND, a_world, function
    from tyche_env.bench.engine import head_of

    world = a_world([function()], [(at, 0) for at in range(3000)], end=4000)
    head = head_of(replace(world, score_from_us=3000 * SECOND))
    assert (len(head.arrival_us), len(head.arrival_function)) == (2000, 2000)
    assert (head.end_us, head.score_from_us) == (2000 * SECOND, 2000 * SECOND)
    assert head_of(world).score_from_us == world.score_from_us


def test_steps_a_cpu_second_of_one_environment_and_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from tyche_env.bench import environment

    class Env:
        """Nothing but what a benchmark asks of it."""

        max_functions = 3
        backend = SimpleNamespace(counters=lambda: {"loads": 8000})
        world = SimpleNamespace(arrival_us=np.arange(0, 10**12, 5_000_000))

        def __init__(self, *_: object, **__: object) -> None:
            self.steps = 0

        def reset(self, **_: object) -> None:
            return

        def step(self, action: object) -> tuple[None, float, bool, bool, dict[str, object]]:
            return None, 0.0, False, False, {}

    class Engine:
        def __init__(self, *_: object, **__: object) -> None:
            return

        def advance_until(self, _: int) -> None:
            return

    monkeypatch.setattr("tyche_env.env.PreloadEnv", Env)
    monkeypatch.setattr("tyche_env.vector.PreloadVectorEnv", Env)
    monkeypatch.setattr("tyche_env.simulator.engine.CompiledEngine", Engine)
    # 2,000 steps in 4, 5 and 60 s; the engine alone takes 1 s, 2.5 and 70
    monkeypatch.setattr(environment, "cpu_s_of", Spent(4.0, 1.0, 5.0, 2.5, 60.0, 70.0))
    found = environment.env_step("n", False, 399.0, 3)
    assert (found.value, found.ratio, found.met) == (400.0, 0.5, True)
    # a request every 5 s, so two in a step of 10 s, and 8,000 loads in 2,000 steps
    assert found.note.endswith("2 requests and 4 loads a step")
    assert "every function decided" in found.note
    assert (found.unit, found.reference) == ("steps/CPU-s", "its engine alone, without decisions and observations")
    # 200 steps of 64 clusters in 2 s; 500 of a single one in 5
    monkeypatch.setattr(environment, "median_cpu_s", Spent(2.0, 5.0).median)
    found = environment.vector_step("n", 25, None, 3)
    assert (found.value, found.ratio) == (6400.0, 64.0)
    assert found.note.startswith("64 clusters of 3 functions")


def test_each_run_is_what_the_name_of_its_figure_says() -> None:
    from tyche_env.bench.engine import RUNS

    for name, what in RUNS.items():
        full = "full_model" in name
        assert (what.kernel, what.record) == (("tyche", "all") if full else ("none", "none")), name
        platforms = [policy for policy in ("faascache", "pagurus") if policy in name]
        assert what.prewarm == ("histogram" if full else platforms[0] if platforms else "openwhisk"), name
        assert what.speed == "speed-" + ("5000-busy" if "busy" in name else "5000" if "5000" in name else "200"), name
        assert what.tenants == ("tenants" in name), name
        assert what.cores == (4 if "contention" in name else 0), name
        starved = any(part in name for part in ("starved", "fixed", "contention", "faascache", "pagurus"))
        assert what.nodes == (200 if "5000" in name else 16 if starved else 64), name


def test_events_are_counted_to_the_end_of_the_last_request() -> None:
    from tests.tyche_env.simulator.test_rules import a_world, function
    from tyche_env.bench.engine import events_of

    # six requests of one function that are kept waiting until the end: each arrives and finishes
    few, more = (a_world([function()], [(at, 0) for at in range(count)], end=50) for count in (3, 6))
    assert 6 <= events_of(few) < 12
    assert events_of(more) - events_of(few) == 6


def test_one_decision_in_ten_is_new() -> None:
    from tyche_env.bench.environment import some_actions

    actions = some_actions(50)
    assert actions.shape == (16, 64, 50, 2)
    assert (actions != 0).all(axis=-1).mean() == pytest.approx(0.1, abs=0.005)
    assert -1 <= actions.min() < -0.9
    assert 0.9 < actions.max() <= 1


def test_help_a_second_and_the_time_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    from tyche_env.bench import environment

    # help takes 0.3, 0.25 and 0.9 s, an interpreter that does nothing 0.1, 0.01 and 0.03
    clock = iter([value for took in (0.3, 0.25, 0.9, 0.1, 0.01, 0.03) for value in (5.0, 5.0 + took)])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    found = environment.show_help(3)
    assert [found.value, found.ratio] == pytest.approx([1 / 0.3, 0.1])
    assert found.note == "tyche --help takes 300 ms"
    # user and system time of children: 2 and 1 s for compiling, 0.5 and 0.25 for loading
    used = iter([(10.0, 20.0), (12.0, 21.0), (12.0, 21.0), (12.5, 21.25)])

    def getrusage(_: int) -> SimpleNamespace:
        user, system = next(used)
        return SimpleNamespace(ru_utime=user, ru_stime=system)

    monkeypatch.setattr("resource.getrusage", getrusage)
    found = environment.compile_kernels(1)
    assert (found.value, found.ratio) == (3.0, 4.0)
    assert found.note.endswith("takes 0.8 s")
    assert (found.unit, found.goal, found.at_most) == ("CPU s", 60.0, True)


def test_the_median_leaves_out_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from tyche_env.bench import measurement

    calls: list[int] = []
    clock = iter([value for took in (1.0, 9.0, 2.0) for value in (7.0, 7.0 + took)])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    assert measurement.median_cpu_s(lambda: calls.append(1), 3) == 2.0
    assert len(calls) == 4


def test_priorities_are_the_chances_of_a_request_within_a_minute() -> None:
    from tyche_env.bench.core import packing_values

    values = packing_values(4000) / (1 << 20)
    # of rates between one a day and one a second; at the middle of their logarithms one in 4.9 minutes
    assert values.min() == pytest.approx(1 - np.exp(-1 / 1440), rel=0.05)
    assert values.max() == pytest.approx(1.0)
    assert np.median(values) == pytest.approx(1 - np.exp(-np.sqrt(60 / 1440)), rel=0.1)


def test_the_value_that_was_packed_is_priority_x_seconds_saved_of_what_loads() -> None:
    from tyche_env.bench.core import packed_value

    loading = np.zeros(3, [("loading_copies", np.int64)])
    loading["loading_copies"] = (1, 0, 2)
    engine: Any = SimpleNamespace(state=SimpleNamespace(functions=loading))
    table = SimpleNamespace(library_us=np.array([1, 10, 2]) * 1_000_000, model_us=np.array([3, 10, 6]) * 1_000_000)
    world: Any = SimpleNamespace(functions=table)
    # a half of 4 s, and a quarter of 8
    assert packed_value(engine, world, np.array([1 << 19, 1 << 20, 1 << 18])) == 4.0


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (1000, "1,000"), (999.4, "999"), (0.001234, "0.00123"), (-5000, "-5,000")]
)
def test_numbers_from_a_thousand_on_are_whole(value: float, text: str) -> None:
    from tyche_env.bench import _number

    assert _number(value) == text


def test_a_goal_that_is_met_or_is_a_greatest_value_is_printed_so(capsys: pytest.CaptureFixture[str]) -> None:
    from tyche_env.bench import _show

    _show(Measurement("n", 99.0, "CPU us", "nothing", 2.0, 100.0, "a note", at_most=True))
    _show(Measurement("n", 99.0, "CPU us", "nothing", 2.0, None, "a note"))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[0].endswith("99 CPU us  (at most 100)")
    assert printed[3].endswith("99 CPU us")
    assert printed[1].endswith("2 x nothing")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["incremental_event_us", "route_16_nodes_ns", "env_step_per_s", "pack_lost_percent"])
def test_a_benchmark_runs(name: str) -> None:
    result = benchmarks()[name](1)
    assert result.name == name
    assert result.ratio > 0
