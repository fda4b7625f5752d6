"""Gymnasium's contract for batches: when episodes begin anew, options, refusals; against the single environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.scenario import Scenario
from tyche_env.vector import PreloadVectorEnv

SHORT = Scenario.load("small").with_(**{"trace.window_min": 0.5, "trace.warm_up_min": 0.25, "decision_interval_s": 10})
STEPS = 5
"""Decisions in the 45 s of an episode."""


def batch(mode: Any = AutoresetMode.SAME_STEP, number: int = 3, **more: Any) -> PreloadVectorEnv:
    return PreloadVectorEnv(number, SHORT, autoreset_mode=mode, **more)


def actions(seed: int, number: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = PreloadEnv(SHORT).max_functions
    return np.random.default_rng(seed).uniform(-1, 1, (number, rows, 2)).astype(np.float32)


def same(found: dict[str, Any], lane: int, right: dict[str, Any]) -> bool:
    return all(np.array_equal(found[name][lane], right[name]) for name in right)


def alone(
    seed: int, window: int, given: list[Any], lane: int
) -> list[tuple[dict[str, Any], float, bool, dict[str, Any]]]:
    """What the single environment shows and pays under the actions of a lane."""
    env = PreloadEnv(SHORT)
    seen, info = env.reset(seed=seed, options={"window": window})
    found = [(seen, 0.0, False, info)]
    for action in given:
        seen, reward, _, over, info = env.step(action[lane])
        found.append((seen, float(reward), over, info))
        if over:
            break
    return found


@pytest.mark.parametrize("mode", ["NEXT_STEP", "NextStep", AutoresetMode.NEXT_STEP])
def test_the_next_step_begins_the_next_episode(mode: Any) -> None:
    env = batch(mode)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    env.reset(seed=[5, 6, 7], options={"window": [0, 1, 2]})
    given = [actions(k) for k in range(STEPS)]
    right = [alone(5 + lane, lane, given, lane) for lane in range(3)]
    for step, action in enumerate(given, 1):
        seen, rewards, terminated, truncated, infos = env.step(action)
        for lane in range(3):
            assert same(seen, lane, right[lane][step][0])
            assert (rewards[lane], truncated[lane], terminated[lane]) == (*right[lane][step][1:3], False)
        assert "final_obs" not in infos
    assert truncated.all()
    seeds = infos["world_seed"].tolist()
    seen, rewards, terminated, truncated, infos = env.step(actions(9))
    assert rewards.tolist() == infos["time_s"].tolist() == [0, 0, 0]
    assert not truncated.any()
    assert infos["world_seed"].tolist() != seeds
    for lane, (seed, window) in enumerate(zip(infos["world_seed"], infos["window"], strict=True)):
        fresh, _ = PreloadEnv(SHORT).reset(seed=int(seed), options={"window": int(window)})
        assert same(seen, lane, fresh)  # the action of that step is nobody's


def test_the_same_step_says_how_the_last_episode_ended() -> None:
    env = batch()
    env.reset(seed=[5, 6, 7], options={"window": 1})
    given = [actions(k) for k in range(STEPS)]
    right = [alone(5 + lane, 1, given, lane)[-1] for lane in range(3)]
    for action in given:
        _, rewards, _, truncated, infos = env.step(action)
    assert truncated.all()
    final = infos["final_info"]
    for lane in range(3):
        assert same(infos["final_obs"][lane] | {}, slice(None), right[lane][0])  # type: ignore[arg-type]
        told = right[lane][3]
        assert {name: final[name][lane] for name in ("window", "world_seed", "time_s", "warm_up")} == {
            name: told[name] for name in ("window", "world_seed", "time_s", "warm_up")
        }
        assert final["reward_terms"]["latency"][lane] == told["reward_terms"]["latency"] == rewards[lane]
    assert final["_window"].all()
    assert infos["_final_info"].all()
    assert infos["time_s"].tolist() == [0, 0, 0]


def test_where_nobody_begins_anew_an_episode_that_is_over_is_not_played() -> None:
    env = batch("DISABLED")
    env.reset(seed=[5, 6, 7], options={"window": 0})
    for k in range(STEPS):
        env.step(actions(k))
    with pytest.raises(PreloadEnvError, match="the window of cluster 0 is over, call reset with a reset_mask"):
        env.step(actions(8))
    kept, _ = env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(PreloadEnvError, match="the window of cluster 1 is over"):
        env.step(actions(8))
    seen, infos = env.reset(seed=[1, 2, 3], options={"reset_mask": np.array([False, True, False]), "window": [0, 1, 2]})
    assert same(seen, 0, {name: value[0] for name, value in kept.items()})
    fresh, _ = PreloadEnv(SHORT).reset(seed=2, options={"window": 1})
    assert same(seen, 1, fresh)
    assert infos["time_s"].tolist() == [0, 0, 0]
    env.step(actions(8))


def test_a_mask_leaves_the_others_where_they_were() -> None:
    env, other = batch(), batch()
    for each in (env, other):
        each.reset(seed=[5, 6, 7], options={"window": 0})
        each.step(actions(1))
    env.reset(seed=9, options={"reset_mask": np.array([False, True, False])})
    found, right = env.step(actions(2)), other.step(actions(2))
    for lane in (0, 2):
        assert same(found[0], lane, {name: value[lane] for name, value in right[0].items()})
        assert found[1][lane] == right[1][lane]
    assert found[4]["time_s"].tolist() == [20, 10, 20]
    for k in range(STEPS):
        found, right = env.step(actions(k)), other.step(actions(k))
    for lane in (0, 2):  # what they draw next is theirs as well
        assert found[4]["world_seed"][lane] == right[4]["world_seed"][lane]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_refused_action_changes_nothing(bad: float) -> None:
    env, other = batch(), batch()
    for each in (env, other):
        each.reset(seed=3)
    wrong = actions(1)
    wrong[1, 2, 0] = bad
    with pytest.raises(PreloadEnvError, match="actions: row 1 holds a value that is not finite"):
        env.step(wrong)
    for k in range(STEPS):
        found, right = env.step(actions(k)), other.step(actions(k))
        assert found[1].tolist() == right[1].tolist()
        assert all(np.array_equal(found[0][name], right[0][name]) for name in right[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windo": 0}, "reset options: unknown 'windo'; there are 'window' and 'reset_mask'"),
        ({"window": 10**6}, "reset options: split train has windows 0 to"),
        ({"window": True}, "there is no True"),
        ({"window": [0, 1]}, "window: needs one for each of 3 clusters, got 2"),
        ({"window": [0, 1, -1]}, "there is no -1"),
        ({"reset_mask": [1, 0, 1]}, "reset_mask: needs 3 truth values of which one is true at least"),
        ({"reset_mask": np.zeros(3, np.bool_)}, "reset_mask: needs 3 truth values of which one is true at least"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_begins(options: dict[str, Any], message: str) -> None:
    env = batch()
    env.reset(seed=3)
    env.step(actions(0))
    with pytest.raises(PreloadEnvError, match=message):
        env.reset(options=options)
    assert env.step(actions(1))[4]["time_s"].tolist() == [20, 20, 20]


def test_a_mask_needs_something_that_was_begun() -> None:
    with pytest.raises(PreloadEnvError, match="reset_mask: call reset without it first"):
        batch().reset(options={"reset_mask": np.array([True, False, False])})
    batch().reset(options={"reset_mask": np.array([True, True, True])})


def test_a_mode_that_is_not_there_is_refused() -> None:
    with pytest.raises(PreloadEnvError, match="autoreset_mode: there are NEXT_STEP, SAME_STEP, DISABLED, got 'never'"):
        batch("never")


def test_each_cluster_is_rendered() -> None:
    env = batch(render_mode="ansi")
    env.reset(seed=3)
    shown = env.render()
    assert shown is not None
    one = PreloadEnv(SHORT, render_mode="ansi")
    one.reset(seed=4, options={"window": int(env.step(actions(0))[4]["window"][1])})
    assert shown[1] == one.render()
    assert batch().render() is None


def test_it_is_made_by_gymnasium_with_a_mode() -> None:
    env = gym.make_vec(
        "tyche_env:tyche/Preload-v1",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        scenario=SHORT,
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
