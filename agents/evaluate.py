"""Measure trained agents on test windows: ``python -m agents.evaluate runs/hazard --out runs/table``.

An agent is a folder that ``agents.train`` made: all its training seeds count as one agent.
"""

from __future__ import annotations

from pathlib import Path

import click

from tyche_env.errors import UserError


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--scenario", "scenarios", multiple=True, default=("train-10", "train-25", "train-50"), show_default=True)
@click.option("--expansions", type=click.IntRange(min=1), default=2, show_default=True, help="Of each window's counts.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where table.md and table.json go.")
@click.option("--against", metavar="AGENT", help="Compare with this agent instead of the best heuristic.")
def evaluate(
    folders: tuple[Path, ...], scenarios: tuple[str, ...], expansions: int, out: Path, against: str | None
) -> None:
    """Compare the agents in FOLDERS with every heuristic on all test windows."""
    from agents.learned.runs import compare

    try:
        standings = compare(folders, scenarios, expansions, out, against)
    except UserError as error:
        raise click.UsageError(str(error)) from None
    click.echo((out / "table.md").read_text(encoding="utf-8"))
    click.echo(f"{len(standings)} rows in {out / 'table.json'}")


if __name__ == "__main__":
    evaluate()
