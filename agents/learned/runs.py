"""Training by a recipe with several seeds, and measuring what came out: folders in, folders out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agents.learned.bundle import CARD, Bundle, load_bundle, save_bundle
from agents.learned.measure import Standing, as_markdown, log_measurement, measure, write_json
from agents.learned.policy import LearnedPolicy, policy_of
from agents.learned.recipe import HazardRecipe, Recipe, SearchRecipe, recipe_hash
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario


def train_seeds(recipe: Recipe, seeds: range, out: Path) -> list[Path]:
    """Train the seeds that are missing; returns the folders of all bundles.

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
        with click.progressbar(length=100, label=f"{recipe.kind}, seed {seed}") as bar:
            bundle = _train(recipe, seed, log, lambda share, bar=bar: bar.update(round(100 * share) - bar.pos))
        log.close()
        save_bundle(bundle, folder)
        manifest = bundle.manifest
        click.echo(
            f"  {manifest['chosen']}, {dict(bundle.settings)}; {manifest['validation_cost_of_tyche']:.3f} of Tyche's "
            f"cost on validation windows; {manifest['cpu_s']:.0f} CPU seconds; {folder}"
        )
    return folders


def compare(
    folders: tuple[Path, ...], scenarios: tuple[str, ...], expansions: int, out: Path, against: str | None = None
) -> list[Standing]:
    """Measure, log that the test windows were looked at, and write the tables.

    Raises:
        UserError: a folder holds no agent, or ``against`` is none of them.
    """
    agents: dict[str, list[LearnedPolicy]] = {}
    recipes: dict[str, str] = {}
    for folder in folders:
        found = [folder] if (folder / CARD).is_file() else sorted(path.parent for path in folder.glob(f"seed-*/{CARD}"))
        if not found:
            raise UserError(f"{folder}: holds no agent; python -m agents.train makes one")
        bundles = [load_bundle(each) for each in found]
        agents[folder.name] = [policy_of(bundle, folder.name) for bundle in bundles]
        recipes[folder.name] = recipe_hash(bundles[0].recipe)
    if against is not None and against not in agents:
        raise UserError(f"--against: {against} is none of {', '.join(agents)}")
    standings: list[Standing] = []
    looks = 0
    for name in scenarios:
        with click.progressbar(length=100, label=name) as bar:
            standings += measure(
                Scenario.load(name),
                agents,
                expansions=expansions,
                against=against,
                progress=lambda share, bar=bar: bar.update(round(100 * share) - bar.pos),  # type: ignore[misc]
            )
        looks = log_measurement(out, name, agents, recipes)
    note = f"The test windows have been evaluated {looks} times by the log in this folder.\n"
    (out / "table.md").write_text(as_markdown(standings) + "\n" + note, encoding="utf-8")
    write_json(standings, out / "table.json")
    return standings


def _train(recipe: Recipe, seed: int, log: Any, progress: Any) -> Bundle:
    if isinstance(recipe, HazardRecipe):
        from agents.learned.hazard import train_hazard

        return train_hazard(recipe, seed, log, progress)
    if isinstance(recipe, SearchRecipe):
        from agents.learned.search import train_search

        return train_search(recipe, seed, log, progress)
    from agents.learned.priced import train_priced

    return train_priced(recipe, seed, log, progress)
