"""Training seeds into folders and measuring folders: what is skipped, refused, counted and said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.learned import runs
from agents.learned.bundle import CARD, Bundle, load_bundle
from agents.learned.measure import CEILING, FLOOR, HEURISTICS, TEST_LOG, as_markdown, measure
from agents.learned.policy import policy_of
from agents.learned.recipe import HazardRecipe
from agents.learned.runs import compare, train_seeds
from agents.train import train
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario


def test_seeds_are_trained_once_each_and_go_on_where_they_stopped(
    recipe: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def fake(recipe: Any, seed: int, log: Any, progress: Any) -> Bundle:
        trained.append(seed)
        log.add_scalar("loss", 1.0, 1)
        progress(1.0)
        named = {"chosen": "horizon 10 s", "validation_cost_of_tyche": 0.5, "cpu_s": 1.0}
        return Bundle(bundle.network, bundle.mean, bundle.deviation, bundle.settings, recipe, named)

    monkeypatch.setattr(runs, "_train", fake)
    train_seeds(recipe, range(1), tmp_path)
    folders = train_seeds(recipe, range(3), tmp_path)
    assert trained == [0, 1, 2]
    assert [load_bundle(folder).recipe for folder in folders] == [recipe] * 3
    assert list((tmp_path / "curves" / "seed-2").iterdir())
    with pytest.raises(UserError, match="of another recipe"):
        train_seeds(recipe.model_copy(update={"epochs": 9}), range(1), tmp_path)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    answer = CliRunner().invoke(train, ["nothing", "--out", str(tmp_path)])
    assert answer.exit_code == 2
    assert "shipped are hazard" in answer.output


@pytest.fixture(scope="module")
def few() -> Scenario:
    """The shipped small scenario, three test windows of it."""
    changes = {"trace.group_size": 20, "trace.window_min": 75}
    return Scenario.load("small").with_(**changes)


def test_heuristics_ceiling_and_agents_stand_side_by_side(few: Scenario, bundle: Bundle) -> None:
    agent = policy_of(bundle, "mine")
    standings = measure(few, {"mine": [agent, agent]}, expansions=1)
    assert {each.policy for each in standings} == {*HEURISTICS, CEILING, "mine"}
    mine = next(each for each in standings if each.policy == "mine" and each.metric == "request")
    assert (mine.seeds, mine.seed_deviation) == (2, 0.0)
    assert mine.windows == len(few.windows("test"))
    floor = next(each for each in standings if each.policy == FLOOR and each.metric == "request")
    assert floor.versus != FLOOR
    text = as_markdown(standings)
    assert "| mine |" in text
    assert text.count("per function") == 1


def test_every_look_at_the_test_windows_is_counted(
    saved: Path, few: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scenario, "load", lambda name: few)
    agent = tmp_path / "agent"
    for seed in (0, 1):
        shutil.copytree(saved, agent / f"seed-{seed}")
    for looks in (1, 2):
        compare((agent,), ("small",), 1, tmp_path / "table")
        assert f"evaluated {looks} times" in (tmp_path / "table" / "table.md").read_text()
    entries = [json.loads(line) for line in (tmp_path / "table" / TEST_LOG).read_text().splitlines()]
    assert len(entries[0]["agents"]["agent"]["digests"]) == 2
    assert entries[0]["agents"]["agent"]["recipe"] == entries[1]["agents"]["agent"]["recipe"]
    assert (agent / "seed-0" / CARD).is_file()
    with pytest.raises(UserError, match="holds no agent"):
        compare((tmp_path / "empty",), ("small",), 1, tmp_path / "table")
