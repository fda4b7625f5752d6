"""Experiments on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agents.tables import ms, percent

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]


def show_experiment(console: Console, summary: Row) -> None:
    """Print a summary of ``agents.experiments.reproduce``: its rows, then the checks that fail and how many hold."""
    from rich import box
    from rich.table import Table

    rows = summary["rows"]
    # An axis with one value says nothing.
    shown = [axis for axis in summary["axes"] if len({row.get(axis) for row in rows}) > 1]
    table = Table(box=box.SIMPLE, title=summary["title"], title_justify="left")
    for axis in shown:
        table.add_column(axis)
    columns = _columns(rows, summary["axes"])
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(str(row.get(axis, "")) for axis in shown), *(form(row) for _, form in columns))
    console.print(table)
    failed = [each for each in summary["checks"] if not each["holds"]]
    for each in failed:
        cause = f" Cause: {each['cause']}." if each["cause"] else ""
        console.print(f"outside: {each['check']}: {each['detail']}.{cause}", soft_wrap=True, highlight=False)
    console.print(f"{len(summary['checks']) - len(failed)} of {len(summary['checks'])} checks hold\n", style="dim")


def _columns(rows: list[Row], axes: list[str]) -> list[tuple[str, Any]]:
    columns: list[tuple[str, Any]] = []
    if "warming_loading_ms_mean" in rows[0]:
        columns += [("warming+loading ms", _loading), ("pre-loaded", _rate), ("against none", _gap)]
        if any(row.get("paper_warming_loading_ms") is not None for row in rows):
            columns += [("paper: ms", _paper_ms), ("paper: pre-loaded", _paper_rate)]
        return columns
    keys = [key for key in rows[0] if key not in ("experiment", *axes)]
    return [(key, partial(_value, key)) for key in keys]


def _value(key: str, row: Row) -> str:
    return _plain(row.get(key))


def _loading(row: Row) -> str:
    if row.get("warming_loading_ms_mean") is None:
        return _plain(row.get("bound_ms_mean"))
    return f"{ms(row['warming_loading_ms_mean'])}{_span(row['ci95'])}"


def _rate(row: Row) -> str:
    return "-" if row.get("preload_rate") is None else percent(row["preload_rate"])


def _gap(row: Row) -> str:
    return "-" if row.get("difference_ms") is None else f"{ms(row['difference_ms'])}{_span(row['difference_ci95'])}"


def _paper_ms(row: Row) -> str:
    return _plain(row.get("paper_warming_loading_ms"))


def _paper_rate(row: Row) -> str:
    return "-" if row.get("paper_preload_rate") is None else percent(row["paper_preload_rate"])


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f" [{ms(interval[0])}, {ms(interval[1])}]"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
