"""Train an agent by a recipe: ``python -m agents.train hazard --seeds 3 --out runs/hazard``, or ``tyche train``.

Each training seed leaves a model bundle in ``OUT/seed-N`` and curves for TensorBoard in ``OUT/curves``; the best of
them on validation windows is copied to ``OUT/best``.  The same command goes on where it was interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.options import spread_options
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from agents.fan_out import FanOut


@click.command()
@click.argument("recipe")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds, from 0.")
@click.option("--trace", type=click.Path(path_type=Path), help="A trace file of any known form instead.")
@click.option("--out", type=click.Path(path_type=Path), help="Where bundles and curves go.  [default: runs/RECIPE]")
@spread_options
def train(recipe: str, seeds: int, trace: Path | None, out: Path | None, jobs: int | None, engine: FanOut) -> None:
    """Train by RECIPE: a shipped name or a YAML file (docs/learning.md).

    Candidates and trials are evaluated several at a time; the agent is the same for any --jobs and --engine.

    \b
    Examples:
      tyche train hazard --seeds 3
      tyche train ppo --trace my.parquet --out runs/mine
      tyche train search-costly --jobs 2
      tyche train search-costly --engine ray
    """  # noqa: D301 (click wants the character)
    from agents.fan_out import Spread
    from agents.learned.recipe import load_recipe
    from agents.learned.runs import train_seeds

    found = load_recipe(recipe)
    if trace is not None:
        found = found.model_copy(update={"trace": str(trace.resolve())})
    train_seeds(found, range(seeds), out or Path("runs") / Path(recipe).stem, Spread(jobs, engine))


if __name__ == "__main__":
    try:
        train()
    except UserError as error:
        sys.exit(f"error: {error}")
