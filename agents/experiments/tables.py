"""Experiments on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.policies.loading import BOUND

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]


def grid(summary: Row) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a summary: the axes that vary, then the experiment's columns.

    Not of the bound, which is loose: it is there for the checks.
    """
    rows = [row for row in summary["rows"] if row.get("policy") != BOUND]
    axes = [axis for axis in summary["axes"] if len({row.get(axis) for row in rows}) > 1]
    headings = [*axes, *(heading for heading, _ in summary["columns"])]
    cells = [
        [*(str(row.get(axis, "")) for axis in axes), *(_cell(_value(row, key), key) for _, key in summary["columns"])]
        for row in rows
    ]
    return headings, cells


def show_experiment(console: Console, summary: Row) -> None:
    """Print a summary of ``agents.experiments.reproduce``: its rows, then the checks that fail and how many hold."""
    from rich import box
    from rich.table import Table

    headings, cells = grid(summary)
    axes = len(headings) - len(summary["columns"])
    table = Table(box=box.SIMPLE, title=f"{summary['experiment']}: {summary['title']}", title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < axes else "right")
    for row in cells:
        table.add_row(*row)
    console.print(table)
    failed = [each for each in summary["checks"] if not each["holds"]]
    for each in failed:
        console.print(f"outside: {_sentence(each)}", soft_wrap=True, highlight=False)
    if summary["checks"]:
        console.print(f"{len(summary['checks']) - len(failed)} of {len(summary['checks'])} checks hold\n", style="dim")


def markdown(summary: Row) -> str:
    """The same as Markdown, for the documentation."""
    headings, cells = grid(summary)
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    failed = [each for each in summary["checks"] if not each["holds"]]
    if summary["checks"]:
        lines += [
            "",
            f"{len(summary['checks']) - len(failed)} of {len(summary['checks'])} checks hold. Outside:"
            if failed
            else f"All {len(summary['checks'])} checks hold.",
        ]
        lines += [f"- {_sentence(each)}" for each in failed]
    return "\n".join(lines) + "\n"


def _sentence(found: Row) -> str:
    cause = f" Cause: {found['cause']}." if found["cause"] else ""
    return f"{found['check']}: {found['detail']}.{cause}"


def _value(row: Row, key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = None if value is None else value.get(part)
    return value


def _cell(value: Any, key: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return f"{_cell(value[0], key)} to {_cell(value[1], key)}"
    if key.endswith("_rate"):
        return f"{100 * value:.0f} %"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
