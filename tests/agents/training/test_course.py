"""The course of a training: where its stages end, what a stage is worth, and which is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from agents.policies.bundle import PolicyBundle
from agents.policies.recipe import AlgorithmRecipe, as_recipe
from agents.training import algorithms as algorithms_module
from agents.training import course as course_module
from agents.training.algorithms import _episode, episode_rewards, moments_of_play, train_algorithm
from agents.training.course import Course, _Boundary
from agents.training.seeds import validation_cost
from tyche_env.network import INPUTS


def boundary(course: Course, memory: dict[str, Any]) -> Any:
    env: Any = None
    made: Any = _Boundary(course, env, memory)
    made.model = None
    return made


@pytest.mark.parametrize(("stages", "ends"), [(1, []), (2, [500]), (4, [250, 500, 750]), (3, [350, 700])])
def test_stages_end_at_equal_parts_of_the_training(stages: int, ends: list[int]) -> None:
    memory: dict[str, Any] = {"stages": []}
    at = {"rows": 0}
    shares: list[float] = []
    callback = boundary(Course(1000, stages, lambda: dict(at), progress=shares.append), memory)
    for rows in (*range(0, 1000, 50), 1020):
        callback.num_timesteps = at["rows"] = rows
        callback._on_rollout_start()
    # the last stage is the trained network, which whoever trains adds
    assert [stage["rows"] for stage in memory["stages"]] == ends
    assert shares == [min(1.0, rows / 1000) for rows in (*range(0, 1000, 50), 1020)]


def test_checkpoints_are_written_every_so_often(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    clock, written = [100.0], []
    monkeypatch.setattr("agents.training.course.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(course_module, "save_checkpoint", lambda *_: written.append(clock[0]))
    callback = boundary(Course(1000, 1, dict, tmp_path / "checkpoint", every_s=20.0), {"stages": []})
    for second in range(0, 70, 5):
        clock[0], callback.num_timesteps = 100.0 + second, second
        callback._on_rollout_start()
    assert written == [120.0, 140.0, 160.0]


def test_curves_are_the_mean_reward_and_every_number_that_is_no_time() -> None:
    told: list[tuple[str, float, int]] = []
    log: Any = SimpleNamespace(add_scalar=lambda *each: told.append(each))
    callback = boundary(Course(1000, 1, dict), {"stages": []})
    recorded: dict[str, float] = {}
    callback.model = SimpleNamespace(logger=SimpleNamespace(record=recorded.__setitem__))
    callback.locals = {"rollout_buffer": SimpleNamespace(rewards=np.array([[1.0, 2.0], [3.0, 6.0]]))}
    callback._on_rollout_end()
    assert recorded == {"rollout/reward": 3.0}
    course_module._Curves(log).write({"train/loss": 0.5, "time/fps": 9, "n": 2, "text": "x"}, {}, step=70)
    assert told == [("train/loss", 0.5, 70), ("n", 2.0, 70)]


class Episodes:
    """An environment of two functions, whose rewards and length are the window's."""

    num_envs = 2

    def __init__(self) -> None:
        windows = SimpleNamespace(windows=lambda split: [None] * (3 if split == "validation" else 5))
        self.batch = SimpleNamespace(scenario=windows)
        self.action_space: Any = Discrete(4)
        self.acted: list[Any] = []
        self._step, self._window = 0, 2

    def begin(self, window: int, seed: int) -> Any:
        assert seed == 0
        self._step, self._window = 0, window
        return np.zeros((2, INPUTS), np.float32)

    def seed(self, seed: int) -> None:
        self.seeded = seed

    def reset(self) -> Any:
        return self._rows()

    def tier_masks(self) -> Any:
        return np.ones((2, 4), bool)

    def _rows(self) -> Any:
        # the second row is padding
        rows = np.zeros((2, INPUTS + 3), np.float32)
        rows[0] = self._step + 1
        return rows

    def step(self, action: Any) -> Any:
        self.acted.append(action)
        self._step += 1
        over = self._step == 10 * (self._window + 1)
        rewards = np.array([-1.0, -0.25 * (self._window + 1)], np.float32)
        return self._rows(), rewards, np.array([over, over]), [{}, {}]


