"""Result tables on the terminal, and what tables everywhere are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.evidence.intervals import FEWEST_GROUPS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Entry = Mapping[str, Any]

HEADLINE = "warming_loading_ms_function_mean"
"""The metric that policies are judged on first."""

PER_REQUEST = "warming_loading_ms_mean"
"""The metric that they are judged on as well."""

MUCH_UNSERVED = 0.01
"""Share of requests that were not served above which the last line says so."""


def ms(value: float) -> str:
    """A time in ms with three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of two shares in percentage points, which are not per cent of either; the unit stands beside it."""
    return f"{100 * value:.1f}"


def usd(value: float) -> str:
    """An amount of dollars."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"


def amount(value: float) -> str:
    """GB s or seconds, as times are written."""
    return ms(value)


class Column(NamedTuple):
    """A column of a table of results.

    Attributes:
        metric: what is shown.
        heading: its name and unit, in two lines.
        form: a value as text.
        with_interval: whether its interval is shown.
    """

    metric: str
    heading: str
    form: Callable[[float], str]
    with_interval: bool = False


COLUMNS = (
    Column(HEADLINE, "warming+loading\nms, per function", ms, True),
    Column(PER_REQUEST, "warming+loading\nms, per request", ms, True),
    Column("preload_gb_s", "held\nGB s a window", amount),
    Column("load_s", "loading ahead\ns a window", amount),
    Column("end_to_end_ms_mean", "end to end\nms, mean", ms),
    Column("end_to_end_ms_p99", "end to end\nms, p99", ms),
    Column("preload_rate", "pre-loaded\nshare", percent),
    Column("cold_rate", "cold\nshare", percent),
    Column("cost_usd", "cost\nUSD a window", usd),
)
"""What is always shown."""

_WHERE_IT_MATTERS = (
    Column("unserved_rate", "not served\nshare", percent),
    Column("warming_loading_ms_served_mean", "warming+loading\nms, of those served", ms),
    Column("slo_rate", "within\nobjective", percent),
)
"""What is shown where a request was not served, and where a function has an objective."""

_DROPPED_FIRST = (
    "cost_usd",
    "end_to_end_ms_p99",
    "cold_rate",
    "end_to_end_ms_mean",
    "preload_rate",
    "load_s",
    PER_REQUEST,
    "preload_gb_s",
)
"""Which columns a narrow terminal does without, in this order."""


def columns_of(entries: Sequence[Entry]) -> list[Column]:
    """The columns that a table of some conditions has."""
    unserved = any(entry["unserved_rate"] is not None and entry["unserved_rate"]["mean"] > 0 for entry in entries)
    objective = any(entry["slo_rate"] is not None for entry in entries)
    wanted = (unserved, unserved, objective)
    return [*COLUMNS, *(column for column, shown in zip(_WHERE_IT_MATTERS, wanted, strict=True) if shown)]


def decides(entry: Entry) -> str:
    """When a policy decides, in words; a dash for what decides nothing."""
    decision = entry["decision"]
    return "-" if decision is None else "at events" if decision == "event" else f"every {decision:g} s"


def decisions_differ(entries: Sequence[Entry]) -> bool:
    """Whether some policies were asked at other times than others, so that a column must say when."""
    return len({decides(entry) for entry in entries if not entry["bound"]}) > 1


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


def of_condition(entries: Sequence[Entry], mode: str, prewarm: str) -> list[Entry]:
    """The entries of one mode and pre-warming policy."""
    return [entry for entry in entries if (entry["mode"], entry["prewarm"]) == (mode, prewarm)]


def show(console: Console, summary: Entry) -> None:
    """Print one table a mode and pre-warming policy, and what the numbers rest on."""
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
    """What the numbers rest on, in words."""
    entry = max(summary["aggregates"], key=lambda each: each["windows"])
    return rests_on(entry["windows"], entry["groups"], entry["seeds"])


