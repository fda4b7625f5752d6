"""``tyche compare``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agents.cli.terminal import console


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two run folders: paired differences SECOND - FIRST on the windows and seeds that both have.

    Policies of the same name are paired; where each folder has only one policy, those two are.

    \b
    Example:
      tyche compare runs/before runs/after
    """  # noqa: D301 (click wants the character)
    from agents.evidence.comparison import compare_runs
    from agents.evidence.run_folder import RunFolder

    entries = compare_runs(RunFolder.read(first), RunFolder.read(second))
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    from rich import box
    from rich.table import Table

    from agents.evidence.tables import interval, ms, points, relative

    table = Table(box=box.SIMPLE)
    for heading in ("policy", "pre-warming", "mode", "metric", "difference", "relative", "windows"):
        table.add_column(heading, justify="left" if heading in ("policy", "pre-warming", "mode", "metric") else "right")
    for entry in entries:
        share = entry["metric"].endswith("rate")
        difference = interval(entry["difference"], points if share else ms)
        table.add_row(
            entry["policy"],
            entry["prewarm"],
            entry["mode"],
            entry["metric"],
            f"{difference} points" if share else difference,
            relative(entry),
            str(entry["windows"]),
        )
    terminal = console()
    terminal.print(table)
    terminal.print("* the 95 % interval of the paired difference is clear of 0", style="dim")