class Follows:
    """An agent that notes whether its state comes back to it."""

    recipe: Any = None

    def __init__(self) -> None:
        self.told: list[tuple[Any, bool]] = []

    def choose(self, rows: Any, masks: Any, state: Any, first: bool) -> Any:
        self.told.append((state, first))
        return np.zeros(2, np.int64), len(self.told)


def test_an_episode_is_worth_all_its_rewards_of_all_functions() -> None:
    agent: Any = Follows()
    env: Any = Episodes()
    assert _episode(agent, env, window=1) == pytest.approx(20 * (-1 - 0.5))
    assert agent.told == [(None if k == 0 else k, k == 0) for k in range(20)]


def test_every_window_of_a_split_is_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def make_env(recipe: Any, split: Any, clusters: int) -> Any:
        asked.append((split, clusters))
        return Episodes()

    monkeypatch.setattr(algorithms_module, "make_env", make_env)
    agent: Any = Follows()
    worth = [-10 * (w + 1) * (1 + 0.25 * (w + 1)) for w in range(5)]
    assert episode_rewards(agent, "validation") == pytest.approx(worth[:3])
    assert episode_rewards(agent, "train", windows=2) == pytest.approx(worth[:2])
    assert asked == [("validation", 1), ("train", 1)]


@pytest.mark.parametrize("space", [Discrete(4), Box(-2.0, 3.0, (1,), np.float32)])
def test_moments_are_those_of_every_tenth_step_of_an_episode_without_padding(space: Any) -> None:
    env = Episodes()
    env.action_space = space
    mean, deviation = moments_of_play(env, seed=7)
    assert env.seeded == 7
    # an episode of thirty steps: rows 1, 11, 21 and 31 of the function that is real
    np.testing.assert_allclose(mean, np.full(INPUTS + 3, 16.0))
    np.testing.assert_allclose(deviation, np.full(INPUTS + 3, np.std([1, 11, 21, 31]) + 1e-3), rtol=1e-6)
    actions = np.array(env.acted)
    assert len(actions) == 30
    low, high = (0, 3) if isinstance(space, Discrete) else (-2, 3)
    assert low <= actions.min() < low + 1
    assert high - 1 < actions.max() <= high


@pytest.mark.parametrize("best", range(3))
def test_the_stage_with_the_best_reward_on_validation_windows_is_taken(
    monkeypatch: pytest.MonkeyPatch, scenario_file: str, best: int
) -> None:
    recipe = as_recipe({"kind": "algorithm", "algorithm": "ppo", "scenario": scenario_file, "checkpoints": 3})
    assert isinstance(recipe, AlgorithmRecipe)
    # means of two windows; the last window alone would say otherwise
    windows = [[-3.0, -9.0], [-6.0, -5.0], [-8.0, -4.0]]
    windows[best] = [-1.0, -8.5]
    rewards = iter(windows)
    weights = torch.zeros(1)
    model = SimpleNamespace(num_timesteps=0, policy=SimpleNamespace(state_dict=lambda: {"w": weights}))

    def learn(model: Any, env: Any, course: Course) -> list[Any]:
        stages = []
        for _ in range(3):
            model.num_timesteps += 100
            weights.add_(1)
            stages.append(course.at_stage())
        return stages

    monkeypatch.setattr(algorithms_module, "make_env", lambda *_: None)
    monkeypatch.setattr(algorithms_module, "make_model", lambda *_: model)
    monkeypatch.setattr(algorithms_module, "learn", learn)
    monkeypatch.setattr(algorithms_module, "episode_rewards", lambda agent, split: next(rewards))
    bundle = train_algorithm(recipe, seed=0)
    assert isinstance(bundle, PolicyBundle)
    # the weights as they were at that stage
    assert bundle.tensors["w"].tolist() == [best + 1]
    assert bundle.manifest["chosen"] == f"{100 * (best + 1)} rows"
    assert bundle.manifest["validation_reward"] == -4.75
    assert validation_cost(bundle) == 4.75
    assert [entry[1] for entry in bundle.manifest["tried"]] == [float(np.mean(each)) for each in windows]
