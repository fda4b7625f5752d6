"""Train an agent by a recipe: ``python -m agents.train hazard --seeds 3 --out runs/hazard``, or ``tyche train``.

Each training seed leaves a model bundle in ``OUT/seed-N`` and curves for TensorBoard in ``OUT/curves``; the best of
them on validation windows is copied to ``OUT/best``.  The same command goes on where it was interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tyche_env.errors import UserError


@click.command()
@click.argument("recipe")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds, from 0.")
@click.option("--trace", type=click.Path(path_type=Path), help="A trace file of any known form instead.")
@click.option("--out", type=click.Path(path_type=Path), help="Where bundles and curves go.  [default: runs/RECIPE]")
def train(recipe: str, seeds: int, trace: Path | None, out: Path | None) -> None:
    """Train by RECIPE: a shipped name or a YAML file (docs/learning.md).

    \b
    Examples:
      tyche train hazard --seeds 3
      tyche train ppo --trace my.parquet --out runs/mine
    """  # noqa: D301 (click wants the character)
    from agents.learned.recipe import load_recipe
    from agents.learned.runs import train_seeds

    found = load_recipe(recipe)
    if trace is not None:
        found = found.model_copy(update={"trace": str(trace.resolve())})
    train_seeds(found, range(seeds), out or Path("runs") / Path(recipe).stem)


if __name__ == "__main__":
    try:
        train()
    except UserError as error:
        sys.exit(f"error: {error}")
