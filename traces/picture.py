"""A picture of a trace: when requests come, and what kinds of functions there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from traces.counts import Counts
from traces.describe import statistics
from traces.errors import FileName, TraceError
from traces.output import made_parent
from traces.shape import per_minute
from traces.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60
_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = ("#3b7ddd", "#d98a2b")


def sparkline(source: Counts | Trace) -> str:
    """Requests over time as one line of text; the highest bar is the busiest part."""
    counts = per_minute(source)
    parts = np.array([part.mean() for part in np.array_split(counts, min(_WIDTH, len(counts)))])
    heights = np.ceil(parts / max(parts.max(), 1e-12) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)


def draw(sources: Mapping[str, Counts | Trace], path: FileName) -> None:
    """Draw one or two traces into a file (PNG, SVG or PDF by its name).

    Args:
        sources: label to trace; two are laid over each other.
        path: of the picture.

    Raises:
        TraceError: the file's name ends otherwise.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if Path(path).suffix not in _FORMATS:
        raise TraceError.at(path, "pictures are written as .png, .svg or .pdf")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 2)
    for (label, source), colour in zip(sources.items(), _COLOURS, strict=False):
        table = statistics(source)
        counts = per_minute(source)
        hours = np.arange(len(counts)) / 60.0
        axes[0, 0].plot(hours, counts, color=colour, linewidth=0.7, alpha=0.8, label=label)
        _cumulative(axes[0, 1], table["rate_per_min"].to_numpy(), colour, label)
        _cumulative(axes[1, 0], table["cov"].dropna().to_numpy(), colour, label)
        requests = np.sort(table["requests"].to_numpy())[::-1]
        share = np.cumsum(requests) / max(1, requests.sum())
        axes[1, 1].plot((np.arange(len(share)) + 1) / len(share) * 100, share * 100, color=colour, label=label)
    for place, title, across, up in (
        ((0, 0), "Requests per minute", "hours", ""),
        ((0, 1), "Mean rates of the functions", "requests per minute", "share of functions"),
        ((1, 0), "Regularity: CoV of the gaps", "CoV (timers 0, Poisson 1, bursts above)", "share of functions"),
        ((1, 1), "Concentration", "busiest functions, %", "their requests, %"),
    ):
        axes[place].set(title=title, xlabel=across, ylabel=up)
        axes[place].grid(alpha=0.3)
    axes[0, 1].set_xscale("log")
    if len(sources) > 1:
        axes[0, 0].legend()
    figure.savefig(str(made_parent(Path(path))), dpi=110)


def _cumulative(axes: Axes, values: NDArray[np.float64], colour: str, label: str) -> None:
    """The share of functions up to each value; on a logarithmic axis those of 0 count, and are left of it."""
    ordered = np.sort(values)
    if len(ordered):
        # up at each value, not at the one before it
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=label)
