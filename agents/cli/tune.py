"""``tyche tune``: search for a recipe's hyperparameters.

Needs the extra ``train``.  The same command goes on where it was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import recipe_on_trace, trace_options

if TYPE_CHECKING:
    from traces.options import Reading


@click.command()
@click.argument("recipe")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Trainings to compare.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds of a trial.")
@click.option("--seconds", type=click.FloatRange(min=0), help="Begin no trial after so many.")
@trace_options
@click.option("--out", type=click.Path(path_type=Path), help="Where all goes.  [default: runs/tuned-RECIPE]")
def tune(
    recipe: str, trials: int, seeds: int, seconds: float | None, trace: Path | None, reading: Reading, out: Path | None
) -> None:
    """Search for good hyperparameters: RECIPE, a shipped name or a YAML file, names ranges under `tune`.

    The first trial is the recipe as it is; validation windows judge.  The same command goes on where it was
    interrupted, and OUT/recipe.yaml is the best recipe so far (docs/learning.md).

    \b
    Examples:
      tyche tune hazard --trials 20
      tyche tune mine.yaml --trace my.parquet --seconds 3600 --out runs/tuned-mine
    """  # noqa: D301 (click wants the character)
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from agents.training.recipes import load_recipe
    from agents.training.trials import best_of, ending, shown
    from agents.training.tuning import RECIPE, search

    found = recipe_on_trace(load_recipe(recipe), trace, reading)
    folder = out or Path("runs") / f"tuned-{Path(recipe).stem}"
    finished = search(found, trials, folder, seeds, seconds)
    best = best_of(finished)
    table = Table(box=box.SIMPLE)
    for heading in ("trial", *found.tune, "cost on validation windows"):
        table.add_column(heading, justify="right")
    for trial in finished:
        values = (shown(trial.values[name]) for name in found.tune)
        cost = f"{trial.cost:.4f}"
        table.add_row(str(trial.number), *values, cost, style="bold" if trial is best else None)
    Console().print(table)
    click.echo(f"{folder / RECIPE}: {ending(finished)}")