def rests_on(windows: int, groups: int, seeds: int = 1) -> str:
    """What pooled numbers of so many windows rest on, in words."""
    text = f"Pooled over {counted(windows, 'window')} of {counted(groups, 'group')} of functions"
    if seeds > 1:
        text += f" and {counted(seeds, 'seed')}"
    if groups < FEWEST_GROUPS:
        return f"{text}; no intervals and no stars with fewer than {FEWEST_GROUPS} groups."
    return f"{text}; brackets: 95 % intervals, by group."


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}{'s' if number != 1 else ''}"


def unserved(summary: Entry) -> str:
    """Which policies left more than one in a hundred requests unserved, in words; empty if none did."""
    parts = []
    for entry in summary["aggregates"]:
        rate = entry["unserved_rate"]
        if rate is None or rate["mean"] <= MUCH_UNSERVED:
            continue
        kinds = [
            f"{percent(entry[f'{kind}_rate']['mean'])} {kind.replace('_', ' ')}"
            for kind in ("timed_out", "rejected", "failed")
            if entry[f"{kind}_rate"]["mean"] > 0
        ]
        parts.append(f"{entry['policy']} ({entry['prewarm']}, {entry['mode']}): {', '.join(kinds)}")
    return f"Requests that were not served: {'; '.join(parts)}." if parts else ""


def failing_loads(rows: Sequence[Entry]) -> str:
    """Which functions failed to load ahead of requests on real containers, in words; empty if none did."""
    counts: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        for name, (count, reason) in row.get("health", {}).get("failing_loads", {}).items():
            counts[name] = counts.get(name, 0) + count
            reasons[name] = reason
    parts = [f"{name} {counted(counts[name], 'time')} ({reasons[name]})" for name in sorted(counts)]
    return f"Loads that failed: {'; '.join(parts)}." if parts else ""


def lost_containers(rows: Sequence[Entry]) -> str:
    """How many containers each policy lost on real ones, in words; empty if none did."""
    counts: dict[str, int] = {}
    for row in rows:
        lost = row.get("health", {}).get("lost_containers", 0)
        if lost:
            condition = f"{row['policy']} ({row['prewarm']}, {row['mode']})"
            counts[condition] = counts.get(condition, 0) + lost
    if not counts:
        return ""
    return (
        f"Containers that were lost: {', '.join(f'{condition} {count}' for condition, count in counts.items())}. What "
        "they held was lost with them: has the platform memory for all containers, and was nobody else on it?"
    )


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

    entries = of_condition(summary["aggregates"], mode, prewarm)
    shared = any(entry["policy"] == "oracle" for entry in entries) and len(entries) > 2
    asked = decisions_differ(entries)
    table = Table(title=f"{prewarm} pre-warming, {mode} mode", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("policy", no_wrap=True, vertical="bottom")
    if asked:
        table.add_column("decides", no_wrap=True, vertical="bottom")
    columns = [column for column in columns_of(entries) if column.metric not in dropped]
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column(f"per function,\nagainst {summary['first']}", justify="right", no_wrap=True)
    if shared:
        table.add_column("of the gap\nto the oracle", justify="right", no_wrap=True)
    for entry in entries:
        cells = [decides(entry)] if asked else []
        for column in columns:
            value = entry[column.metric]
            if column.with_interval:
                cells.append(interval(value, column.form))
            else:
                cells.append("-" if value is None else column.form(value["mean"]))
        compared = against(summary, entry["policy"], prewarm, mode)
        cells.append(relative(compared))
        if shared:
            share = None if compared is None else compared["gap_share"]
            cells.append("" if share is None else f"{100 * share['mean']:z.0f} %")
        name = f"{entry['policy']} (lower limit)" if entry["bound"] else entry["policy"]
        table.add_row(name, *cells, style="dim" if entry["bound"] else None)
    return table


def relative(comparison: Entry | None) -> str:
    """The difference in percent of the first policy's mean, marked where its interval is clear of 0."""
    if comparison is None or comparison["relative"] is None:
        return ""
    return f"{100 * comparison['relative']:+z.0f} %{'*' if comparison['clear_of_zero'] else ' '}"
