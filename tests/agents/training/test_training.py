"""Supervised training: what it reads, that it repeats, and that what is exported is what was trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agents.playing.runs import shareable
from agents.playing.spread import Spread, crew, play_all
from agents.policies.bundle import Bundle
from agents.policies.recipe import Choice, HazardRecipe, RecipeError, as_recipe, recipe_hash
from agents.training import seeds as seeds_module
from agents.training.choose import Candidate, choose, score
from agents.training.data import HORIZONS_S, LONGEST_US, Rows, rows_of
from agents.training.hazard import HELD, export, fit, make_network, moments, train_hazard, worth_of
from agents.training.recipes import load_recipe, recipe_names
from agents.training.seeds import train_seeds
from tyche_env.hold_price import roomy
from tyche_env.network import INPUTS, logits
from tyche_env.scenario import Scenario, SealedError, sealed_test_windows
from tyche_env.vector import PreloadVectorEnv
from tyche_env.world import World


@pytest.fixture(scope="module")
def rows(recipe: HazardRecipe) -> Rows:
    return rows_of(Scenario.load(recipe.scenarios[0]), seeds=(0,), share=0.2)


def test_rows_say_when_the_next_request_comes(rows: Rows) -> None:
    assert rows.features.shape == (len(rows), INPUTS)
    assert np.isfinite(rows.features).all()
    assert (rows.wait_s >= 0).all()
    assert 0 < (rows.wait_s <= 60).mean() < 1
    # those with a high hazard are requested sooner
    hazard = rows.features[:, 10]
    assert np.mean(rows.wait_s[hazard > 0.5] <= 60) > np.mean(rows.wait_s[hazard < 0.1] <= 60)
    assert max(HORIZONS_S) * 1e6 == LONGEST_US


def test_rows_say_how_often_their_function_is_requested(rows: Rows, recipe: HazardRecipe) -> None:
    scenario = Scenario.load(recipe.scenarios[0])
    window = scenario.windows("train")[0]
    requests = rows.requests_per_h * (window.end_us - window.start_us) / 3.6e9
    np.testing.assert_allclose(requests, np.round(requests), rtol=1e-5)
    assert requests.min() >= 1
    often = requests > np.median(requests)
    assert np.mean(rows.wait_s[often] <= 60) > 2 * np.mean(rows.wait_s[~often] <= 60)


def test_rows_repeat_with_the_seed(rows: Rows, recipe: HazardRecipe) -> None:
    again = rows_of(Scenario.load(recipe.scenarios[0]), seeds=(0,), share=0.2)
    np.testing.assert_array_equal(again.features, rows.features)
    other = rows_of(Scenario.load(recipe.scenarios[0]), seeds=(1,), share=0.2)
    assert len(other) != len(rows)


@pytest.mark.parametrize("name", ["costly-25", "costly-50"])
def test_alone_on_a_roomy_node_nothing_contends(name: str) -> None:
    assert Scenario.load(name).contention
    assert not roomy(name).contention


def test_test_windows_are_sealed_while_an_agent_trains(recipe: HazardRecipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training never reads the test split"):
        rows_of(Scenario.load("small"), seeds=(0,), share=0.1, split="test")
    scenario = Scenario.load("small")
    window = scenario.windows("test")[0]
    with sealed_test_windows():
        for read in (
            lambda: scenario.windows("test"),
            lambda: scenario.world("test"),
            lambda: scenario.world_of(window),
            lambda: PreloadVectorEnv(1, "small", split="test"),
        ):
            with pytest.raises(SealedError, match="training never reads test windows"):
                read()
        scenario.world("validation")
    scenario.world("test")


@dataclass(frozen=True)
class Looks:
    """What a run of a training must not do."""

    key = world_key = ("validation",)

    def requests(self) -> World:
        return shareable(Scenario.load("small").world("validation"))

    def row(self, requests: World) -> None:
        Scenario.load("small").windows("test")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_training_runs_with_test_windows_sealed(
    recipe: HazardRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(seeds_module, "_train", lambda *arguments: Scenario.load("small").windows("test"))
    with pytest.raises(SealedError):
        train_seeds(recipe, range(1), tmp_path, Spread(jobs))

    def in_a_run(*arguments: Any) -> None:
        play_all([Looks()], arguments[-1])

    monkeypatch.setattr(seeds_module, "_train", in_a_run)
    with pytest.raises(SealedError):
        train_seeds(recipe, range(1), tmp_path, Spread(jobs))


def test_training_repeats_bit_for_bit(rows: Rows, recipe: HazardRecipe) -> None:
    first, second = (fit(rows, recipe, seed=3)[0] for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    third = fit(rows, recipe, seed=4)[0]
    assert not torch.equal(next(first.parameters()), next(third.parameters()))


def test_a_second_counts_less_where_requests_are_many() -> None:
    per_h = np.array([0.3, 1, 16, 256], np.float32)
    np.testing.assert_array_equal(worth_of(per_h, 0), np.ones(4, np.float32))
    np.testing.assert_allclose(worth_of(per_h, 0.5), [1, 1, 1 / 4, 1 / 16])
    np.testing.assert_allclose(worth_of(per_h, 1.0), [1, 1, 1 / 16, 1 / 256])


def test_without_an_exponent_the_count_of_requests_plays_no_role(rows: Rows, recipe: HazardRecipe) -> None:
    blind = replace(rows, requests_per_h=np.full(len(rows), 7, np.float32))
    first, second = (fit(each, recipe, seed=3)[0] for each in (rows, blind))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_with_an_exponent_priority_moves_to_rarely_requested_functions(rows: Rows, recipe: HazardRecipe) -> None:
    often = rows.requests_per_h > np.median(rows.requests_per_h)

    def lead_of_the_often_requested(exponent: float) -> float:
        changed = recipe.with_values({"rare_exponent": exponent, "epochs": 5})
        network, mean, deviation = fit(rows, changed, seed=0)
        with torch.no_grad():
            chances = torch.sigmoid(network(torch.from_numpy((rows.features - mean) / deviation)))[:, 1].numpy()
        return float(chances[often].mean() / chances[~often].mean())

    assert lead_of_the_often_requested(0.0) > 1.3 * lead_of_the_often_requested(0.5)


def test_the_hazard_does_not_depend_on_what_is_held(rows: Rows, recipe: HazardRecipe) -> None:
    network: Any = fit(rows, recipe, seed=0)[0]
    assert not network[0].weight.detach()[:, HELD].any()


def test_what_is_exported_is_what_was_trained(rows: Rows) -> None:
    torch.manual_seed(0)
    network = make_network(4)
    mean, deviation = moments(rows.features)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    output = linear[2].weight.detach().numpy()[1]
    weights = export(linear[:2], mean, deviation, output, float(linear[2].bias.detach()[1]))
    some = rows.features[:500]
    with torch.no_grad():
        expected = network(torch.from_numpy((some - mean) / deviation))[:, 1].numpy()
    np.testing.assert_allclose(logits(weights, some), expected, atol=1e-5)


def test_a_trained_agent_beats_tyche_on_validation_windows(recipe: HazardRecipe) -> None:
    bundle = train_hazard(recipe.model_copy(update={"share": 0.5, "epochs": 3}), seed=0)
    assert bundle.manifest["validation_cost_of_tyche"] < 1.0
    percent = bundle.settings["displace_percent"]
    assert score(bundle.network, percent, [Scenario.load("small")]) == pytest.approx(
        bundle.manifest["validation_cost_of_tyche"], abs=1e-4
    )


@pytest.mark.slow
def test_several_processes_choose_the_same_as_one(bundle: Bundle) -> None:
    candidates = [Candidate(str(scale), (scale * bundle.network).astype(np.float32)) for scale in (0.5, 1.0)]
    scenarios = [Scenario.load("small"), Scenario.load("small").with_(**{"trace.group_size": 20})]
    choice = Choice(scenarios=("small",), displace_percent=(10, 100), floors=(0.0, 0.4))
    one = choose(candidates, choice, scenarios)
    with sealed_test_windows(), crew(Spread(2)) as processes:
        two = choose(candidates, choice, scenarios, processes)
        assert processes.cpu_s > 0
    assert (two.table, two.score, two.displace_percent) == (one.table, one.score, one.displace_percent)
    np.testing.assert_array_equal(two.candidate.network, one.candidate.network)
    assert len({value for *_, value in one.table}) > 1
    assert one.table[0][-1] == score(candidates[0].network, 10, scenarios)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_can_be_read(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe_hash(recipe) == recipe_hash(as_recipe(recipe.model_dump(mode="json")))


def test_a_mistake_in_a_recipe_is_named() -> None:
    with pytest.raises(RecipeError, match="epoch"):
        as_recipe({"kind": "hazard", "scenarios": ["small"], "epoch": 3, "choice": {}})
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe("nothing")


@pytest.mark.parametrize(
    ("exponent", "message"), [(-0.1, "greater than or equal to 0"), (1.5, "less than or equal to 1")]
)
def test_an_exponent_is_between_counting_requests_and_counting_functions(
    recipe: HazardRecipe, exponent: float, message: str
) -> None:
    with pytest.raises(RecipeError, match=f"rare_exponent: Input should be {message}"):
        as_recipe(recipe.model_dump() | {"rare_exponent": exponent})
