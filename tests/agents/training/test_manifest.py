"""What a bundle says about its training, of each kind, with a clock and processes that are planted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from agents.policies.bundle import Bundle
from agents.policies.recipe import HazardRecipe, as_recipe
from agents.training import algorithms, hazard, manifest, priced, search
from agents.training.choose import Candidate, Chosen
from agents.training.data import HORIZONS_S, Rows
from tyche_env.network import INPUTS, SIZE
from tyche_env.scenario import Scenario

STARTED_S, OTHERS_BEFORE_S = 100.0, 7000.0
"""What this process and its workers had spent on other things when the training began."""
OWN_S, OTHERS_S = 30.0, 500.0
"""What one part of the training takes here and in the workers."""
CHOICE: dict[str, Any] = {"scenarios": ["small"], "displace_percent": [10]}
NETWORK = np.zeros(SIZE, np.float32)


class Planted:
    """A clock, and workers: each part of a training that is stood in for moves both on."""

    def __init__(self) -> None:
        self.now_s, self.cpu_s, self.parts = STARTED_S, OTHERS_BEFORE_S, 0

    def do(self, runs: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        raise AssertionError("nothing is played")

    def part(self, result: Any) -> Callable[..., Any]:
        """A part of the training that gives this."""

        def take(*_: Any, **__: Any) -> Any:
            self.now_s, self.cpu_s, self.parts = self.now_s + OWN_S, self.cpu_s + OTHERS_S, self.parts + 1
            return result

        return take


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    found = Planted()
    clock = SimpleNamespace(process_time=lambda: found.now_s)
    for module in (algorithms, hazard, manifest, priced, search):
        monkeypatch.setattr(module, "time", clock)
    return found


def chosen(score: float = 0.75) -> Chosen:
    network = NETWORK.copy()
    network[-1] = 0.25
    return Chosen(Candidate("the third", network), 40, score, (("the third", 40, 0.25, score),))


def some_rows(count: int) -> Rows:
    return Rows(np.ones((count, INPUTS), np.float32), np.ones(count, np.float32), np.ones(count, np.float32))


def stages() -> list[dict[str, Any]]:
    return [{"rows": 9, "network": NETWORK, "validation_reward": value, "tensors": {}} for value in (-3.0, -2.0, -4.0)]


class Model:
    """A model of stable-baselines3 that has been trained."""

    num_timesteps = 4321
    policy = SimpleNamespace(
        features_extractor=SimpleNamespace(mean=torch.zeros(INPUTS), deviation=torch.ones(INPUTS)),
        state_dict=dict,
    )


def by_hazard(planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    moments = np.zeros(INPUTS, np.float32), np.ones(INPUTS, np.float32)
    monkeypatch.setattr(hazard, "rows_of", lambda *_, **__: some_rows(4321))
    monkeypatch.setattr(hazard, "fit", lambda *_: (hazard.make_network(len(HORIZONS_S)), *moments))
    monkeypatch.setattr(hazard, "choose", planted.part(chosen()))
    return hazard.train_hazard(recipe, 5, workers=planted)


def by_priced(planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    content = {"kind": "priced-ppo", "scenario": "small", "choice": CHOICE}
    monkeypatch.setattr(priced, "make_env", lambda *_: None)
    monkeypatch.setattr(priced, "make_ppo", lambda *_: Model())
    monkeypatch.setattr(priced, "rows_of", lambda *_, **__: some_rows(50))
    monkeypatch.setattr(priced, "learn", planted.part(stages()))
    monkeypatch.setattr(priced, "choose", planted.part(chosen()))
    return priced.train_priced(as_recipe(content), 5, workers=planted)  # type: ignore[arg-type]


def by_algorithm(
    planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any
) -> Any:
    content = {"kind": "algorithm", "algorithm": "ppo", "scenario": "small", "actions": "logit", "actor": "row"}
    monkeypatch.setattr(algorithms, "make_env", lambda *_: None)
    monkeypatch.setattr(algorithms, "make_model", lambda *_: Model())
    monkeypatch.setattr(algorithms, "imitate", lambda *_: None)
    monkeypatch.setattr(algorithms, "train_hazard", planted.part(SimpleNamespace(network=NETWORK)))
    monkeypatch.setattr(algorithms, "learn", planted.part(stages()))
    monkeypatch.setattr(algorithms, "choose", planted.part(chosen()))
    found = as_recipe(content | {"start": "hazard"} | changes)
    return algorithms.train_algorithm(found, 5, workers=planted)  # type: ignore[arg-type]


def by_algorithm_chosen(*arguments: Any) -> Any:
    return by_algorithm(*arguments, choice=CHOICE)


def by_search(
    planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, windows: int = 2
) -> Any:
    start = tmp_path / "start.yaml"
    start.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    unscaled = np.zeros(INPUTS, np.float32), np.ones(INPUTS, np.float32)
    bundle = Bundle(NETWORK, *unscaled, {"displace_percent": 65}, recipe, {"cpu_s": 1e6})
    monkeypatch.setattr(search, "train_heads", planted.part((bundle, {10.0: NETWORK})))
    monkeypatch.setattr(search, "validation_shares", planted.part([0.75]))
    monkeypatch.setattr(search, "_shares", planted.part([1.0, 2.0, 3.0, 4.0]))
    monkeypatch.setattr(search, "_games", lambda *_: list(range(5)))
    content = {"kind": "search", "start": str(start), "scenarios": ["small"], "windows": windows, "population": 4}
    found = as_recipe(content | {"generations": 3, "check_every": 2})
    return search.train_search(found, 5, workers=planted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "parts"),
    # supervised: choosing; priced: learning, choosing; an algorithm: its start and learning, and choosing if it does;
    # a search: its start, three generations, and looks before them, after the second and at the end
    [(by_hazard, 1), (by_priced, 2), (by_algorithm, 2), (by_algorithm_chosen, 3), (by_search, 7)],
)
def test_the_time_of_a_training_is_its_own_and_that_of_its_workers_since_it_began(
    train: Any, parts: int, planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = train(planted, recipe, monkeypatch, tmp_path)
    assert planted.parts == parts
    assert bundle.manifest["cpu_s"] == parts * (OWN_S + OTHERS_S)
    assert bundle.manifest["seed"] == 5
    # a search counts the windows that its trials played
    assert bundle.manifest["rows"] == (4321 if train is not by_search else 3 * 4 * 2)
    if train is by_algorithm:
        assert bundle.manifest["validation_reward"] == -2.0
        assert [entry[1] for entry in bundle.manifest["tried"]] == [-3.0, -2.0, -4.0]
    else:
        assert bundle.manifest["validation_cost_of_tyche"] == 0.75


def test_a_search_counts_only_windows_that_there_are(
    planted: Planted, recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert by_search(planted, recipe, monkeypatch, tmp_path, windows=9).manifest["rows"] == 3 * 4 * 5


def test_what_a_manifest_says_by_hand(planted: Planted) -> None:
    small = Scenario.load("small")
    other = small.with_(name="other", **{"trace.group_size": 20})
    planted.now_s = 1234.5678
    found = manifest.manifest([small, other], 3, 17, 1000.0)
    assert (found["seed"], found["rows"], found["cpu_s"]) == (3, 17, 234.6)
    assert found["scenarios"] == {"small": small.hash(), "other": other.hash()}
    # two scenarios of one trace name it once
    assert found["data"] == small.trace.family
    assert manifest.of_choice(chosen(0.123456)) == {
        "chosen": "the third",
        "floor": 0.25,
        "validation_cost_of_tyche": 0.1235,
        "tried": [["the third", 40, 0.25, 0.123456]],
    }
