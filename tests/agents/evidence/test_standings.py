"""How policies and agents stand, on rows worked out by hand: three training seeds, four windows."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.evidence import measure as measure_module
from agents.evidence.board import TOLERANCE, differences
from agents.evidence.measure import CEILING, HEURISTICS, METRICS, SUMS, besides, cost_parts, measure, measure_window
from agents.evidence.standings import HEADINGS, Standing, as_markdown, by_member, standings
from agents.playing.scene import WindowScene
from agents.policies.builtin import POLICIES
from tyche_env.metrics import TOTALS_DTYPE
from tyche_env.scenario import Scenario


def a_row(policy: str, group: str, window: int, functions: dict[int, tuple[int, float]], seed: int = 0) -> Any:
    """A row of ``measure``: requests and mean waiting in ms by function; a second of loading costs 100 ms."""
    requests = sum(count for count, _ in functions.values())
    table = {
        "function": list(functions),
        "requests": [count for count, _ in functions.values()],
        "warming_loading_us": [round(1e3 * count * mean_ms) for count, mean_ms in functions.values()],
    }
    sums = dict.fromkeys(SUMS, 0.0) | {"runs": 1, "requests": requests, "load_us": 1e6, "load_cost_ms": 100.0}
    sums["warming_loading_us"] = sum(table["warming_loading_us"])
    row: dict[str, Any] = {"scenario": "s", "policy": policy, "seed": seed, "window": window, "group": group}
    row |= {"sums": sums, "functions": table}
    return row | {metric: cost_parts([row], metric).value for metric in METRICS} | besides([row])


def test_a_cost_is_pooled_over_windows_with_its_share_of_the_loads() -> None:
    rows = [
        a_row("p", "a", 0, {0: (10, 100.0), 1: (1, 20.0)}),
        a_row("p", "a", 1, {0: (30, 200.0)}),
        a_row("p", "b", 2, {0: (5, 60.0)}),
    ]
    # three seconds of loading over 46 requests
    assert cost_parts(rows, "request_ms").value == pytest.approx((7000 + 20 + 300 + 300) / 46)
    # loads of group a: 200 ms over 41 requests, of b: 100 over 5; each function of a group has the same share
    expected = ((7000 / 40 + 20 + 2 * 200 / 41) + (60 + 100 / 5)) / 3
    assert cost_parts(rows, "function_ms").value == pytest.approx(expected)
    assert besides(rows)["load_s"] == pytest.approx(3 / 46)


def test_what_stands_besides_the_costs_by_hand() -> None:
    row = a_row("p", "a", 0, {0: (8, 100.0)})
    row["sums"] |= {"runs": 2, "preloaded": 6, "load_us": 4e6, "preload_gb_s": 30.0, "queue_us": 12_000}
    assert besides([row]) == {"hit_rate": 0.75, "load_s": 0.5, "preload_gb_s": 15.0, "queue_ms": 1.5}


PRICED = Scenario.load("small").with_(reward={"load_per_s": 2.0})


def a_run(requests: int, waited_us: int, load_us: int) -> Any:
    """A run in which function 2 alone was called, and a quarter of its requests found it held."""
    totals = np.zeros(5, TOTALS_DTYPE)
    for name, value in (("requests", requests), ("warming_loading_us", waited_us), ("queue_us", 4 * waited_us)):
        totals[name][2] = value
    totals["gpu"][2] = requests // 4
    counters = {"loads": 9, "wasted_loads": 3, "load_us": load_us, "wasted_load_us": 7}
    integrals = {kind: np.full(2, 1e9 * place) for place, kind in enumerate(("busy", "idle", "gpu", "preload"))}
    return SimpleNamespace(totals=totals, counters=counters, integrals_mb_us=integrals)


def test_a_window_s_row_is_of_all_its_expansions(monkeypatch: pytest.MonkeyPatch) -> None:
    def play_in(scene: WindowScene, policy: Any, record: str) -> Any:
        assert (scene.split, scene.window, policy.name) == ("test", 1, "lru")
        return a_run(20 * (scene.seed + 1), 300_000, 1_000_000)

    monkeypatch.setattr(measure_module, "play_in", play_in)
    row = measure_window(PRICED, POLICIES["lru"], 1, 2)
    assert row["group"] == PRICED.windows("test")[1].group
    assert [row["sums"][name] for name in ("runs", "requests", "preloaded")] == [2, 60, 15]
    # 0.6 s of waiting, and 2 s of loading at two seconds each, over 60 requests
    assert row["request_ms"] == pytest.approx((600 + 2 * 2000) / 60)
    assert row["functions"] == {"function": [2], "requests": [60], "warming_loading_us": [600_000]}
    # two nodes take three GB s each in either run
    assert (row["load_s"], row["preload_gb_s"], row["queue_ms"]) == (pytest.approx(2 / 60), 6.0, pytest.approx(40))


def test_each_row_is_of_its_own_policy_seed_and_window(monkeypatch: pytest.MonkeyPatch) -> None:
    bundles: Any = {"mine": [SimpleNamespace(mark=1), SimpleNamespace(mark=2)], "other": [SimpleNamespace(mark=3)]}
    marks = {name: 10 + place for place, name in enumerate((*HEURISTICS, CEILING))}

    def play_all(runs: Any, workers: Any, progress: Any) -> Any:
        worlds = [run.world_key for run in runs]
        assert len(worlds) == len(set(worlds)) * (len(marks) + 3)
        assert all(a == b or a not in worlds[at + 2 :] for at, (a, b) in enumerate(pairwise(worlds)))
        rows = []
        for run in runs:
            mark = marks[run.name] if run.bundle is None else run.bundle.mark
            waited_us = 1_000_000 * mark + 1000 * run.scene.window + run.scene.seed
            sums = dict.fromkeys(SUMS, 0) | {"requests": 1, "warming_loading_us": waited_us}
            functions = {"function": [0], "requests": [1], "warming_loading_us": [waited_us]}
            rows.append({"sums": sums, "functions": functions})
        return rows

    monkeypatch.setattr(measure_module, "play_all", play_all)
    rows = measure(PRICED, bundles, expansions=2, windows=3)
    assert len(rows) == 3 * (len(marks) + 3)
    for row in rows:
        own = bundles.get(row["policy"])
        mark = marks[row["policy"]] if own is None else own[row["seed"]].mark
        assert row["sums"]["warming_loading_us"] == 2 * (1_000_000 * mark + 1000 * row["window"]) + 1
        assert row["group"] == PRICED.windows("test")[row["window"]].group


def test_standings_of_three_seeds_and_four_windows_by_hand() -> None:
    def windows(policy: str, values_ms: list[float], seed: int = 0) -> list[Any]:
        return [
            a_row(policy, f"g{i}", i, {0: (requests, value_ms - 100 / requests)}, seed)
            for i, (requests, value_ms) in enumerate(zip((10, 20, 30, 40), values_ms, strict=True))
        ]

    rows = windows("tyche", [100, 200, 300, 400]) + windows("minute-oracle", [20, 20, 20, 20])
    rows += windows("lru", [150, 150, 350, 350])
    for seed, value_ms in enumerate((60.0, 90.0, 180.0)):
        rows += windows("mine", [value_ms] * 4, seed)
    rivals = ("tyche", "lru")
    found = {(each.policy, each.metric): each for each in standings(rows, rivals=rivals)}
    tyche, mine = found["tyche", "request_ms"], found["mine", "request_ms"]
    assert tyche.mean == pytest.approx((1000 + 4000 + 9000 + 16000) / 100)
    assert tyche.versus == "lru"
    assert found["lru", "request_ms"].mean == pytest.approx((1500 + 3000 + 10500 + 14000) / 100)
    assert mine.mean == pytest.approx(110.0), "the mean over seeds"
    assert mine.seeds == 3
    assert mine.seed_deviation == pytest.approx(((50**2 + 20**2 + 70**2) / 2) ** 0.5)
    assert mine.versus == "lru"
    assert mine.difference == {"mean": pytest.approx(110 - 290), "low": None, "high": None}
    assert mine.relative == pytest.approx((110 - 290) / 290)
    assert not mine.clear_of_zero, "four groups are too few"
    assert mine.gap_share is not None
    assert mine.gap_share["mean"] == pytest.approx((300 - 110) / (300 - 20))
    # seeds of 60 and 90 ms are better than lru in all windows, the one of 180 ms in two
    assert mine.improvement == pytest.approx(10 / 12)
    # of the twelve ratios to Tyche's cost the three least and the three greatest are left out
    ratios = sorted(value / level for value in (60, 90, 180) for level in (100, 200, 300, 400))
    assert mine.iqm == pytest.approx(float(np.mean(ratios[3:9])))
    assert found["mine", "function_ms"].mean == pytest.approx(110.0)
    assert found["tyche", "function_ms"].mean == pytest.approx(250.0)
    assert (mine.windows, mine.groups) == (4, 4)


def test_a_replay_is_held_against_the_figures_and_against_what_the_page_is_pooled_from() -> None:
    told, found = a_row("p", "a", 0, {0: (10, 100.0)}), a_row("p", "a", 0, {0: (10, 100.0)})
    assert differences(told, found) == []
    assert differences({**told, "request_ms": 99.0}, found) == [
        "s, window 0, p seed 0: request_ms is 110, the board says 99"
    ]
    told["sums"] = told["sums"] | {"warming_loading_us": 9e5}
    assert differences(told, found) == ["s, window 0, p seed 0: request_ms is 110, the board says 100"]
    told["sums"] = told["sums"] | {"warming_loading_us": 1e6 * (1 + 0.9 * TOLERANCE)}
    assert differences(told, found) == []


def standing(policy: str, metric: str, mean: float, **more: Any) -> Standing:
    besides_it = {"hit_rate": 0.125, "load_s": 0.5, "preload_gb_s": 1234.0}
    about: dict[str, Any] = {"scenario": "s", "iqm": 0.75, "seeds": 2, "seed_deviation": 1.25, "versus": "lru"}
    about |= {"gap_share": {"mean": 0.5, "low": 0.4, "high": 0.6}, "relative": -0.25, "clear_of_zero": True}
    about |= {"difference": {"mean": -30.0, "low": -40.0, "high": -20.0}, "improvement": 0.625}
    about |= {"besides": besides_it, "windows": 9, "groups": 8}
    return Standing(policy=policy, metric=metric, mean=mean, **(about | more))


def test_each_table_of_a_board_has_its_own_metric_the_best_first() -> None:
    entries = [
        standing("slow", "request_ms", 300.0),
        standing("slow", "function_ms", 200.0),
        standing("fast", "request_ms", 100.0),
        standing("fast", "function_ms", 400.0, seeds=1),
        standing("minute-oracle", "request_ms", 1.0),
    ]
    tables: dict[str, list[dict[str, str]]] = {}
    for line in as_markdown(entries).splitlines():
        if line.startswith("### "):
            place = line.removeprefix("### ")
        elif line.startswith("| ") and not line.startswith("| policy"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            tables.setdefault(place, []).append(dict(zip(HEADINGS, cells, strict=True)))
    assert {place: [(row["policy"], row["ms"]) for row in rows] for place, rows in tables.items()} == {
        "s, per request": [("minute-oracle", "1.0"), ("fast", "100.0"), ("slow", "300.0")],
        "s, per function": [("slow", "200.0"), ("fast", "400.0")],
    }
    assert "Pooled over 9 windows of 8 groups of functions" in as_markdown(entries)
    ceiling, fast, _ = tables["s, per request"]
    assert fast == {
        "policy": "fast",
        "ms": "100.0",
        "IQM / Tyche": "0.75",
        "training seeds": "2, sd 1.2",
        "share of the gap closed": "50 % [40, 60]",
        "against": "-25 %, -30 [-40, -20] ms\\* (lru)",
        "better in": "62 %",
        "hits": "12.5 %",
        "load s a request": "0.50",
        "preload GB s": "1,234",
    }
    assert tables["s, per function"][1]["training seeds"] == ""
    # the ceiling is no rival: it closes the whole gap by its definition
    assert [ceiling[name] for name in ("share of the gap closed", "against", "better in")] == [""] * 3


def test_values_are_told_apart_by_seed_group_and_window() -> None:
    rows = [
        {"policy": "p", "seed": seed, "group": group, "window": window, "request_ms": 100.0 * seed + 10 * window}
        for seed in (1, 0)
        for group, window in (("a", 0), ("a", 1), ("b", 2))
    ]
    assert by_member(rows, "request_ms") == {
        "p": [
            {("a", 0): 0.0, ("a", 1): 10.0, ("b", 2): 20.0},
            {("a", 0): 100.0, ("a", 1): 110.0, ("b", 2): 120.0},
        ]
    }
