"""``tyche bench``: every figure has a name, a reference and a goal, and a chosen few can be measured alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tyche_env.bench import benchmarks
from tyche_env.bench.measurement import Measurement
from tyche_env.cli import run

ISSUED = {
    "fixed_keep_alive_invocations_per_cpu_s",
    "full_model_invocations_per_cpu_s",
    "env_step_per_s",
    "vector_env_steps_per_core_s",
}


def a_measurement(value: float, goal: float | None, at_most: bool) -> Measurement:
    return Measurement("name", value, "us", "reference", 2.0, goal, "", at_most)


def test_names_are_unique_and_among_them_the_promised_ones() -> None:
    assert set(benchmarks()) >= ISSUED


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["incremental_event_us", "route_16_nodes_ns", "env_step_per_s", "pack_lost_percent"])
def test_a_benchmark_runs(name: str) -> None:
    result = benchmarks()[name](1)
    assert result.name == name
    assert result.ratio > 0
