"""A scenario so small that the plain-Python engine runs a window of it in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.evidence.run_folder import RunFolder
from agents.playing.spread import ALONE
from agents.policies.bundle import Bundle, save_bundle
from agents.policies.recipe import HazardRecipe, as_recipe
from tyche_env.network import INPUTS, SIZE
from tyche_env.scenario import Scenario


@pytest.fixture(scope="session")
def tiny() -> Scenario:
    return Scenario.load("small").with_(
        **{
            "name": "tiny",
            "title": "Tiny <trace>",
            "trace.synthesis": {"functions": 200, "minutes": 120, "seed": 3},
            "trace.group_size": 6,
            "trace.window_min": 15,
            "trace.warm_up_min": 15,
            "trace.min_requests": 4,
        }
    )


@pytest.fixture(scope="session")
def scenario_file(tiny: Scenario, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scenarios") / "tiny.yaml"
    path.write_text(tiny.to_yaml(), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def plan_of(tiny: Scenario) -> Callable[..., Plan]:
    def make(*policies: str, **changes: Any) -> Plan:
        options: dict[str, Any] = {"windows": 2, "engine": "reference", "record": "all"} | changes
        return Plan(tiny, policies or ("none", "tyche"), **options)

    return make


@pytest.fixture(scope="session")
def finished(plan_of: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of three policies and the bound under two conditions; not to be changed."""
    plan = plan_of("none", "tyche", "oracle", "bound", windows=6, modes=("paper", "realistic"))
    return evaluate(plan, tmp_path_factory.mktemp("runs") / "finished", spread=ALONE, command="tyche evaluate").folder


@pytest.fixture
def my_policy(tmp_path: Path) -> Path:
    """A user's policy that leaves everything as it is."""
    path = tmp_path / "lazy.py"
    path.write_text(
        "import numpy as np\n\nfrom tyche_env.spaces import table\n\n\nclass Policy:\n"
        "    def predict(self, observation, state=None, episode_start=None, deterministic=True):\n"
        "        return np.zeros((len(table(observation, 'functions')), 2), dtype=np.float32), state\n",
        encoding="utf-8",
    )
    return path


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
