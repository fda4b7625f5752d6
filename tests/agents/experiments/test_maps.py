"""Heat maps and their rows on planted corners: which factor stands where, its ink, its weight and its sign."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from agents.experiments import heat_map, regime, regime_synthetic
from agents.experiments.draws import CLASSES
from agents.experiments.heat_map import Panel, Side
from agents.experiments.tables import grid


def texts(axis: Any) -> dict[tuple[int, int], tuple[str, str, str]]:
    """By (column, row) what stands in a cell: text, ink, weight."""
    found = {}
    for text in axis.texts:
        x, y = text.get_position()
        found[round(x), round(y)] = (text.get_text(), text.get_color(), text.get_fontweight())
    return found


def test_a_cell_shows_its_factor_bold_where_it_is_clear_and_blue_where_tyche_is_faster() -> None:
    factors = np.array([[0.1, 1.0, 1.54], [4.0, 10.4, np.nan]])
    clear = np.array([[True, False, False], [False, True, False]])
    axis = Figure().subplots()
    heat_map._fill(axis, Panel("planted", factors, clear), ("a", "b", "c"), ("low", "high"))
    assert texts(axis) == {
        (0, 0): ("0.1", "white", "bold"),
        (1, 0): ("1", "black", "normal"),
        (2, 0): ("1.5", "black", "normal"),
        (0, 1): ("4", "white", "normal"),
        (1, 1): ("10", "white", "bold"),
        (2, 1): ("-", "black", "normal"),
    }
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["low", "high"]
    (image,) = axis.images
    shades = image.to_rgba(np.asarray(image.get_array()))
    red, blue = shades[..., 0], shades[..., 2]
    assert red[0, 0] > blue[0, 0], "a tenth of Tyche's delay: the rival is faster"
    assert blue[1, 0] > red[1, 0], "four times Tyche's delay"
    assert red[0, 1] == pytest.approx(blue[0, 1], abs=0.02), "equal"
    assert np.asarray(image.get_array())[:, :2].tolist() == [[-3, 0], [2, 3]], "doublings, cut at three"
    assert image.get_clim() == (-3, 3)


def drawn(monkeypatch: pytest.MonkeyPatch, module: Any, summary: Any) -> tuple[Any, Side, Side]:
    found: list[Any] = []
    monkeypatch.setattr(module, "draw", lambda *arguments: found.append(arguments))
    module.draw_map(summary, Path("nowhere"))
    panels, across, down, *_ = found[0]
    return panels, across, down


def test_the_paper_s_map_has_each_corner_in_its_panel_row_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    def gain(mode: str, name: str, functions: int, pool: int, rival: str) -> float:
        """Another one in each corner; a tenth of the rival's time is left where it is 0.9."""
        return round(
            0.001 * regime.POOLS_GB.index(pool)
            + 0.01 * regime.FUNCTIONS.index(functions)
            + 0.1 * CLASSES.index(name)
            + 0.3 * (mode == "realistic")
            - 0.6 * (rival == "lru"),
            3,
        )

    rows = []
    for mode in regime.MODES:
        for name in CLASSES:
            for functions in regime.FUNCTIONS:
                for pool in regime.POOLS_GB:
                    row: dict[str, Any] = {"mode": mode, "class": name, "functions": functions, "pool_gb": pool}
                    for rival in ("prewarming", "lru"):
                        mean = gain(mode, name, functions, pool, rival)
                        row[f"gain_{rival}_rate"] = mean
                        row[f"gain_{rival}_ci95_rate"] = [mean - 0.05, mean + 0.05]
                    rows.append(row)
    rows[0]["gain_lru_rate"] = rows[0]["gain_lru_ci95_rate"] = None
    panels, across, down = drawn(monkeypatch, regime, {"rows": list(reversed(rows))})
    assert (across.label, across.ticks) == ("pool memory, GB", ("8", "16", "32", "64", "128", "256"))
    assert (down.label, down.ticks) == ("functions", ("8", "40", "160"))
    assert [[panel.title for panel in line] for line in panels] == [
        [f"{name}, {mode}: {against}" for name in CLASSES]
        for against in ("the best pre-warming", "lru")
        for mode in ("paper", "realistic")
    ]
    for line in panels:
        for panel in line:
            where, _, against = panel.title.partition(": ")
            name, mode = where.split(", ")
            rival = "lru" if against == "lru" else "prewarming"
            for y, functions in enumerate(regime.FUNCTIONS):
                for x, pool in enumerate(regime.POOLS_GB):
                    if (mode, name, rival, x, y) == ("paper", CLASSES[0], "lru", 0, 0):
                        assert np.isnan(panel.factors[y, x])
                        assert not panel.clear[y, x]
                        continue
                    mean = gain(mode, name, functions, pool, rival)
                    # of the rival's delay 1 - gain is left
                    assert panel.factors[y, x] == pytest.approx(1 / (1 - mean)), panel.title
                    assert panel.clear[y, x] == (abs(mean) > 0.05), (panel.title, mean)


