"""Figures of the report: drawn by matplotlib, with colours that follow the page's light or dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from agents.evidence.kept import merged
from agents.evidence.rates import BINS_PER_DECADE as RATE_BINS_PER_DECADE
from agents.evidence.statistics import by_condition
from agents.evidence.tables import HEADLINE, conditions, ms, of_condition
from tyche_env.metrics import STAGES, bin_edges_us

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from agents.playing.timeline import Timeline

Entry = Mapping[str, Any]
Condition = tuple[str, str]
"""(mode, pre-warming policy)."""
Panels = Sequence[tuple[str, Any]]
"""Title and key of each panel."""

INK = "#23272f"
SOFT = "#6f7785"
GRID = "#d8dce3"
PAPER = "#fefefd"
_VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", PAPER: "var(--paper)"}
"""What stands for each colour in SVG that is part of the page."""

_COLOURS = {
    "none": "#8b93a1",
    "lru": "#d98a2b",
    "tyche": "#3b7ddd",
    "tyche-histogram": "#9a6be0",
    "censored": "#e0609a",
    "random": "#ab8762",
    "oracle": "#22a47a",
    "minute-oracle": "#77b843",
    "bound": "#5c6370",
}
_SPARE = ("#d2544b", "#2aa3b8", "#b3a125", "#7a5af0", "#c4588a", "#5a9440")

MEMORY_COLOURS = {"running": "#d2544b", "holding functions": "#3b7ddd", "idle, empty": "#efc04a", "free": "#d8dce3"}

STAGE_COLOURS = {
    "queue": "#c3c8d1",
    "scheduling": "#8e96a3",
    "warming": "#d2544b",
    "library": "#ec8a3c",
    "model": "#efc04a",
    "transfer": "#3fa9b5",
    "inference": "#6f86c9",
    "not served": "#3a3f47",
}


def colours(policies: Sequence[str]) -> dict[str, str]:
    """One colour a policy: its own, or the next spare one."""
    spare = iter(_SPARE * (1 + len(policies) // len(_SPARE)))
    return {policy: _COLOURS.get(policy) or next(spare) for policy in policies}


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of figure, with a panel for each mode and pre-warming policy, or for each policy.

    Attributes:
        name: of its files.
        title: what it shows.
        note: how to read it.
        draw: draws one panel, given its key.
        rows: bars or lines of a panel; decides its height.
        panels: title and key of each panel.
    """

    name: str
    title: str
    note: str
    draw: Callable[[Axes, Any], None]
    rows: int
    panels: Panels

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a panel in inches."""
        return (5.2, 0.95 + 0.36 * self.rows) if self.rows else (5.2, 3.3)


def figures(summary: Entry, rows: Sequence[Entry], timelines: Mapping[str, Timeline]) -> list[Figure]:
    """The figures that a run has data for.

    Args:
        summary: what the rows come to (``statistics.conclusions``).
        rows: with what they keep.
        timelines: by policy.
    """
    aggregates: Sequence[Entry] = summary["aggregates"]
    policies = list(dict.fromkeys(entry["policy"] for entry in aggregates))
    colour = colours(policies)
    shown = [(label(condition), condition) for condition in conditions(aggregates)]
    drawn = [policy for policy in policies if policy != "bound"]
    found = [_headline(aggregates, policies, colour, shown), _cost(aggregates, drawn, colour, shown)]
    if any(entry["queue_ms_mean"] is not None for entry in aggregates):
        found.append(_breakdown(aggregates, drawn, shown))
    latency = {
        (policy, mode, prewarm): merged(own, "end_to_end")
        for (policy, prewarm, mode), own in by_condition(rows).items()
        if all("histograms" in row for row in own)
    }
    if any(bins.any() for bins in latency.values()):
        found.append(_distribution(latency, drawn, colour, shown))
    if any(row.get("by_rate") for row in rows):
        found.append(_hits_by_rate(rows, drawn, colour, shown))
    if timelines:
        found.append(_memory(timelines))
    return found


def panels(figure: Figure) -> list[tuple[str, str]]:
    """Title and inline SVG of each panel."""
    from matplotlib.figure import Figure as Canvas

    result = []
    for title, key in figure.panels:
        with _style():
            canvas = Canvas(figsize=figure.size, layout="constrained")
            figure.draw(canvas.subplots(), key)
            result.append((title, _inline(canvas, f"{figure.name} {title}")))
    return result


def save(figure: Figure, folder: Path) -> None:
    """All panels side by side, as SVG, PDF and PNG files on white."""
    from matplotlib.figure import Figure as Canvas

    across = min(2, len(figure.panels))
    down = -(-len(figure.panels) // across)
    width, height = figure.size
    folder.mkdir(parents=True, exist_ok=True)
    with _style():
        canvas = Canvas(figsize=(width * across, (height + 0.25) * down), layout="constrained", facecolor="white")
        axes = np.atleast_1d(canvas.subplots(down, across)).ravel()
        for axis, (title, key) in zip(axes, figure.panels, strict=False):
            figure.draw(axis, key)
            axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
        for axis in axes[len(figure.panels) :]:
            axis.set_axis_off()
        # Without dates the same results make the same files.
        canvas.savefig(folder / f"{figure.name}.svg", metadata={"Date": None})
        canvas.savefig(folder / f"{figure.name}.pdf", metadata={"CreationDate": None})
        canvas.savefig(folder / f"{figure.name}.png", dpi=160)


def label(condition: Condition) -> str:
    """A condition in words."""
    mode, prewarm = condition
    return f"{ {'openwhisk': 'OpenWhisk keep-alive', 'histogram': 'Histogram'}.get(prewarm, prewarm) }, {mode} mode"


def _headline(aggregates: Sequence[Entry], policies: Sequence[str], colour: Mapping[str, str], shown: Panels) -> Figure:
    values = [entry[HEADLINE] for entry in aggregates if entry[HEADLINE] is not None]
    right = 1.18 * max((value["high"] or value["mean"] for value in values), default=1.0) or 1.0

    def draw(axis: Axes, condition: Condition) -> None:
        rows = {entry["policy"]: entry for entry in aggregates if (entry["mode"], entry["prewarm"]) == condition}
        for place, policy in enumerate(policies):
            value = rows.get(policy, {}).get(HEADLINE)
            if value is None:
                continue
            bound = rows[policy]["bound"]
            face = "none" if bound else colour[policy]
            axis.barh(place, value["mean"], height=0.56, facecolor=face, edgecolor=colour[policy], linewidth=1)
            end = value["mean"]
            if value["low"] is not None:
                axis.plot([value["low"], value["high"]], [place, place], color=INK, linewidth=1.1)
                for edge in (value["low"], value["high"]):
                    axis.plot([edge, edge], [place - 0.1, place + 0.1], color=INK, linewidth=1.1)
                end = max(end, value["high"])
            axis.text(end + 0.015 * right, place, ms(value["mean"]), va="center", color=INK, fontsize=9)
        axis.set_yticks(range(len(policies)), policies)
        axis.invert_yaxis()
        axis.set_xlim(0, right)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set_xlabel("warming + loading, ms (mean over functions)")
        axis.grid(axis="x")

    return Figure(
        "warming-loading",
        "Time before inference",
        "Warming and loading of a request, averaged over functions; lines are 95 % intervals. Shorter is better.",
        draw,
        len(policies),
        shown,
    )


def _cost(aggregates: Sequence[Entry], policies: Sequence[str], colour: Mapping[str, str], shown: Panels) -> Figure:
    def draw(axis: Axes, condition: Condition) -> None:
        dots = [
            (entry["preload_gb_s"]["mean"], entry[HEADLINE]["mean"], entry["policy"])
            for entry in of_condition(aggregates, *condition)
            if entry["policy"] in policies and entry["preload_gb_s"] is not None and entry[HEADLINE] is not None
        ]
        draw_cost(axis, dots, colour, "warming + loading, ms")

    return Figure(
        "cost",
        "Waiting against what it costs",
        "Warming and loading, averaged over functions, against memory x time that functions held ahead of their "
        "requests. Lower and further left is better.",
        draw,
        0,
        shown,
    )


def draw_cost(axis: Axes, dots: Sequence[tuple[float, float, str]], colour: Mapping[str, str], of: str) -> None:
    """A dot a policy: memory held ahead of requests, GB s a window, and what is waited, in ms."""
    right = max((held for held, *_ in dots), default=0.0) or 1.0
    top = max((waited for _, waited, _ in dots), default=0.0) or 1.0
    for held, waited, policy in dots:
        axis.plot(held, waited, "o", color=colour[policy], markersize=7)
        left = held > 0.7 * right
        axis.annotate(
            policy,
            (held, waited),
            xytext=(-7 if left else 7, 3),
            textcoords="offset points",
            ha="right" if left else "left",
            color=colour[policy],
            fontsize=9,
            fontweight="bold",
        )
    axis.set_xlim(-0.04 * right, 1.08 * right)
    axis.set_ylim(0, 1.1 * top)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("memory held ahead of requests, GB s a window")
    axis.set_ylabel(of)
    axis.grid(axis="both")


def _breakdown(aggregates: Sequence[Entry], policies: Sequence[str], shown: Panels) -> Figure:
    def stages_of(entry: Entry) -> dict[str, float]:
        """Mean ms of each stage over all requests; what the unserved ones wait is a stage of its own."""
        found = {stage: entry[f"{stage}_ms_mean"]["mean"] for stage in STAGES if entry[f"{stage}_ms_mean"] is not None}
        if len(found) < len(STAGES):
            return {}
        return found | {"not served": max(0.0, entry["end_to_end_ms_mean"]["mean"] - sum(found.values()))}

    stages = {(each["policy"], each["mode"], each["prewarm"]): stages_of(each) for each in aggregates}
    right = 1.12 * max(sum(found.values()) for found in stages.values()) or 1.0

    def draw(axis: Axes, condition: Condition) -> None:
        for place, policy in enumerate(policies):
            left = 0.0
            for stage, mean_ms in stages.get((policy, *condition), {}).items():
                if mean_ms < 1e-6:
                    continue
                axis.barh(
                    place,
                    mean_ms,
                    left=left,
                    height=0.56,
                    color=STAGE_COLOURS[stage],
                    edgecolor=PAPER,
                    linewidth=0.8,
                )
                if mean_ms > 0.1 * right:
                    axis.text(left + mean_ms / 2, place, stage, ha="center", va="center", color="#16181d", fontsize=8)
                left += mean_ms
            axis.text(left + 0.015 * right, place, ms(left), va="center", color=INK, fontsize=9)
        axis.set_yticks(range(len(policies)), policies)
        axis.invert_yaxis()
        axis.set_xlim(0, right)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set_xlabel("ms (mean over requests)")
        axis.grid(axis="x")

    return Figure(
        "stages",
        "Where the time goes",
        "Stages of a request from arrival to result, averaged over all requests.",
        draw,
        len(policies),
        shown,
    )


def _distribution(
    latency: Mapping[tuple[str, str, str], NDArray[np.int64]],
    policies: Sequence[str],
    colour: Mapping[str, str],
    shown: Panels,
) -> Figure:
    edges_ms = bin_edges_us()[1:] / 1e3
    # Lines that coincide stay visible: the first is the widest.
    widths = np.linspace(3.2, 1.4, len(policies))
    used = np.flatnonzero(sum(latency.values()))
    left, right = max(0.1, edges_ms[max(0, used[0] - 1)]) * 0.8, max(0.1, edges_ms[used[-1]]) * 1.3

    def draw(axis: Axes, condition: Condition) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        ends = []
        for place, policy in enumerate(policies):
            counts = latency.get((policy, *condition))
            if counts is None or not counts.any():
                continue
            share = np.cumsum(counts) / counts.sum()
            # one point a step is enough, and one before the first
            steps = np.union1d(np.flatnonzero(counts), np.maximum(0, np.flatnonzero(counts)[:1] - 1))
            axis.plot(
                edges_ms[steps], share[steps], color=colour[policy], linewidth=widths[place], drawstyle="steps-post"
            )
            ends.append((float(edges_ms[np.searchsorted(share, 0.5)]), policy))
        label_lines(axis, [policy for _, policy in sorted(ends)], colour)
        axis.set_xscale("log")
        axis.set_xlim(left, right)
        axis.set_ylim(0, 1.02)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0", "25 %", "50 %", "75 %", "95 %"])
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if right < 300 * left else (1.0,)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.set_xlabel("end-to-end latency, ms")
        axis.grid(axis="both")

    return Figure(
        "latency",
        "Latency of requests",
        "Share of all requests that are answered within a time. Further left is better.",
        draw,
        0,
        shown,
    )


def _hits_by_rate(rows: Sequence[Entry], policies: Sequence[str], colour: Mapping[str, str], shown: Panels) -> Figure:
    sums: dict[tuple[str, ...], dict[int, NDArray[np.int64]]] = {}
    for row in rows:
        for place, requests, hits in row.get("by_rate") or ():
            of = sums.setdefault((row["policy"], row["mode"], row["prewarm"]), {})
            of[place] = of.get(place, np.zeros(2, dtype=np.int64)) + np.array([requests, hits])

    def draw(axis: Axes, condition: Condition) -> None:
        ends = []
        for policy in policies:
            of = sums.get((policy, *condition))
            if of is None:
                continue
            places = sorted(of)
            share = [of[place][1] / of[place][0] for place in places]
            per_hour = [60 * 10 ** ((place + 0.5) / RATE_BINS_PER_DECADE) for place in places]
            axis.plot(per_hour, share, color=colour[policy], linewidth=1.8, marker="o", markersize=3.5)
            ends.append((float(np.mean(share)), policy))
        label_lines(axis, [policy for _, policy in sorted(ends, reverse=True)], colour)
        axis.set_xscale("log")
        axis.set_ylim(-0.02, 1.02)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.set_xlabel("requests an hour of the function")
        axis.grid(axis="both")

    return Figure(
        "hits-by-rate",
        "Pre-loaded share by request rate",
        "Requests that found their function in memory or on the GPU, by how often their function is requested.",
        draw,
        0,
        shown,
    )


def _memory(timelines: Mapping[str, Timeline]) -> Figure:
    from agents.playing.timeline import KINDS

    def draw(axis: Axes, policy: str) -> None:
        seen = timelines[policy]
        # At most 300 points: a page of the report has no more pixels.
        every = max(1, len(seen.time_s) // 300)
        parts = len(seen.time_s) // every
        time_min = seen.time_s[: parts * every].reshape(parts, every)[:, -1] / 60
        series = seen.memory_gb[: parts * every].reshape(parts, every, -1).mean(axis=1)
        order = [KINDS.index(kind) for kind in MEMORY_COLOURS]
        axis.stackplot(time_min, series[:, order].T, colors=list(MEMORY_COLOURS.values()), linewidth=0)
        axis.set_xlim(time_min[0], time_min[-1])
        axis.set_ylim(0, float(seen.memory_gb[0].sum()))
        axis.set_xlabel("minutes of the first window")
        axis.set_ylabel("GB")

    return Figure(
        "memory",
        "Memory over time",
        "What the nodes' memory is used for in the first window. Pre-loading fills idle containers: yellow turns blue.",
        draw,
        0,
        [(policy, policy) for policy in timelines],
    )


def label_lines(axis: Axes, policies: Sequence[str], colour: Mapping[str, str]) -> None:
    """Names at the lower right, where a distribution function leaves room, in the order of the medians."""
    for place, policy in enumerate(reversed(policies)):
        axis.text(
            0.985,
            0.06 + 0.085 * place,
            policy,
            transform=axis.transAxes,
            ha="right",
            color=colour[policy],
            fontsize=9,
            fontweight="bold",
        )


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": GRID,
        "axes.labelcolor": SOFT,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "xtick.color": SOFT,
        "ytick.color": INK,
        "xtick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.major.size": 0,
        "svg.fonttype": "none",
        "svg.hashsalt": "tyche",
    }
    with mpl.rc_context(cast(Any, settings)):
        yield


def _inline(canvas: Any, name: str) -> str:
    """SVG as part of a page: no prolog, its width from the page, the page's colours and fonts."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # matplotlib numbers its groups alike in every figure, and ids must be unique in a page.
    svg = re.sub(
        r' id="(figure|axes|patch|line2d|text|matplotlib|xtick|ytick|PolyCollection|FillBetweenPolyCollection)[^"]*"',
        "",
        svg,
    )
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"font: (?:(bold|[0-9]+) )?([0-9.]+)px [^;\"]*", _plain_font, svg)


def _plain_font(found: re.Match[str]) -> str:
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"
