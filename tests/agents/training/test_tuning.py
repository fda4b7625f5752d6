"""Searching for hyperparameters: which ranges are refused, what is tried, and that a killed search goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.cli import tune
from agents.policies.bundle import SHIPPED, Bundle, load_bundle
from agents.policies.recipe import HazardRecipe, RecipeError, as_recipe, recipe_hash
from agents.training import seeds as seeds_module
from agents.training import tuning
from agents.training.recipes import load_recipe, recipe_names
from agents.training.trials import best_of
from agents.training.tuning import RECIPE, search
from tyche_env.cli import run
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario, SealedError

pytestmark = pytest.mark.slow  # Optuna is not among the packages of the quick tests

TUNE = {
    "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
    "epochs": {"low": 1, "high": 3},
    "batch_size": {"choices": [256, 512]},
}


@pytest.fixture(scope="module")
def tuned(recipe: HazardRecipe) -> HazardRecipe:
    return with_ranges(recipe, TUNE)


def with_ranges(recipe: HazardRecipe, ranges: object) -> HazardRecipe:
    found = as_recipe(recipe.model_dump() | {"tune": ranges})
    assert isinstance(found, HazardRecipe)
    return found


class Trainings:
    """Trainings that cost nothing, and how often each was begun; those in ``interrupted`` are once."""

    def __init__(self, bundle: Bundle, interrupted: tuple[int, ...] = ()) -> None:
        self.begun = 0
        self._bundle, self._interrupted = bundle, interrupted

    def __call__(
        self, recipe: HazardRecipe, seed: int, log: Any, progress: Any, checkpoint: Path, workers: Any
    ) -> Bundle:
        self.begun += 1
        if self.begun in self._interrupted:
            raise KeyboardInterrupt
        cost = 0.5 + abs(recipe.learning_rate - 0.004) + 0.01 * recipe.epochs + 0.1 * seed
        named = {"chosen": "horizon 10 s", "validation_cost_of_tyche": cost, "cpu_s": 1.0}
        mine = self._bundle
        return Bundle(mine.network, mine.mean, mine.deviation, mine.settings, recipe, named)


# -- ranges ------------------------------------------------------------------------------------------------------------


def test_ranges_change_neither_hash_nor_bundle(recipe: HazardRecipe, tuned: HazardRecipe) -> None:
    assert recipe_hash(tuned) == recipe_hash(recipe)
    assert "tune" not in tuned.model_dump(mode="json")
    assert recipe_hash(tuned.with_values({"epochs": 2})) == recipe_hash(recipe.model_copy(update={"epochs": 2}))


@pytest.mark.parametrize(("name", "agent"), [("hazard", "learned"), ("priced-ppo", "learned-rl")])
def test_shipped_recipes_have_ranges_and_still_the_hash_of_the_shipped_agents(name: str, agent: str) -> None:
    assert load_recipe(name).tune
    assert recipe_hash(load_recipe(name)) == recipe_hash(load_bundle(SHIPPED / agent).recipe)


@pytest.mark.parametrize("name", recipe_names())
def test_what_a_recipe_is_judged_by_is_no_hyperparameter(name: str) -> None:
    found = load_recipe(name)
    assert not {"kind", "trace", "scenario", "scenarios", "choice", "function_weight", "tune"} & set(
        found.hyperparameters()
    )
    assert recipe_hash(found.with_values(found.hyperparameters())) == recipe_hash(found)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"learning_rat": {"low": 1, "high": 2}}, "no hyperparameter 'learning_rat'; did you mean learning_rate?"),
        ({"choice": {"choices": ["a"]}}, "tune: there is no hyperparameter 'choice'; there are "),
        ({"epochs": {"low": 0, "high": 3}}, "tune: epochs: 0: Input should be greater than or equal to 1"),
        ({"epochs": {"low": 2, "high": 3}}, "tune: epochs: must hold the recipe's own 1, which is tried first"),
        ({"epochs": {"low": 1.0, "high": 3.0}}, "tune: epochs: must hold the recipe's own 1"),
        ({"epochs": {"low": 3, "high": 1}}, "tune.epochs: give low and a greater high, or choices"),
        ({"epochs": {"low": 1}}, "give low and a greater high, or choices"),
        ({"epochs": {"low": 1, "high": 3, "choices": [1]}}, "give either choices, or low and high"),
        ({"epochs": {"choices": []}}, "tune.epochs.choices: Tuple should have at least 1 item"),
        ({"epochs": {"low": 1, "hihg": 3}}, "tune.epochs: unknown key 'hihg'; did you mean high?"),
        ({"share": {"low": 0, "high": 0.5, "log": True}}, "low: must be greater than 0 with log"),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused(recipe: HazardRecipe, ranges: object, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        with_ranges(recipe, ranges)
    assert message in str(caught.value)


def test_options_of_an_algorithm_are_named_with_a_dot() -> None:
    content = load_recipe("ppo").model_dump() | {"tune": {"options.gamma": {"low": 0.0, "high": 0.9}}}
    changed = as_recipe(content).with_values({"options.gamma": 0.7, "width": 32}).model_dump()
    assert changed["options"]["gamma"] == 0.7
    assert changed["options"]["n_steps"] == 32
    assert changed["width"] == 32
    with pytest.raises(RecipeError, match=r"did you mean options\.gamma\?"):
        as_recipe(content | {"tune": {"options.gama": {"low": 0.0, "high": 0.9}}})


# -- the search --------------------------------------------------------------------------------------------------------


def test_a_search_tries_the_recipe_first_and_then_what_is_in_its_ranges(
    tuned: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle))
    trials = search(tuned, 12, tmp_path)
    assert [trial.number for trial in trials] == list(range(12))
    assert trials[0].values == {name: tuned.hyperparameters()[name] for name in TUNE}
    for trial in trials:
        assert all(tuned.tune[name].holds(value) for name, value in trial.values.items())
    assert len({str(trial.values) for trial in trials}) > 9
    assert best_of(trials).cost < trials[0].cost
    best = load_recipe(tmp_path / RECIPE)
    assert best == tuned.with_values(best_of(trials).values)
    assert load_bundle(tmp_path / f"trial-{best_of(trials).number}" / "best").recipe == best


@pytest.mark.parametrize("killed_in", [(1,), (2, 4, 5)])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    tuned: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: tuple[int, ...]
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle))
    whole = search(tuned, 8, tmp_path / "whole")
    trainings = Trainings(bundle, killed_in)
    monkeypatch.setattr(seeds_module, "_train", trainings)
    for _ in killed_in:
        with pytest.raises(KeyboardInterrupt):
            search(tuned, 8, tmp_path / "killed")
    search(tuned, 6, tmp_path / "killed")
    assert search(tuned, 8, tmp_path / "killed") == whole
    assert trainings.begun == 8 + len(killed_in)
    assert (tmp_path / "killed" / RECIPE).read_text() == (tmp_path / "whole" / RECIPE).read_text()


def test_a_trial_whose_values_were_not_all_drawn_is_left_aside(
    tuned: HazardRecipe,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle))
    search(tuned, 1, tmp_path)
    tuning._study(tuned, 1, tmp_path).ask()
    capsys.readouterr()
    assert [trial.number for trial in search(tuned, 2, tmp_path)] == [0, 2]
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("trial "))
    assert told.startswith("trial 2 (1 of 2 finished): ")
    assert sorted(path.name for path in tmp_path.glob("trial-*")) == ["trial-0", "trial-2"]


def test_a_trial_costs_the_mean_over_its_seeds_and_none_begins_after_the_time(
    tuned: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle))
    (one,) = search(tuned, 5, tmp_path / "one", limit_s=0)
    (two,) = search(tuned, 5, tmp_path / "two", seeds=2, limit_s=0)
    assert two.cost == pytest.approx(one.cost + 0.05)


def test_another_search_in_the_same_folder_is_refused(
    recipe: HazardRecipe, tuned: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle))
    search(tuned, 1, tmp_path)
    for other, seeds in (
        (with_ranges(recipe, TUNE | {"epochs": {"low": 1, "high": 4}}), 1),
        (tuned.model_copy(update={"share": 0.3}), 1),
        (tuned, 2),
    ):
        with pytest.raises(UserError, match="holds a search with another recipe, trace, ranges or seeds; name another"):
            search(other, 2, tmp_path, seeds)
    with pytest.raises(UserError, match=r"has no ranges to search; it needs a part like tune: \{expansions: "):
        search(recipe, 1, tmp_path)


def test_a_search_never_reads_test_windows(
    tuned: HazardRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds_module, "_train", lambda *arguments: Scenario.load("small").windows("test"))
    with pytest.raises(SealedError):
        search(tuned, 1, tmp_path)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_a_table_and_a_recipe_to_train(
    tuned: HazardRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(tuned.model_dump(mode="json") | {"tune": TUNE}, sort_keys=False), encoding="utf-8")
    out = tmp_path / "tuned"
    words = [str(mine), "--trials", "2", "--out", str(out)]
    tune.tune.main(words, standalone_mode=False)
    printed = capsys.readouterr().out
    told = [line.split(":")[0] for line in printed.splitlines() if line.startswith("trial ")]
    assert told == ["trial 0 (0 of 2 finished)", "trial 1 (1 of 2 finished)"]
    assert "finished): learning_rate 0.002, epochs 1, batch_size 512" in printed
    # one number for a trial: its folder, its line, its row, and what the best recipe and the last line say
    costs = {k: load_bundle(out / f"trial-{k}" / "best").manifest["validation_cost_of_tyche"] for k in (0, 1)}
    best_one = min(costs, key=costs.__getitem__)
    last_line = f"trial {best_one}, the best of 2: {costs[best_one]:.4f} on validation windows"
    assert printed.endswith(f"{out / RECIPE}: {last_line}\n")
    assert (out / RECIPE).read_text(encoding="utf-8").startswith(f"# {last_line}\n")
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.split()[:1] in (["0"], ["1"])}
    assert {k: rows[str(k)][-1] for k in costs} == {k: f"{cost:.4f}" for k, cost in costs.items()}
    assert "cost on validation windows" in printed
    tune.tune.main(words, standalone_mode=False)
    again = capsys.readouterr().out
    assert "finished)" not in again
    assert printed.endswith(again)
    assert run(["train", str(out / RECIPE), "--out", str(tmp_path / "trained")]) == 0
    best = load_bundle(tmp_path / "trained" / "best")
    assert best.manifest["validation_cost_of_tyche"] == min(costs.values())


def test_interrupted_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    monkeypatch.setattr(seeds_module, "_train", Trainings(bundle, (1,)))
    assert run(["tune", "hazard", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("tyche: interrupted\n")


def test_a_recipe_without_ranges_is_refused_with_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", "ppo", "--out", str(tmp_path)]) == 2
    assert (
        "tyche: the recipe has no ranges to search; it needs a part like tune: {clusters: " in capsys.readouterr().err
    )
