"""Training seeds into folders: what is skipped, refused, and which is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import traces
from agents.policies.bundle import Bundle, load_bundle
from agents.policies.recipe import HazardRecipe
from agents.training import seeds as seeds_module
from agents.training.seeds import train_seeds
from tyche_env.cli import run
from tyche_env.errors import UserError


def test_seeds_are_trained_once_each_and_go_on_where_they_stopped(
    recipe: HazardRecipe, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def fake(recipe: Any, seed: int, log: Any, progress: Any, checkpoint: Path, workers: Any) -> Bundle:
        trained.append(seed)
        log.add_scalar("loss", 1.0, 1)
        progress(1.0)
        cost = abs(seed - 1) + 0.5
        named = {"chosen": "horizon 10 s", "validation_cost_of_tyche": cost, "cpu_s": 1.0, "seed": seed}
        return Bundle(bundle.network, bundle.mean, bundle.deviation, bundle.settings, recipe, named)

    monkeypatch.setattr(seeds_module, "_train", fake)
    train_seeds(recipe, range(1), tmp_path)
    folders = train_seeds(recipe, range(3), tmp_path)
    assert trained == [0, 1, 2]
    assert [load_bundle(folder).recipe for folder in folders] == [recipe] * 3
    assert load_bundle(tmp_path / "best").manifest["seed"] == 1
    assert list((tmp_path / "curves" / "seed-2").iterdir())
    with pytest.raises(UserError, match="of another recipe"):
        train_seeds(recipe.model_copy(update={"epochs": 9}), range(1), tmp_path)


def test_the_command_trains_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(seeds_module, "train_seeds", lambda *arguments: asked.append(arguments))
    trace = Path(traces.__file__).parent / "shipped" / "azure2019_day_unique_A.csv.gz"
    assert run(["train", "hazard", "--seeds", "3", "--jobs", "4", "--trace", str(trace), "--out", "there"]) == 0
    assert run(["train", "hazard"]) == 0
    (recipe, seeds, out, spread), (plain, one, usual, all_cores) = asked
    assert (recipe.kind, recipe.trace, list(seeds), out) == ("hazard", str(trace), [0, 1, 2], Path("there"))
    assert (spread.jobs, spread.on) == (4, "processes")
    assert (plain.trace, list(one), usual, all_cores.jobs) == (None, [0], Path("runs/hazard"), None)


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "nothing", "--out", str(tmp_path)]) == 2
    assert "shipped are dqn, hazard" in capsys.readouterr().err


def test_without_traces_the_command_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TYCHE_TRACES", raising=False)
    assert run(["train", "hazard-both", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert "TYCHE_TRACES must name the folder" in printed
    assert "github.com/alibaba/clusterdata" in printed
