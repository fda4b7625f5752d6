"""When pre-loading pays: the tables and the picture of ``docs/when-it-pays.md``.

Groups of twenty functions of one synthetic trace, chosen by how often they are requested, on one node with room for a
share of their containers.  From the repository's root, in about a minute:

    .venv/bin/python benchmarks/when_it_pays.py docs/images
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from agents import Plan, evaluate
from agents.evidence.tables import ms
from agents.playing.spread import ALONE
from tyche_env.scenario import Mode, Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FUNCTIONS, CONTAINER_MB, MINUTES = 20, 2048, 300
ROOMS = (0.25, 0.5, 1.0, 1.5)
"""Memory of the node, over the containers of all functions."""
GAPS_MIN = ((10.0, 30.0), (3.0, 10.0), (1.0, 3.0), (1 / 3, 1.0))
"""Least and greatest mean gap between two requests of a function."""
POLICIES = ("tyche", "none", "lru", "censored")
RIVALS: tuple[tuple[Mode, str, str], ...] = (
    ("paper", "none", "no pre-loading, processes end with their runs"),
    ("realistic", "lru", "keep-alive, processes survive in their containers"),
)
"""Against whom, in which mode, and in words."""
END_TO_END = "end_to_end_ms_mean"


@dataclass(frozen=True, slots=True)
class Cell:
    """One memory size and one band of rates.

    Attributes:
        room: share of the functions' containers that fit into memory.
        gaps_min: least and greatest mean gap of a function.
        delay_ms: by mode and policy: mean of queue + warming + loading over requests.
        clear: by mode and policy: whether the paired 95 % interval of its difference from Tyche is clear of 0.
        requests: scored requests in all windows.
    """

    room: float
    gaps_min: tuple[float, float]
    delay_ms: dict[tuple[str, str], float]
    clear: dict[tuple[str, str], bool]
    requests: int

    def factor(self, mode: Mode, rival: str) -> float:
        """How many times as long as with Tyche a request waits with the rival."""
        return self.delay_ms[mode, rival] / self.delay_ms[mode, "tyche"]


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


def measure(room: float, gaps_min: tuple[float, float], folder: Path, windows: int = 12) -> Cell:
    """Evaluate one cell in both modes; the run folder goes to ``folder``."""
    plan = Plan(scenario_of(room, gaps_min), POLICIES, modes=("paper", "realistic"), windows=windows, record="none")
    found = evaluate(plan, folder, spread=ALONE, command=shlex.join(sys.argv))
    delay_ms = {
        (entry["mode"], entry["policy"]): entry["queue_ms_mean"]["mean"] + entry["warming_loading_ms_mean"]["mean"]
        for entry in found.aggregates
    }
    clear = {
        (entry["mode"], entry["policy"]): bool(entry["clear_of_zero"])
        for entry in found.comparisons
        if entry["metric"] == END_TO_END
    }
    requests = sum(row["requests"] for row in found.rows if (row["policy"], row["mode"]) == ("tyche", "paper"))
    return Cell(room, gaps_min, delay_ms, clear, requests)


def gaps(gaps_min: tuple[float, float]) -> str:
    """A band of mean gaps in words."""
    least, greatest = gaps_min
    return f"{60 * least:g} s to {greatest:g} min" if least < 1 else f"{least:g} to {greatest:g} min"


def markdown(cells: Sequence[Cell]) -> str:
    """One row a cell: mean delays in ms."""
    paper, realistic = ("none", "lru", "Tyche"), ("lru", "Tyche", "censored")
    headings = ("memory for", "mean gap", "requests", *(f"{name}, paper" for name in paper))
    headings += tuple(f"{name}, realistic" for name in realistic)
    lines = [headings, ("---",) * len(headings)]
    for cell in cells:
        shown = [("paper", name) for name in ("none", "lru", "tyche")]
        shown += [("realistic", name) for name in ("lru", "tyche", "censored")]
        delays = [ms(cell.delay_ms[each]) for each in shown]
        lines.append((f"{100 * cell.room:g} %", gaps(cell.gaps_min), f"{cell.requests:,}", *delays))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Two heat maps: how many times as long a request waits with each rival."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tyche"}):
        canvas = Figure(figsize=(9.5, 3.4), layout="constrained", facecolor="white")
        for axis, (mode, rival, words) in zip(canvas.subplots(1, len(RIVALS), sharey=True), RIVALS, strict=True):
            _panel(axis, cells, mode, rival)
            axis.set_title(f"{rival}: {words}", fontsize=9, loc="left")
        canvas.suptitle("Delay of the rival / delay of Tyche (above 1: Tyche is faster; bold: clear of 1)", fontsize=10)
        canvas.savefig(path, metadata={"Date": None})


def _panel(axis: Axes, cells: Sequence[Cell], mode: Mode, rival: str) -> None:
    found = {(cell.room, cell.gaps_min): cell for cell in cells}
    factors = np.array([[found[room, band].factor(mode, rival) for band in GAPS_MIN] for room in ROOMS])
    axis.imshow(np.clip(np.log2(factors), -3, 3), cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
    for (y, room), (x, band) in product(enumerate(ROOMS), enumerate(GAPS_MIN)):
        ink = "white" if abs(np.log2(factors[y, x])) > 1.8 else "black"
        weight = "bold" if found[room, band].clear[mode, rival] else None
        axis.text(x, y, f"{factors[y, x]:.2g}", ha="center", va="center", fontsize=9, color=ink, fontweight=weight)
    axis.set_xticks(range(len(GAPS_MIN)), [gaps(band) for band in GAPS_MIN], fontsize=8)
    axis.set_yticks(range(len(ROOMS)), [f"{100 * room:g} %" for room in ROOMS])
    axis.set_xlabel("mean gap between two requests of a function")
    axis.set_ylabel("memory for")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and write ``when-it-pays.svg`` into the folder that is named."""
    parser = argparse.ArgumentParser(description="Measure when pre-loading pays.")
    parser.add_argument("folder", type=Path, help="where the picture goes")
    options: Any = parser.parse_args(arguments)
    with TemporaryDirectory() as runs:
        cells = [
            measure(room, band, Path(runs) / f"{number}")
            for number, (room, band) in enumerate(product(ROOMS, GAPS_MIN))
        ]
    print(markdown(cells))
    draw(cells, options.folder / "when-it-pays.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
