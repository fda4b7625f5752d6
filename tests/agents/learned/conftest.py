"""A small scenario to learn in, and a bundle of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.policies.bundle import Bundle, save_bundle
from agents.policies.recipe import HazardRecipe, as_recipe
from tyche_env.network import INPUTS, SIZE


@pytest.fixture(scope="session")
def recipe() -> HazardRecipe:
    content = {
        "kind": "hazard",
        "scenarios": ["small"],
        "expansions": 1,
        "share": 0.2,
        "epochs": 1,
        "batch_size": 512,
        "horizons_s": [10],
        "choice": {"scenarios": ["small"], "displace_percent": [10]},
    }
    found = as_recipe(content)
    assert isinstance(found, HazardRecipe)
    return found


@pytest.fixture(scope="session")
def bundle(recipe: HazardRecipe) -> Bundle:
    draw = np.random.default_rng(1)
    return Bundle(
        network=(0.2 * draw.normal(size=SIZE)).astype(np.float32),
        mean=np.zeros(INPUTS, np.float32),
        deviation=np.ones(INPUTS, np.float32),
        settings={"displace_percent": 65},
        recipe=recipe,
        manifest={"seed": 1},
    )


@pytest.fixture(scope="session")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "mine"
    save_bundle(bundle, folder)
    return folder