def corner(room: float, gaps: tuple[float, float]) -> dict[str, Any]:
    """A planted corner: every delay and every mark is another one's."""
    x, y = regime_synthetic.GAPS_MIN.index(gaps), regime_synthetic.ROOMS.index(room)
    delays = {
        "paper": {"none": 1000.0 + 10 * x + y, "lru": 900.0, "tyche": 100.0 + x, "censored": 50.0},
        "realistic": {"none": 800.0, "lru": 700.0 + 10 * x + y, "tyche": 200.0 + y, "censored": 60.0},
    }
    clear = {"paper": {"none": x > y, "lru": False}, "realistic": {"none": False, "lru": x == y}}
    where = {"memory for": f"{100 * room:g} %", "mean gap": regime_synthetic.in_words(gaps)}
    return {"experiment": "regime", **where, "requests": 77, "delay_ms": delays, "clear": clear}


def test_the_synthetic_map_and_its_table_have_each_corner_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [corner(*each) for each in regime_synthetic.CORNERS]
    panels, across, down = drawn(monkeypatch, regime_synthetic, {"rows": rows})
    assert down.ticks == ("25 %", "50 %", "100 %", "150 %")
    assert across.ticks == ("10 to 30 min", "3 to 10 min", "1 to 3 min", "20 s to 1 min")
    ((paper, realistic),) = panels
    assert paper.title.startswith("none: no pre-loading")
    assert realistic.title.startswith("lru: keep-alive")
    for y in range(4):
        for x in range(4):
            assert paper.factors[y, x] == pytest.approx((1000 + 10 * x + y) / (100 + x))
            assert realistic.factors[y, x] == pytest.approx((700 + 10 * x + y) / (200 + y))
            assert (paper.clear[y, x], realistic.clear[y, x]) == (x > y, x == y)
    headings, cells = grid(regime_synthetic.summary_of(rows))
    # memory for 50 %, 1 to 3 minutes
    assert dict(zip(headings, cells[4 + 2], strict=True)) == {
        "memory for": "50 %",
        "mean gap": "1 to 3 min",
        "requests": "77",
        "none, paper": "1,021",
        "lru, paper": "900",
        "Tyche, paper": "102",
        "lru, realistic": "721",
        "Tyche, realistic": "201",
        "censored, realistic": "60",
    }


def test_a_corner_s_delay_is_queue_and_loading_of_the_average_request(monkeypatch: pytest.MonkeyPatch) -> None:
    aggregates = [
        {"mode": mode, "policy": policy, "queue_ms_mean": {"mean": 3.0}, "warming_loading_ms_mean": {"mean": ms}}
        for mode, policy, ms in (("paper", "tyche", 10.0), ("paper", "none", 90.0), ("realistic", "tyche", 20.0))
    ]
    comparisons = [
        {"mode": "paper", "policy": "none", "metric": metric, "clear_of_zero": clear}
        for metric, clear in (("warming_loading_ms_mean", False), ("end_to_end_ms_mean", True), ("cost_usd", False))
    ]
    rows = [
        {"policy": policy, "mode": mode, "requests": requests}
        for policy, mode, requests in (("tyche", "paper", 5), ("tyche", "paper", 6), ("none", "paper", 5))
    ]
    rows.append({"policy": "tyche", "mode": "realistic", "requests": 11})
    found = SimpleNamespace(aggregates=aggregates, comparisons=comparisons, rows=rows)
    monkeypatch.setattr(regime_synthetic, "evaluate", lambda *_, **__: found)
    row = regime_synthetic.measure(0.5, (1 / 3, 1.0))
    assert row["delay_ms"] == {"paper": {"tyche": 13.0, "none": 93.0}, "realistic": {"tyche": 23.0}}
    assert row["clear"] == {"paper": {"none": True}, "realistic": {}}
    assert (row["requests"], row["memory for"], row["mean gap"]) == (11, "50 %", "20 s to 1 min")


def test_a_corner_s_scenario_has_its_memory_and_its_rates() -> None:
    scenario = regime_synthetic.scenario_of(0.25, (1 / 3, 1.0))
    assert [node.memory_mb for node in scenario.cluster.nodes] == [5 * 2048], "containers of 5 of 20 functions"
    assert scenario.trace.max_rate_per_min == pytest.approx(3.0)
    assert scenario.trace.min_requests == 300, "one a minute at least"
