"""A search for hyperparameters with Optuna: the values in a recipe's ranges with the least cost on validation windows.

Each trial is a training in a folder of its own.  What a trial tries follows from its number and the trials before it
alone, so that a search that was killed goes on as if it had not been.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import optuna
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from agents.policies.recipe import Range, Recipe, Value, recipe_hash
from agents.training.seeds import train_seeds
from agents.training.trials import Trial, beginning, best_of, cost_of, ending, folder_of
from traces.output import holds
from tyche_env.errors import UserError

STUDY, RECIPE = "study.jsonl", "recipe.yaml"
_NAME = "tune"
_AT_RANDOM = 5
"""Trials, the recipe's own values among them, before the sampler learns from what it has seen."""


@holds("out")
def search(recipe: Recipe, trials: int, out: Path, seeds: int = 1, limit_s: float | None = None) -> list[Trial]:
    """Go on with a search until so many trials are finished; the first one is the recipe as it is.

    ``OUT/trial-N`` has the bundles of a trial, ``OUT/recipe.yaml`` the best recipe, ready for training.

    Args:
        recipe: with its ranges.
        trials: in all, those of earlier calls included.
        out: the folder.
        seeds: training seeds of each trial, from 0.
        limit_s: no trial begins after so many seconds.

    Returns:
        All finished trials in their order.

    Raises:
        UserError: the recipe has no ranges, or the folder holds another search.
    """
    if not recipe.tune:
        name = next(iter(recipe.hyperparameters()))
        raise UserError(
            f"the recipe has no ranges to search; it needs a part like tune: {{{name}: {{choices: [...]}}}}"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(recipe, seeds, out)
    started_s = time.monotonic()
    while (done := len(_finished(study))) < trials:
        number, values = _next(study, recipe)
        click.echo(beginning(number, values, done, trials))
        folders = train_seeds(recipe.with_values(values), range(seeds), folder_of(out, number))
        study.tell(number, cost_of(folders))
        _write_best(recipe, _finished(study), out)
        if limit_s is not None and time.monotonic() - started_s >= limit_s:
            break
    return _finished(study)


def _study(recipe: Recipe, seeds: int, out: Path) -> optuna.Study:
    out.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(out / STUDY)))
    study = optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True)
    wanted = {
        "recipe": recipe_hash(recipe),
        "tune": {name: allowed.model_dump(mode="json") for name, allowed in recipe.tune.items()},
        "seeds": seeds,
    }
    if not study.trials:
        study.set_user_attr("search", wanted)
        own = recipe.hyperparameters()
        study.enqueue_trial({name: own[name] for name in recipe.tune})
    elif study.user_attrs["search"] != wanted:
        raise UserError(f"--out: {out} holds a search with another recipe, trace, ranges or seeds; name another folder")
    return study


def _next(study: optuna.Study, recipe: Recipe) -> tuple[int, dict[str, Value]]:
    """Number and values of the trial that was interrupted, else of a new one."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if trial.params.keys() == recipe.tune.keys():
            return trial.number, trial.params
        study.tell(trial.number, state=TrialState.FAIL)  # killed while its values were drawn
    study.sampler = TPESampler(seed=len(study.trials), n_startup_trials=_AT_RANDOM)
    asked = study.ask({name: _distribution(allowed) for name, allowed in recipe.tune.items()})
    return asked.number, {name: asked.params[name] for name in recipe.tune}


def _distribution(allowed: Range) -> BaseDistribution:
    low, high = allowed.low, allowed.high
    if low is None or high is None:
        return CategoricalDistribution(allowed.ends)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=allowed.log)
    return FloatDistribution(low, high, log=allowed.log)


def _finished(study: optuna.Study) -> list[Trial]:
    found = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return [Trial(trial.number, trial.params, float(trial.value)) for trial in found if trial.value is not None]


def _write_best(recipe: Recipe, trials: list[Trial], out: Path) -> None:
    content = recipe.with_values(best_of(trials).values).model_dump(mode="json", exclude_none=True)
    (out / RECIPE).write_text(f"# {ending(trials)}\n" + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
