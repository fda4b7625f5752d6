"""Versioned ids: an environment does what it did when its version was made.

Recorded under ``golden/`` is what an agent saw and got that acted by lot.  A change of what an environment shows, pays
or does under the same actions makes results incomparable, so it needs a new version of the id.
``python -m tests.tyche_env.test_trajectories`` records the versions that have no record yet; it changes none.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import tyche_env  # noqa: F401  (registers the ids)
from tyche_env.draws import Concern, draw_u64
from tyche_env.scenario import Scenario

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
"""Gymnasium's own advice to whoever makes an older version."""

FOLDER = Path(__file__).parent / "golden"
OPEN = {"tyche/HoldPrice-v1", "tyche/Preload-v1"}
"""Versions that still take changes in, so that they have no record yet."""
IDS = sorted(name for name in gym.registry if name.startswith("tyche/") and name not in OPEN)
EPISODES = 2
TOLERANCE = 1e-5
"""Observations are float32, and logarithms differ between machines in their last bits."""


Episodes = list[list[list[float]]]
"""Episodes of steps of [reward, what was seen...]."""


def scenario() -> Scenario:
    """Ten functions, short of memory, on two nodes; it is recorded along, so that it may change here."""
    return Scenario.load("small").with_(
        **{
            "name": "trajectories",
            "cluster.nodes": [
                {"count": 1, "memory_mb": 6000, "gpus": 1, "gpu_memory_mb": 1200},
                {"count": 1, "memory_mb": 5000},
            ],
            "trace.synthesis": {"functions": 200, "minutes": 120, "seed": 3},
            "trace.group_size": 10,
            "trace.window_min": 10,
            "trace.warm_up_min": 10,
            "trace.min_requests": 4,
        }
    )


def lot(space: gym.Space[Any], episode: int, step: int) -> Any:
    """An action drawn from a counter: half of all values leave everything as it is."""
    if isinstance(space, gym.spaces.Discrete):
        return draw_u64(episode, Concern.POLICY, 0, step) % int(space.n)
    assert space.shape is not None
    draws = [draw_u64(episode, Concern.POLICY, at, step) for at in range(int(np.prod(space.shape)))]
    values = [0.0 if draw & 1 else (draw >> 11) / 2**52 - 1.0 for draw in draws]
    return np.array(values, np.float32).reshape(space.shape)


def seen(observation: Any) -> list[float]:
    """The mean of each table, in a fixed order; and of what was made larger, so that small columns count as well."""
    tables = observation if isinstance(observation, dict) else {"": observation}
    values = [np.asarray(tables[name], np.float64) for name in sorted(tables)]
    return [float(f"{each:.9g}") for table in values for each in (table.mean(), np.log1p(np.abs(table)).mean())]


def play(name: str, content: dict[str, Any]) -> Episodes:
    """What an agent sees and gets that acts by lot."""
    env = gym.make(name, scenario=Scenario.from_mapping(content), split="test")
    episodes: Episodes = []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode)
        steps, over = [[0.0, *seen(observation)]], False
        while not over:
            observation, reward, _, over, _ = env.step(lot(env.action_space, episode, len(steps)))
            steps.append([float(f"{float(reward):.9g}"), *seen(observation)])
        episodes.append(steps)
    env.close()
    return episodes


def file_of(name: str) -> Path:
    return FOLDER / f"{name.partition('/')[2]}.json"


def next_version(name: str) -> str:
    base, _, version = name.rpartition("-v")
    return f"{base}-v{int(version) + 1}"


def refuse_change(name: str, recorded: Episodes, played: Episodes) -> None:
    """Fail with what to do, if what was played differs from the record."""
    advice = (
        f"If that is meant, register {next_version(name)} in tyche_env/__init__.py instead of {name}, record it "
        "(python -m tests.tyche_env.test_trajectories) and say in CHANGELOG.md what changed."
    )
    for episode, (was, now) in enumerate(zip(recorded, played, strict=True)):
        where = f"{name}: episode {episode}"
        assert len(was) == len(now), f"{where} has {len(now)} steps, it had {len(was)}. {advice}"
        assert len(was[0]) == len(now[0]), f"{where} has other tables in its observations. {advice}"
        wrong = ~np.isclose(was, now, rtol=TOLERANCE, atol=TOLERANCE).all(axis=1)
        at = int(np.argmax(wrong))
        assert not wrong.any(), f"{where} differs from step {at} on: {was[at]} was recorded, now {now[at]}. {advice}"


@pytest.mark.parametrize("name", IDS)
def test_an_environment_does_what_its_version_did(name: str) -> None:
    recorded = json.loads(file_of(name).read_text(encoding="utf-8"))
    refuse_change(name, recorded["episodes"], play(name, recorded["scenario"]))


@pytest.mark.parametrize("name", sorted(OPEN))
def test_a_version_that_takes_changes_in_does_what_the_last_one_did_where_loads_are_free(name: str) -> None:
    recorded = json.loads(file_of(name.replace("-v1", "-v0")).read_text(encoding="utf-8"))
    refuse_change(name, recorded["episodes"], play(name, recorded["scenario"]))


def test_a_change_of_behaviour_asks_for_a_new_version() -> None:
    recorded = json.loads(file_of("tyche/Preload-v0").read_text(encoding="utf-8"))["episodes"]
    changed = copy.deepcopy(recorded)
    changed[1][7][0] -= 0.5
    with pytest.raises(AssertionError, match=r"episode 1 differs from step 7 on.*register tyche/Preload-v1 in"):
        refuse_change("tyche/Preload-v0", recorded, changed)


def test_the_records_have_something_to_see() -> None:
    for name in IDS:
        for episode in json.loads(file_of(name).read_text(encoding="utf-8"))["episodes"]:
            steps = np.array(episode)
            assert len(steps) > 50
            assert np.count_nonzero(steps[:, 0]) > 5
            assert (steps[:, 1:].std(axis=0) > 0).any()


def test_no_record_is_left_of_an_id_that_is_gone() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {file_of(name).name for name in IDS}


if __name__ == "__main__":
    for each in IDS:
        if not file_of(each).exists():
            FOLDER.mkdir(exist_ok=True)
            told = scenario().model_dump(mode="json")
            record = {"scenario": told, "episodes": play(each, told)}
            file_of(each).write_text(json.dumps(record) + "\n", encoding="utf-8")
