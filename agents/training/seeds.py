"""Training by a recipe with several seeds: folders out, taken up where they were left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agents.playing.progress import bar
from agents.playing.runs import Crew
from agents.playing.spread import ALONE, Spread, crew
from agents.policies.bundle import CARD, WEIGHTS, Bundle, PolicyBundle, load_bundle, save_bundle
from agents.policies.recipe import AlgorithmRecipe, HazardRecipe, Recipe, SearchRecipe, recipe_hash
from traces.output import holds
from tyche_env.errors import UserError
from tyche_env.scenario import sealed_test_windows

CHECKPOINT = "checkpoint.pt"


@holds("out")
def train_seeds(recipe: Recipe, seeds: range, out: Path, spread: Spread = ALONE) -> list[Path]:
    """Train the seeds that are missing; returns the folders of all bundles.

    A seed that was interrupted goes on from its checkpoint.  ``OUT/best`` becomes a copy of the seed that did best on
    the validation windows.  Test windows cannot be read in here, nor in the processes that evaluations are spread over.

    Args:
        recipe: what is trained.
        seeds: training seeds.
        out: where bundles and curves go.
        spread: where candidates and trials are evaluated; what is trained is the same everywhere.

    Raises:
        UserError: a folder holds a bundle of another recipe.
    """
    from torch.utils.tensorboard import SummaryWriter

    folders = []
    for seed in seeds:
        folder = out / f"seed-{seed}"
        folders.append(folder)
        if (folder / CARD).is_file():
            if recipe_hash(load_bundle(folder).recipe) != recipe_hash(recipe):
                raise UserError(f"--out: {folder} holds an agent of another recipe; name another folder")
            continue
        log: Any = SummaryWriter(str(out / "curves" / f"seed-{seed}"))
        checkpoint = folder / f"{recipe_hash(recipe)}-{CHECKPOINT}"
        with bar() as show, sealed_test_windows(), crew(spread) as workers:
            name = f"{recipe.kind}, seed {seed}"
            bundle = _train(recipe, seed, log, lambda share, name=name: show(name, share, 1), checkpoint, workers)  # type: ignore[misc]
        log.close()
        save_bundle(bundle, folder)
        checkpoint.unlink(missing_ok=True)
        click.echo(f"{folder}: {_described(bundle)}")
    best = min(folders, key=lambda folder: validation_cost(load_bundle(folder)))
    (out / "best").mkdir(exist_ok=True)
    for file in (WEIGHTS, CARD):
        shutil.copyfile(best / file, out / "best" / file)
    click.echo(f"{out / 'best'}: {best.name}, the best on validation windows")
    return folders


def _train(
    recipe: Recipe, seed: int, log: Any, progress: Callable[[float], None], checkpoint: Path, workers: Crew
) -> Bundle | PolicyBundle:
    if isinstance(recipe, HazardRecipe):
        from agents.training.hazard import train_hazard

        return train_hazard(recipe, seed, log, progress, workers)
    if isinstance(recipe, SearchRecipe):
        from agents.training.search import train_search

        return train_search(recipe, seed, log, progress, checkpoint, workers)
    if isinstance(recipe, AlgorithmRecipe):
        from agents.training.algorithms import train_algorithm

        return train_algorithm(recipe, seed, log, progress, checkpoint, workers)
    from agents.training.priced import train_priced

    return train_priced(recipe, seed, log, progress, checkpoint, workers)


def validation_cost(bundle: Bundle | PolicyBundle) -> float:
    """What is least for the best seed: cost on validation windows relative to Tyche's, else minus the reward there."""
    manifest = bundle.manifest
    cost = manifest.get("validation_cost_of_tyche")
    return float(-manifest["validation_reward"] if cost is None else cost)


def _described(bundle: Bundle | PolicyBundle) -> str:
    manifest = bundle.manifest
    if isinstance(bundle, PolicyBundle):
        reward = manifest["validation_reward"]
        return f"{manifest['chosen']}, validation reward {reward:.1f}, {manifest['cpu_s']:.0f} CPU s"
    return (
        f"{manifest['chosen']}, {dict(bundle.settings)}, {manifest['validation_cost_of_tyche']:.3f} of Tyche's cost on "
        f"validation windows, {manifest['cpu_s']:.0f} CPU s"
    )
