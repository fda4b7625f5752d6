"""When does pre-loading pay?  Memory x rate, on a synthetic trace: it needs no files and takes half a minute.

Groups of twenty functions of one trace, chosen by how often they are requested, on one node with room for a share of
their containers.  What counts is the delay before inference: queue + warming + loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.experiments.heat_map import Panel, Side, draw
from agents.experiments.runs import open_folder
from agents.experiments.tables import markdown
from agents.playing.spread import ALONE, Progress, Spread
from traces.output import holds
from tyche_env.scenario import Mode, Scenario

FUNCTIONS, CONTAINER_MB, MINUTES = 20, 2048, 300
ROOMS = (0.25, 0.5, 1.0, 1.5)
"""Memory of the node, over the containers of all functions."""
GAPS_MIN = ((10.0, 30.0), (3.0, 10.0), (1.0, 3.0), (1 / 3, 1.0))
"""Least and greatest mean gap between two requests of a function."""
CORNERS = tuple(product(ROOMS, GAPS_MIN))
POLICIES = ("tyche", "none", "lru", "censored")
RIVALS: tuple[tuple[Mode, str, str], ...] = (
    ("paper", "none", "no pre-loading, processes end with their runs"),
    ("realistic", "lru", "keep-alive, processes survive in their containers"),
)
"""Against whom, in which mode, and in words."""

AXES = ("memory for", "mean gap")
COLUMNS = (
    ("requests", "requests"),
    ("none, paper", "delay_ms.paper.none"),
    ("lru, paper", "delay_ms.paper.lru"),
    ("Tyche, paper", "delay_ms.paper.tyche"),
    ("lru, realistic", "delay_ms.realistic.lru"),
    ("Tyche, realistic", "delay_ms.realistic.tyche"),
    ("censored, realistic", "delay_ms.realistic.censored"),
)

Row = dict[str, Any]


@holds("out")
def reproduce(
    out: Path, *, spread: Spread = ALONE, command: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Run the map, or what is left of it.

    Args:
        out: folder; ``summary.json`` and ``table.md`` are written there.
        spread: where the runs of a corner go; a corner takes about as long as starting a process.
        command: the command line, for the manifest.
        progress: called with (finished corners, all).
    """
    scenarios = [scenario_of(room, gaps_min) for room, gaps_min in CORNERS]
    folder = open_folder(out, {"experiment": "regime", "map": "synthetic"}, scenarios, command)
    rows = folder.rows()
    for number, (room, gaps_min) in enumerate(CORNERS):
        if progress:
            progress(number, len(CORNERS))
        if number >= len(rows):
            rows.append(measure(room, gaps_min, spread))
            folder.append(rows[-1])
    summary = summary_of(rows)
    folder.write_json("summary.json", summary)
    (folder.path / "table.md").write_text(markdown(summary), encoding="utf-8")
    folder.update_manifest(status="finished")
    return summary


def summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """What tables and pictures show of some corners."""
    title = "Delay before inference, ms a request, by memory and rate"
    shown = {"axes": list(AXES), "columns": COLUMNS, "rows": list(rows), "checks": []}
    return {"experiment": "regime", "title": title, **shown}


def scenario_of(room: float, gaps_min: tuple[float, float]) -> Scenario:
    """The scenario ``small`` with other functions and one node of another size."""
    least, greatest = gaps_min
    return Scenario.load("small").with_(
        cluster={"nodes": [{"count": 1, "memory_mb": round(room * FUNCTIONS) * CONTAINER_MB}]},
        **{
            "trace.synthesis": {"functions": 6000, "minutes": MINUTES, "seed": 1},
            "trace.min_requests": round(MINUTES / greatest),
            "trace.max_rate_per_min": 1 / least,
            "trace.group_size": FUNCTIONS,
            "functions.container_mb": CONTAINER_MB,
        },
    )


def measure(room: float, gaps_min: tuple[float, float], spread: Spread = ALONE) -> Row:
    """One corner in both modes, on twelve windows.

    Returns:
        ``delay_ms`` by mode and policy, means over the requests of all windows, and ``clear`` likewise: whether the
        paired 95 % interval of the difference in end-to-end time from Tyche, by group of functions, is clear of 0.
    """
    scenario = scenario_of(room, gaps_min)
    plan = Plan(scenario, POLICIES, modes=("paper", "realistic"), windows=12, record="none")
    with TemporaryDirectory() as folder:
        found = evaluate(plan, Path(folder), spread=spread)
    delay_ms: dict[str, dict[str, float]] = {"paper": {}, "realistic": {}}
    for entry in found.aggregates:
        parts = (entry[f"{part}_ms_mean"]["mean"] for part in ("queue", "warming_loading"))
        delay_ms[entry["mode"]][entry["policy"]] = sum(parts)
    clear: dict[str, dict[str, bool]] = {"paper": {}, "realistic": {}}
    for entry in found.comparisons:
        if entry["metric"] == "end_to_end_ms_mean":
            clear[entry["mode"]][entry["policy"]] = bool(entry["clear_of_zero"])
    requests = sum(row["requests"] for row in found.rows if (row["policy"], row["mode"]) == ("tyche", "paper"))
    where = {"memory for": f"{100 * room:g} %", "mean gap": in_words(gaps_min)}
    return {"experiment": "regime", **where, "requests": requests, "delay_ms": delay_ms, "clear": clear}


def in_words(gaps_min: tuple[float, float]) -> str:
    """A band of mean gaps."""
    least, greatest = gaps_min
    return f"{60 * least:g} s to {greatest:g} min" if least < 1 else f"{least:g} to {greatest:g} min"


def draw_map(summary: Row, folder: Path) -> list[Path]:
    """The heat maps as ``regime.svg``, ``.pdf`` and ``.png``.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    shape = (len(ROOMS), len(GAPS_MIN))

    def panel(mode: Mode, rival: str, words: str) -> Panel:
        factors = [row["delay_ms"][mode][rival] / row["delay_ms"][mode]["tyche"] for row in summary["rows"]]
        clear = [row["clear"][mode][rival] for row in summary["rows"]]
        return Panel(f"{rival}: {words}", np.reshape(factors, shape), np.reshape(clear, shape))

    across = Side("mean gap between two requests of a function", tuple(map(in_words, GAPS_MIN)))
    down = Side("memory for", tuple(f"{100 * room:g} %" for room in ROOMS))
    return draw([[panel(*rival) for rival in RIVALS]], across, down, (10.5, 3.4), folder)
