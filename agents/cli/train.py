"""``tyche train``: train an agent by a recipe.

Each training seed leaves a model bundle in ``OUT/seed-N`` and curves for TensorBoard in ``OUT/curves``; the best of
them on validation windows is copied to ``OUT/best``.  The same command goes on where it was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import recipe_on_trace, spread_options, trace_options
from tyche_env.options import renamed

if TYPE_CHECKING:
    from agents.playing.spread import On
    from traces.options import Reading


@click.command()
@click.argument("recipe")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds, from 0.")
@trace_options
@click.option("--out", type=click.Path(path_type=Path), help="Where bundles and curves go.  [default: runs/RECIPE]")
@spread_options
@renamed("--engine", "--on")
def train(
    recipe: str, seeds: int, trace: Path | None, reading: Reading, out: Path | None, jobs: int | None, on: On
) -> None:
    """Train by RECIPE: a shipped name or a YAML file (docs/learning.md).

    Candidates and trials are evaluated several at a time; the agent is the same for any --jobs and --on.

    \b
    Examples:
      tyche train hazard --seeds 3
      tyche train ppo --trace my.parquet --out runs/mine
      tyche train search-costly --jobs 2
      tyche train search-costly --on ray
    """  # noqa: D301 (click wants the character)
    from agents.playing.spread import Spread
    from agents.training.recipes import load_recipe
    from agents.training.seeds import train_seeds

    found = recipe_on_trace(load_recipe(recipe), trace, reading)
    train_seeds(found, range(seeds), out or Path("runs") / Path(recipe).stem, Spread(jobs, on))
