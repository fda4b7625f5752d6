"""When does pre-loading pay?  Pool memory x number of functions x class x mode.

Everywhere Tyche, with whichever pre-warming policy suits it best, is held against the best pre-warming policy without
pre-loading and against ``lru`` (a process stays until its container goes, nothing is loaded), each with its own best
pre-warming policy.  What counts is the delay before inference: queue + warming + loading, which the bound bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.experiments import pooled
from agents.experiments.draws import CLASSES, draws
from agents.experiments.paper import PREWARMS, one_node
from agents.experiments.rows import conditions
from agents.experiments.runs import Axis, Case, open_folder, run_all
from agents.playing.spread import ALL_CORES, Progress, Spread
from agents.policies.loading import BOUND
from tyche_env.scenario import Mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    ("bound ms", "bound_ms"),
)

Row = dict[str, Any]


def cases(count: int) -> list[Case]:
    """What is run: every corner of the map, on ``count`` draws."""
    found = []
    for pool_gb, functions, name in product(POOLS_GB, FUNCTIONS, CLASSES):
        scenario = one_node(pool_gb)
        for draw, mode in product(draws(scenario.trace, name, count, functions), MODES):
            axes: dict[str, Axis] = {"mode": mode, "class": name, "functions": functions, "pool_gb": pool_gb}
            for prewarm, policy in product(PREWARMS, ("none", "lru", "tyche")):
                filed = {**axes, "prewarm": prewarm, "policy": policy}
                found.append(Case(filed, scenario, draw, policy, prewarm, mode))
            # The bound holds for every pre-warming policy and mode alike.
            filed = {**axes, "prewarm": PREWARMS[0], "policy": BOUND}
            found.append(Case(filed, scenario, draw, BOUND, PREWARMS[0], mode))
    return found


def reproduce(
    count: int, out: Path, *, spread: Spread = ALL_CORES, command: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Run the map, or what is left of it, and draw it.

    Args:
        count: draws of functions a corner.
        out: folder; ``summary.json`` and ``regime.svg``, ``.pdf``, ``.png`` are written there.
        spread: where the runs go.
        command: the command line, for the manifest.
        progress: called with (finished runs, all).
    """
    todo = cases(count)
    folder = open_folder(out, "regime", count, todo, command)
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
    bounds = [each["bound_ms"] for each in by_policy[BOUND, PREWARMS[0]] if each["bound_ms"] is not None]
    return row | {"bound_ms": float(np.mean(bounds)) if bounds else None}


def _with_queue(result: Mapping[str, Any]) -> Row:
    """The result with queueing counted as delay."""
    if "by_function" not in result:
        return dict(result)
    table = result["by_function"]
    delay = [a + b for a, b in zip(table["warming_loading_ms"], table["queue_ms"], strict=True)]
    return {**result, "by_function": {**table, "warming_loading_ms": delay}}


def draw_map(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """The heat map as ``regime.svg``, ``.pdf`` and ``.png``: against the best pre-warming policy and against lru.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    cell = {tuple(row[axis] for axis in AXES): row for row in summary["rows"]}
    lines = [(mode, rival) for rival in ("prewarming", "lru") for mode in MODES]
    paths = [folder / f"regime.{kind}" for kind in ("svg", "pdf", "png")]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tyche"}):
        canvas = Figure(figsize=(10.5, 8.2), layout="constrained")
        axes = canvas.subplots(len(lines), len(CLASSES), sharex=True, sharey=True)
        for (row, (mode, rival)), (column, name) in product(enumerate(lines), enumerate(CLASSES)):
            axis = axes[row, column]
            found = [[cell[mode, name, functions, pool] for pool in POOLS_GB] for functions in FUNCTIONS]
            _panel(axis, found, rival)
            against = "the best pre-warming" if rival == "prewarming" else "lru"
            axis.set_title(f"{name}, {mode}: {against}", fontsize=9, loc="left")
            if column == 0:
                axis.set_ylabel("functions")
            if row == len(lines) - 1:
                axis.set_xlabel("pool memory, GB")
        canvas.suptitle("Delay of a rival / delay of Tyche (above 1: Tyche is faster; bold: clear of 1)", fontsize=11)
        # No date, so that the same results make the same file.
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        for path in paths:
            canvas.savefig(path, dpi=140, metadata=dates.get(path.suffix))
    return paths


def _panel(axis: Axes, found: list[list[Row]], rival: str) -> None:
    """One heat map: how many times longer the rival's delay is, on a logarithmic scale."""
    gains = [[each[f"gain_{rival}_rate"] for each in line] for line in found]
    factors = np.array([[np.nan if gain is None or gain >= 1 else 1 / (1 - gain) for gain in line] for line in gains])
    axis.imshow(np.clip(np.log2(factors), -3, 3), cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
    for y, x in product(range(len(FUNCTIONS)), range(len(POOLS_GB))):
        interval, factor = found[y][x][f"gain_{rival}_ci95_rate"], factors[y, x]
        clear = interval is not None and (interval[0] > 0 or interval[1] < 0)
        ink = "white" if abs(np.log2(factor)) > 1.8 else "black"
        text = "-" if np.isnan(factor) else f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, fontweight="bold" if clear else None)
    axis.set_xticks(range(len(POOLS_GB)), [str(pool) for pool in POOLS_GB])
    axis.set_yticks(range(len(FUNCTIONS)), [str(count) for count in FUNCTIONS])
