"""The fidelity study as tables: on the terminal, and in one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.evidence.tables import MUCH_UNSERVED, ms, percent
from traces.output import holds

if TYPE_CHECKING:
    from rich.console import Console

Entry = Mapping[str, Any]

FIGURES = ("mean", "p50", "p95")
_NAMES = {
    "warming_loading": "warming + loading",
    "end_to_end": "end to end",
    "served_warming_loading": "warming + loading, served",
    "served_end_to_end": "end to end, served",
}
_DASH = "\N{EN DASH}"


def time_rows(condition: Entry) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """For each time its name, and for mean, median and 95th percentile: real ms, simulated ms, error in per cent."""
    for name, entry in condition["times"].items():
        cells = []
        for key in FIGURES:
            error = entry["error"][key]
            cells.append(
                (ms(entry["real"][key]), ms(entry["simulated"][key]), _DASH if error is None else _signed(error))
            )
        yield _NAMES.get(name, name), cells


def share_rows(condition: Entry) -> Iterator[tuple[str, str, str, str]]:
    """For each start type: name, real and simulated share, difference in points."""
    for name, entry in condition["start_types"].items():
        difference = 100 * (entry["simulated"] - entry["real"])
        yield name, f"{100 * entry['real']:.1f} %", f"{100 * entry['simulated']:.1f} %", f"{difference:+.1f}"


def verdict(found: Entry, condition: Entry) -> str:
    """Which errors are small, in words."""
    limits = found["tolerances"]
    loading, small = condition["times"]["warming_loading"], condition["small"]
    shares = max(abs(each["simulated"] - each["real"]) for each in condition["start_types"].values())
    return (
        f"warming + loading: mean {_signed(loading['error']['mean'])}{_mark(small['warming_loading_mean'])} "
        f"(allowed {100 * limits['mean']:.0f} %), p95 {_signed(loading['error']['p95'])}"
        f"{_mark(small['warming_loading_p95'])} (allowed {100 * limits['p95']:.0f} %); start types: up to "
        f"{100 * shares:.1f} points{_mark(small['start_types'])} (allowed {100 * limits['share']:.0f}); "
        "or within the spread of the repetitions"
    )


def much_unserved(found: Mapping[str, Any]) -> str:
    """Which conditions left more scored requests unserved than can be passed over, in words; empty if none did."""
    parts = []
    for each in found["conditions"]:
        share = each["unserved"] / max(1, each["requests"])
        if share > MUCH_UNSERVED:
            parts.append(f"{each['policy']} ({each['prewarm']}, {each['mode']}): {percent(share)}")
    return f"Requests that were not served: {'; '.join(parts)}." if parts else ""


def show(console: Console, found: Entry) -> None:
    """Print the tables of a study."""
    from rich import box
    from rich.table import Table

    for condition in found["conditions"]:
        title = f"{_title(condition)}: {condition['requests']} real requests in {found['repetitions']} repetitions"
        if condition["unserved"]:
            title += f", {condition['unserved']} of them not served"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
        table.add_column("ms")
        for key in FIGURES:
            for side in ("real", "sim", "error"):
                table.add_column(f"{key}\n{side}", justify="right", no_wrap=True)
        for name, cells in time_rows(condition):
            table.add_row(name, *(text for cell in cells for text in cell))
        console.print(table)
        shares = Table("start type", "real", "simulated", "points", box=box.SIMPLE)
        for row in share_rows(condition):
            shares.add_row(*row)
        console.print(shares)
        console.print(verdict(found, condition), highlight=False)
        console.print()


@holds("out")
def write(found: Entry, out: Path) -> Path:
    """Write report.html of a study.

    Returns:
        Its path.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    templates = files("agents.evidence") / "templates"
    template = environment.from_string((templates / "fidelity.html").read_text(encoding="utf-8"))
    page = template.render(
        found=found,
        figures=FIGURES,
        conditions=[
            {
                "title": _title(condition),
                "requests": condition["requests"],
                "unserved": condition["unserved"],
                "statuses": condition["statuses"],
                "times": list(time_rows(condition)),
                "shares": list(share_rows(condition)),
                "verdict": verdict(found, condition),
            }
            for condition in found["conditions"]
        ],
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _title(condition: Entry) -> str:
    return f"{condition['policy']}, {condition['prewarm']} pre-warming, {condition['mode']} mode"


def _signed(error: float) -> str:
    return f"{100 * error:+.1f} %"


def _mark(small: bool) -> str:
    return "" if small else " (!)"
