"""Train an agent by a recipe: ``python -m agents.train hazard --seeds 3 --out runs/hazard``.

Each training seed leaves a model bundle in ``OUT/seed-N`` and curves for TensorBoard in ``OUT/curves``; the same
command goes on with the seeds that are missing.
"""

from __future__ import annotations

from pathlib import Path

import click

from agents.learned.recipe import load_recipe
from tyche_env.errors import UserError


@click.command()
@click.argument("recipe")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds, from 0.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where bundles and curves go.")
def train(recipe: str, seeds: int, out: Path) -> None:
    """Train by RECIPE: a shipped name (hazard, priced-ppo, priced-ppo-costly) or a YAML file."""
    try:
        from agents.learned.runs import train_seeds

        train_seeds(load_recipe(recipe), range(seeds), out)
    except UserError as error:
        raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    train()
