"""Policy search: it starts from the supervised network, plays training windows, and never ends worse on validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.learned.bundle import Bundle
from agents.learned.recipe import HazardRecipe, RecipeError, SearchRecipe
from agents.learned.search import PARAMETERS, bend, train_search


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
        pairs=2,
        windows=2,
        check_every=1,
    )


def test_zeros_are_the_start_and_steps_move_what_decides(bundle: Bundle) -> None:
    network, percent = bend(bundle, np.zeros(PARAMETERS))
    np.testing.assert_array_equal(network, bundle.network)
    assert percent == bundle.settings["displace_percent"]
    moved, larger = bend(bundle, np.ones(PARAMETERS))
    assert np.count_nonzero(moved != bundle.network) >= PARAMETERS - 2
    assert larger > percent


def test_it_repeats_and_keeps_the_best_of_validation(search: SearchRecipe) -> None:
    first, second = train_search(search, seed=0), train_search(search, seed=0)
    np.testing.assert_array_equal(first.network, second.network)
    scores = [entry[-1] for entry in first.manifest["tried"]]
    assert len(scores) == 3
    assert first.manifest["validation_cost_of_tyche"] == pytest.approx(min(scores), abs=1e-4)


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
