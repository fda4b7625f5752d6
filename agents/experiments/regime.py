"""When does pre-loading pay in the paper's set-up?  Pool memory x number of functions x class x mode.

Everywhere Tyche, with whichever pre-warming policy suits it best, is held against the best pre-warming policy without
pre-loading and against ``lru`` (a process stays until its container goes, nothing is loaded), each with its own best
pre-warming policy.  What counts is the delay before inference: queue + warming + loading, which the bound bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from agents.experiments import pooled
from agents.experiments.draws import CLASSES, draws
from agents.experiments.heat_map import Panel, Side, draw
from agents.experiments.paper import PREWARMS, one_node
from agents.experiments.rows import conditions
from agents.experiments.runs import Axis, Case, open_folder, run_all
from agents.playing.spread import ALL_CORES, Progress, Spread
from agents.policies.loading import BOUND
from traces.output import holds
from tyche_env.scenario import Mode

FUNCTIONS = (8, 40, 160)
POOLS_GB = (8, 16, 32, 64, 128, 256)
MODES: tuple[Mode, ...] = ("paper", "realistic")

AXES = ("mode", "class", "functions", "pool_gb")
COLUMNS = (
    ("tyche ms", "tyche_ms"),
    ("best pre-warming ms", "prewarming_ms"),
    ("with", "prewarming_with"),
    ("gain", "gain_prewarming_rate"),
    ("95 %", "gain_prewarming_ci95_rate"),
    ("lru ms", "lru_ms"),
    ("gain", "gain_lru_rate"),
    ("95 %", "gain_lru_ci95_rate"),
)

Row = dict[str, Any]


def cases(count: int) -> list[Case]:
    """What is run: every corner of the map, on ``count`` draws."""
    found = []
    for pool_gb, functions, name in product(POOLS_GB, FUNCTIONS, CLASSES):
        scenario = one_node(pool_gb)
        for drawn, mode in product(draws(scenario.trace, name, count, functions), MODES):
            axes: dict[str, Axis] = {"mode": mode, "class": name, "functions": functions, "pool_gb": pool_gb}
            for prewarm, policy in product(PREWARMS, ("none", "lru", "tyche")):
                filed = {**axes, "prewarm": prewarm, "policy": policy}
                found.append(Case(filed, scenario, drawn, policy, prewarm, mode))
            # The bound holds for every pre-warming policy and mode alike.
            filed = {**axes, "prewarm": PREWARMS[0], "policy": BOUND}
            found.append(Case(filed, scenario, drawn, BOUND, PREWARMS[0], mode))
    return found


@holds("out")
def reproduce(
    count: int, out: Path, *, spread: Spread = ALL_CORES, command: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Run the map, or what is left of it.

    Args:
        count: draws of functions a corner.
        out: folder; ``summary.json`` is written there.
        spread: where the runs go.
        command: the command line, for the manifest.
        progress: called with (finished runs, all).
    """
    todo = cases(count)
    plan = {"experiment": "regime", "draws": count}
    folder = open_folder(out, plan, [case.scenario for case in todo], command)
    rows = rows_of(todo, run_all(todo, folder, spread, progress))
    summary = {
        "experiment": "regime",
        "title": "Delay before inference that Tyche saves",
        "draws": count,
        "axes": list(AXES),
        "columns": COLUMNS,
        "rows": rows,
        "checks": [],
    }
    folder.write_json("summary.json", summary)
    folder.update_manifest(status="finished")
    return summary


def rows_of(todo: Sequence[Case], results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a corner of the map."""
    grouped = conditions(todo, results)
    corners: dict[tuple[Any, ...], dict[tuple[str, str], list[Row]]] = {}
    for key, own in grouped.items():
        axes = dict(key)
        corner = tuple(axes[axis] for axis in AXES)
        corners.setdefault(corner, {})[axes["policy"], axes["prewarm"]] = [_with_queue(each) for each in own]
    return [_corner(dict(zip(AXES, corner, strict=True)), by_policy) for corner, by_policy in corners.items()]


def _corner(axes: Row, by_policy: Mapping[tuple[str, str], list[Row]]) -> Row:
    def best(policy: str) -> tuple[str, list[Row], float]:
        found = {prewarm: pooled.mean(own).mean for (name, prewarm), own in by_policy.items() if name == policy}
        prewarm = min(found, key=lambda name: found[name])
        return prewarm, by_policy[policy, prewarm], found[prewarm]

    tyche_with, tyche, tyche_ms = best("tyche")
    row: Row = {"experiment": "regime", **axes, "tyche_ms": tyche_ms, "tyche_with": tyche_with}
    for name, policy in (("prewarming", "none"), ("lru", "lru")):
        prewarm, rival, rival_ms = best(policy)
        ratio = pooled.ratio(tyche, rival)
        interval = None if ratio is None else ratio.interval
        row |= {
            f"{name}_ms": rival_ms,
            f"{name}_with": prewarm,
            f"gain_{name}_rate": None if ratio is None else 1 - ratio.mean,
            f"gain_{name}_ci95_rate": None if interval is None else [1 - interval[1], 1 - interval[0]],
        }
    return row | {"bound_ms": pooled.over_requests(by_policy[BOUND, PREWARMS[0]], "bound_ms")}


def _with_queue(result: Mapping[str, Any]) -> Row:
    """The result with queueing counted as delay."""
    if "by_function" not in result:
        return dict(result)
    table = result["by_function"]
    delay = [a + b for a, b in zip(table["warming_loading_ms"], table["queue_ms"], strict=True)]
    return {**result, "by_function": {**table, "warming_loading_ms": delay}}


def draw_map(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """The heat maps as ``regime.svg``, ``.pdf`` and ``.png``: against the best pre-warming policy and against lru.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    cell = {tuple(row[axis] for axis in AXES): row for row in summary["rows"]}

    def panel(mode: Mode, rival: str, name: str) -> Panel:
        found = [[cell[mode, name, functions, pool] for pool in POOLS_GB] for functions in FUNCTIONS]
        against = "the best pre-warming" if rival == "prewarming" else "lru"
        factors = np.array([[_factor(each[f"gain_{rival}_rate"]) for each in line] for line in found])
        clear = np.array([[_clear(each[f"gain_{rival}_ci95_rate"]) for each in line] for line in found])
        return Panel(f"{name}, {mode}: {against}", factors, clear)

    panels = [[panel(mode, rival, name) for name in CLASSES] for rival in ("prewarming", "lru") for mode in MODES]
    across = Side("pool memory, GB", tuple(map(str, POOLS_GB)))
    return draw(panels, across, Side("functions", tuple(map(str, FUNCTIONS))), (10.5, 8.2), folder)


def _factor(gain: float | None) -> float:
    return np.nan if gain is None or gain >= 1 else 1 / (1 - gain)


def _clear(interval: tuple[float, float] | None) -> bool:
    return interval is not None and (interval[0] > 0 or interval[1] < 0)
