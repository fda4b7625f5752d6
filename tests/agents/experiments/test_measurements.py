"""Measurements that need no replay of a whole experiment: greedy packing, overhead, and what a run leaves of itself."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.experiments import overhead, packing
from agents.experiments.draws import Draw
from agents.experiments.runs import BINS_PER_DECADE, _by_function, _histogram
from agents.experiments.tables import grid
from tyche_env.metrics import TOTALS_DTYPE


def shown(module: Any, axes: list[str], rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    headings, lines = grid({"axes": axes, "columns": module.COLUMNS, "rows": rows})
    return [dict(zip(headings, line, strict=True)) for line in lines]


def test_a_packing_s_row_has_the_times_of_the_two_and_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.002, 10.032, 20.0, 20.001, 20.003])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(packing, "instance", lambda index: (index, None))
    monkeypatch.setattr(packing, "greedy", lambda value, *_: 99.0 - value)
    monkeypatch.setattr(packing, "optimum", lambda *_: 100.0)
    rows = packing.measure(2)
    assert [row["lost_percent"] for row in rows] == pytest.approx([1.0, 2.0])
    assert shown(packing, ["instance"], rows)[0] == {
        "instance": "0",
        "greedy s": "99",
        "optimum s": "100",
        "lost %": "1",
        "greedy ms": "2",
        "solver ms": "30",
    }
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    assert len(packing.measure(packing.INSTANCES + 5)) == packing.INSTANCES


def test_a_packing_s_value_is_what_a_load_saves_times_the_chance_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = 60_000_000
    # instance 9 of 20 is judged after 10 of 21 parts of the window: at minute 10 + 100
    arrivals: dict[int, list[float]] = {
        0: [10, 30, 50, 70, 90, 109.9, 150],  # six before that instant
        1: [50],  # one request: the gap that is taken beforehand
        2: [111, 120],  # none yet
        3: [*range(10, 110, 8), 112],  # of thirteen the last ten
    }
    pairs = sorted((round(at * minute), function) for function, times in arrivals.items() for at in times)
    world = SimpleNamespace(
        function_count=4,
        score_from_us=10 * minute,
        end_us=220 * minute,
        arrival_us=np.array([at for at, _ in pairs]),
        arrival_function=np.array([function for _, function in pairs]),
        settings=SimpleNamespace(window=10, prior_gap_us=30 * minute),
        functions=SimpleNamespace(
            library_us=np.array([1e6, 2e6, 3e6, 4e6]), model_us=np.array([5e5] * 4), hold_mb=np.array([7, 8, 9, 10])
        ),
    )
    monkeypatch.setattr("agents.experiments.draws.draws", lambda *each: list(range(each[2])))
    monkeypatch.setattr("agents.experiments.draws.world_of", lambda _, draw: {9: world}[draw])
    value, weight_mb = packing.instance(9)
    # docs/engine.md, mean_gap_us: the time between the first and the last of the window over their number
    gaps_min = np.array([(109.9 - 10) / 6, 30.0, np.inf, 9 * 8 / 10])
    chance = 1 - np.exp(-1 / gaps_min)
    assert value == pytest.approx(chance * np.array([1.5, 2.5, 3.5, 4.5]), rel=1e-6)
    assert weight_mb.tolist() == [7, 8, 9, 10]


def test_overhead_is_the_time_above_none_and_a_stated_model_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # CPU seconds of three repeats each, of 1,000 requests; the least counts
    costs = {"none": (0.5, 0.1, 0.3), "instainfer": (0.4, 0.9, 0.2), "tyche": (0.9, 0.16, 0.7)}
    draw = Draw("d", 0, (), ())
    left: dict[str, list[float]] = {name: [] for name in costs}

    def played(_: Any, policy: str, *__: Any, **___: Any) -> Any:
        left[policy] = left[policy] or list(costs[policy])
        return SimpleNamespace(cpu_s=left[policy].pop(0))

    scene = SimpleNamespace(requests=lambda: SimpleNamespace(arrival_us=np.zeros(1000)))
    monkeypatch.setattr("agents.experiments.draws.draws", lambda *_: [draw, draw])
    monkeypatch.setattr("agents.experiments.runs.Case", lambda *_: SimpleNamespace(scene=scene))
    monkeypatch.setattr("agents.playing.scene.play_in", played)
    monkeypatch.setattr("agents.policies.loading.load", lambda name: name)
    rows = shown(overhead, ["nodes", "policy"], overhead.measure(2))
    assert [(row["nodes"], row["policy"], row["nodes asked"]) for row in rows] == [
        *(("4", "instainfer", "4"), ("4", "tyche", "1")),
        *(("8", "instainfer", "8"), ("8", "tyche", "1")),
        *(("16", "instainfer", "16"), ("16", "tyche", "1")),
    ]
    # (0.2 - 0.1) s and (0.16 - 0.1) s over 1,000 requests
    assert {(row["policy"], row["computing us a request"]) for row in rows} == {("instainfer", "100"), ("tyche", "60")}
    # eight at a time: one round for up to eight nodes, two for sixteen, a quarter of a ms each
    assert [row["network ms (model)"] for row in rows] == ["0.25", "0.25", "0.25", "0.25", "0.5", "0.25"]


def test_a_run_leaves_sums_of_each_function_of_the_trace() -> None:
    totals = np.zeros(4, TOTALS_DTYPE)
    totals["requests"] = [2, 4, 0, 5]
    totals["warming_loading_us"] = [2_000, 12_000, 0, 50_000]
    totals["end_to_end_us"] = [4_000, 16_000, 0, 100_000]
    totals["queue_us"] = [1_000, 2_000, 0, 3_000]
    totals["gpu"], totals["memory"], totals["loading"] = [1, 0, 0, 2], [0, 3, 0, 1], [1, 1, 0, 2]
    # the first and the third piece are of one function, and the third was not called
    found = _by_function(Draw("d", 0, (9, 4, 9, 7), (0, 0, 0, 0)), totals)
    assert found == {
        "function": [4, 7, 9],
        "requests": [4, 5, 2],
        "warming_loading_ms": [12, 50, 2],
        "end_to_end_ms": [16, 100, 4],
        "queue_ms": [2, 3, 1],
        "preloaded": [3, 3, 1],
        "pieces": [1, 1, 1],
        "piece_ms": [3, 10, 1],
    }
    totals["requests"][2], totals["warming_loading_us"][2] = 1, 7_000
    found = _by_function(Draw("d", 0, (9, 4, 9, 7), (0, 0, 0, 0)), totals)
    assert (found["pieces"], found["piece_ms"]) == ([1, 1, 2], [3, 10, 8])


def test_latencies_are_counted_in_forty_bins_a_decade_from_a_millisecond_on() -> None:
    assert BINS_PER_DECADE == 40
    took_us = np.array([1, 1_000, 1_058, 1_060, 10_000, 10_001, 1_000_000])
    # a bin is a factor of 10 ** (1 / 40), 1.0593
    assert _histogram(took_us) == {"0": 3, "1": 1, "40": 2, "120": 1}
