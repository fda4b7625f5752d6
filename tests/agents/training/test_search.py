"""Policy search: it starts from the supervised network, plays training windows, and never ends worse on validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.playing.spread import Spread, crew
from agents.policies.bundle import Bundle
from agents.policies.gate import CONTEXT, GATED_SIZE
from agents.policies.recipe import HazardRecipe, RecipeError, SearchRecipe
from agents.training.search import beginning, bend, parameters, train_search
from tyche_env.network import HIDDEN, layers_of
from tyche_env.scenario import sealed_test_windows

_OUTPUT_AND_FLOOR = HIDDEN + 2


@pytest.fixture(scope="module")
def search(recipe: HazardRecipe, tmp_path_factory: pytest.TempPathFactory) -> SearchRecipe:
    path = tmp_path_factory.mktemp("recipes") / "start.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return SearchRecipe(
        kind="search",
        start=str(path),
        scenarios=("small",),
        expansions=1,
        generations=2,
        population=4,
        windows=2,
        check_every=1,
    )


def heads_of(bundle: Bundle) -> dict[float, np.ndarray]:
    other = bundle.network.copy()
    other[-_OUTPUT_AND_FLOOR:] += 1
    return {10: bundle.network, 60: other}


def test_it_begins_as_the_supervised_network(bundle: Bundle) -> None:
    heads = heads_of(bundle)
    start = beginning(bundle, heads)
    assert start.shape == (parameters(heads),)
    found = bend(bundle, heads, start)
    assert found.network.shape == (GATED_SIZE,)
    assert found.settings == bundle.settings
    np.testing.assert_allclose(layers_of(found.network[: len(bundle.network)]).output, layers_of(bundle.network).output)
    assert not found.network[-len(CONTEXT) :].any()


def test_every_parameter_moves_the_agent(bundle: Bundle) -> None:
    heads = heads_of(bundle)
    start = beginning(bundle, heads)
    before = bend(bundle, heads, start)
    for k in range(parameters(heads)):
        moved = start.copy()
        moved[k] += 1
        after = bend(bundle, heads, moved)
        assert (after.network != before.network).any() or after.settings != before.settings
    assert bend(bundle, heads, start + 100).settings == {"displace_percent": 3000}


def test_it_repeats_and_keeps_the_best_of_validation(search: SearchRecipe) -> None:
    first, second = train_search(search, seed=0), train_search(search, seed=0)
    np.testing.assert_array_equal(first.network, second.network)
    scores = [entry[-1] for entry in first.manifest["tried"]]
    assert len(scores) == 3
    assert first.manifest["validation_cost_of_tyche"] == pytest.approx(min(scores), abs=1e-4)


@pytest.mark.slow
def test_several_processes_search_as_one(search: SearchRecipe) -> None:
    one = train_search(search, seed=0)
    with sealed_test_windows(), crew(Spread(2)) as processes:
        two = train_search(search, seed=0, workers=processes)
    np.testing.assert_array_equal(two.network, one.network)
    assert two.settings == one.settings
    assert two.manifest["tried"] == one.manifest["tried"]


def test_a_killed_search_ends_with_the_same_network(search: SearchRecipe, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.json"

    def kill(share: float) -> None:
        if share < 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_search(search, 0, progress=kill, checkpoint=checkpoint)
    played: list[float] = []
    resumed = train_search(search, 0, progress=played.append, checkpoint=checkpoint)
    assert played == [1.0]
    np.testing.assert_array_equal(resumed.network, train_search(search, seed=0).network)


def test_it_starts_from_supervised_recipes_only(tmp_path: Path) -> None:
    recipe = SearchRecipe(kind="search", start="priced-ppo", scenarios=("small",))
    with pytest.raises(RecipeError, match="a search starts from kind hazard"):
        train_search(recipe, seed=0)
