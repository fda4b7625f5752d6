"""Result tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Entry = Mapping[str, Any]

HEADLINE = "warming_loading_ms_function_mean"
"""The metric that policies are judged on first."""


def ms(value: float) -> str:
    """A time in ms with three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f} %"


def usd(value: float) -> str:
    """An amount of dollars."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"


COLUMNS = (
    (HEADLINE, "warming+loading\nms, per function", ms, True),
    ("warming_loading_ms_mean", "warming+loading\nms, per request", ms, True),
    ("end_to_end_ms_mean", "end to end\nms, mean", ms, False),
    ("end_to_end_ms_p99", "end to end\nms, p99", ms, False),
    ("preload_rate", "pre-loaded\nshare", percent, False),
    ("cold_rate", "cold\nshare", percent, False),
    ("cost_usd", "cost\nUSD", usd, False),
)
"""Metric, heading, format, and whether the interval is shown."""

_DROPPED_FIRST = (
    "cost_usd",
    "end_to_end_ms_p99",
    "cold_rate",
    "warming_loading_ms_mean",
    "end_to_end_ms_mean",
    "preload_rate",
)
"""Which columns a narrow terminal does without, in this order."""


def interval(entry: Entry | None, form: Any) -> str:
    """``mean [low, high]``, or a dash."""
    if entry is None:
        return "-"
    if entry["low"] is None:
        return str(form(entry["mean"]))
    return f"{form(entry['mean'])} [{form(entry['low'])}, {form(entry['high'])}]"


def conditions(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(mode, pre-warming policy) of the entries, in order."""
    return list(dict.fromkeys((entry["mode"], entry["prewarm"]) for entry in entries))


def show(console: Console, summary: Entry) -> None:
    """Print one table a mode and pre-warming policy, and what the intervals rest on."""
    dropped: tuple[str, ...] = ()
    for mode, prewarm in conditions(summary["aggregates"]):
        for count in range(len(_DROPPED_FIRST) + 1):
            dropped = max(dropped, _DROPPED_FIRST[:count], key=len)
            table = _condition_table(summary, mode, prewarm, dropped)
            if console.measure(table, options=console.options.update(max_width=1000)).maximum <= console.width:
                break
        console.print(table)
        console.print()
    note = f"{evidence(summary)} * differs from {summary['first']}."
    if dropped:
        note += f" Not shown for want of width: {', '.join(dropped)}."
    console.print(note, style="dim", highlight=False)


def evidence(summary: Entry) -> str:
    """What the intervals rest on, in words."""
    entry = max(summary["aggregates"], key=lambda each: each["windows"])
    text = f"Means over {entry['windows']} windows of {entry['groups']} function groups"
    if entry["seeds"] > 1:
        text += f", {entry['seeds']} seeds averaged"
    if entry["resampled"] == "none":
        return f"{text}; too few windows for an interval."
    text += f"; 95 % bootstrap intervals, resampled by {entry['resampled']}"
    if entry["resampled"] == "window":
        text += " (few groups: they hold for these functions only)"
    return f"{text}."


def against(summary: Entry, policy: str, prewarm: str, mode: str, metric: str = HEADLINE) -> Entry | None:
    """The comparison of a policy with the first one."""
    for entry in summary["comparisons"]:
        if (entry["policy"], entry["prewarm"], entry["mode"], entry["metric"]) == (policy, prewarm, mode, metric):
            found: Entry = entry
            return found
    return None


def _condition_table(summary: Entry, mode: str, prewarm: str, dropped: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    entries = [entry for entry in summary["aggregates"] if (entry["mode"], entry["prewarm"]) == (mode, prewarm)]
    shared = any(entry["policy"] == "oracle" for entry in entries) and len(entries) > 2
    table = Table(title=f"{prewarm} pre-warming, {mode} mode", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("policy", no_wrap=True, vertical="bottom")
    columns = [column for column in COLUMNS if column[0] not in dropped]
    for _, heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(f"per function,\nagainst {summary['first']}", justify="right", no_wrap=True)
    if shared:
        table.add_column("of the gap\nto the oracle", justify="right", no_wrap=True)
    for entry in entries:
        cells = []
        for metric, _, form, with_interval in columns:
            value = entry[metric]
            cells.append("-" if value is None else interval(value, form) if with_interval else form(value["mean"]))
        difference = against(summary, entry["policy"], prewarm, mode)
        cells.append(relative(difference))
        if shared:
            share = None if difference is None else difference["gap_share"]
            cells.append("" if share is None else f"{100 * share['mean']:z.0f} %")
        name = f"{entry['policy']} (lower limit)" if entry["bound"] else entry["policy"]
        table.add_row(name, *cells, style="dim" if entry["bound"] else None)
    return table


def relative(comparison: Entry | None) -> str:
    """The difference in percent of the first policy's mean, marked where its interval is clear of 0."""
    if comparison is None or comparison["relative"] is None:
        return ""
    return f"{100 * comparison['relative']:+z.0f} %{'*' if comparison['clear_of_zero'] else ' '}"
