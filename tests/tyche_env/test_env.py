"""The environment: Gymnasium's contract, determinism, what a step and an episode return, and wrong arguments."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from tests.tyche_env.conftest import MakeEnv
from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.errors import UserError
from tyche_env.scenario import Conditions, Scenario, ScenarioError
from tyche_env.simulate import simulate
from tyche_env.spaces import Observation
from tyche_env.world import Kernel

Step = tuple[Observation, float, bool, bool, dict[str, Any]]

ROLLOUT = """
import pickle, sys
from tests.tyche_env.test_env import actions, digest, play
from tyche_env.env import PreloadEnv
from tyche_env.scenario import Conditions, Scenario
env = PreloadEnv(Scenario.load(sys.argv[1]))
print(digest([env.reset(seed=5)[0], *play(env)]))
with open(sys.argv[2], "rb") as file:
    print(digest(play(pickle.load(file), skip=100)))
"""


def actions(env: PreloadEnv) -> Iterator[NDArray[np.float32]]:
    """The same random actions at every call."""
    rng = np.random.default_rng(7)
    while True:
        yield rng.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32)


def leave(env: PreloadEnv) -> NDArray[np.float32]:
    return np.zeros((env.max_functions, 2), np.float32)


def play(env: PreloadEnv, skip: int = 0, steps: int | None = None) -> list[Any]:
    """Step through the rest of an episode, or so many steps of it, with the actions that follow the skipped ones."""
    found: list[Any] = []
    for number, action in enumerate(actions(env)):
        if number < skip:
            continue
        found.append(env.step(action))
        if found[-1][3] or len(found) == steps:
            return found
    raise AssertionError


def digest(trajectory: list[Any]) -> str:
    """A hash of everything in a trajectory, to the last bit."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return hashlib.sha256(repr(plain(trajectory)).encode()).hexdigest()


def a_whole_episode(env: PreloadEnv, seed: int = 0) -> list[Step]:
    env.reset(seed=seed, options={"window": 0})
    return play(env)


# -- Gymnasium's contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", Scenario.names())
def test_both_checkers_pass_every_shipped_scenario_without_a_warning(name: str, request: pytest.FixtureRequest) -> None:
    if "gentd26" in name:
        request.getfixturevalue("trace_folder")
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=name)
    check_env(env.unwrapped)
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    check_env_sb3(env)


def test_the_window_ends_in_truncation_never_in_termination(make_env: MakeEnv) -> None:
    env = make_env(decision_interval_s=7)
    steps = a_whole_episode(env)
    assert not any(terminated for _, _, terminated, _, _ in steps)
    assert [truncated for _, _, _, truncated, _ in steps] == [False] * (len(steps) - 1) + [True]
    assert len(steps) == -(-env.world.end_us // 7_000_000)


def test_info_tells_window_seed_time_and_warm_up(make_env: MakeEnv) -> None:
    env = make_env(decision_interval_s=70)
    _, first = env.reset(seed=11, options={"window": 1})
    infos = [first, *(info for *_, info in play(env))]
    assert {info["window"] for info in infos} == {1}
    assert {info["world_seed"] for info in infos} == {11}
    end_s, score_from_s = env.world.end_us / 1e6, env.world.score_from_us / 1e6
    assert [info["time_s"] for info in infos] == [*np.arange(0, end_s, 70), end_s]
    # a step is a warm-up step if scoring had not begun at its end
    assert [info["warm_up"] for info in infos] == [info["time_s"] <= score_from_s for info in infos]
    assert {info["warm_up"] for info in infos} == {True, False}


def test_the_last_observation_is_of_the_end_of_the_window_not_of_the_drained_cluster() -> None:
    env = PreloadEnv("small", split="test")
    drained_us = []
    for seed in range(8):
        *_, (observation, *_) = a_whole_episode(env, seed)
        assert observation["cluster"][0] == np.float32(env.world.end_us / 1e6)
        assert env.backend.state.cluster["finished"][0] == len(env.world.arrival_us)
        drained_us.append(env.backend.state.cluster["now_us"][0])
    assert max(drained_us) > env.world.end_us


def test_nothing_that_a_call_returned_changes_later(make_env: MakeEnv) -> None:
    env = make_env()
    kept: list[Any] = [env.reset(seed=0)]
    kept += play(env, steps=60)
    before = copy.deepcopy(kept)
    play(env, skip=60)
    env.reset(seed=1)
    play(env, steps=60)
    assert digest(kept) == digest(before)


def test_info_and_observation_are_the_callers_own(make_env: MakeEnv) -> None:
    undisturbed = digest(a_whole_episode(make_env()))
    env = make_env()
    env.reset(seed=0, options={"window": 0})
    seen: list[Any] = []
    for action in actions(env):
        step = env.step(action)
        seen.append(copy.deepcopy(step))
        for values in (*step[0].values(), step[4]["function_rewards"], action):
            values.fill(1e9)
        step[4]["reward_terms"].clear()
        if step[3]:
            break
    assert digest(seen) == undisturbed


def test_close_may_be_called_twice_and_ends_the_run(make_env: MakeEnv) -> None:
    env = make_env()
    env.close()
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(UserError, match="call reset first"):
        env.step(leave(env))
    env.reset(seed=0)


# -- determinism -------------------------------------------------------------------------------------------------------


def test_same_seed_same_trajectory(make_env: MakeEnv) -> None:
    env = make_env()
    first = digest([env.reset(seed=5), *play(env)])
    assert digest([env.reset(seed=5), *play(env)]) == first
    other = make_env()
    assert digest([other.reset(seed=5), *play(other)]) == first
    assert digest([other.reset(seed=6), *play(other)]) != first


def test_without_a_seed_episodes_differ_but_follow_from_the_first_seed(make_env: MakeEnv) -> None:
    def seeds(env: PreloadEnv) -> list[tuple[int, int]]:
        env.reset(seed=3)
        return [(env.window, env.world_seed) for _ in range(5) if env.reset()]

    drawn = seeds(make_env())
    assert len(set(drawn)) == 5
    assert len({window for window, _ in drawn}) > 1
    assert seeds(make_env()) == drawn


def test_a_window_is_the_same_requests_under_every_policy(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=5, options={"window": 0})
    first = env.world
    play(env)
    env.reset(seed=5, options={"window": 0})
    assert np.array_equal(first.arrival_us, env.world.arrival_us)
    env.reset(seed=6, options={"window": 0})
    assert not np.array_equal(first.arrival_us, env.world.arrival_us)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_in_mid_episode_goes_on_alike_and_apart(make_env: MakeEnv, make_copy: Any) -> None:
    env = make_env()
    env.reset(seed=5)
    play(env, steps=100)
    twin = make_copy(env)
    rest = play(twin, skip=100)
    assert digest(play(env, skip=100)) == digest(rest)
    assert np.array_equal(env.result().totals, twin.result().totals)


def test_another_process_sees_the_same_trajectory(tiny: Scenario, tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.yaml"
    scenario.write_text(tiny.to_yaml())
    env = PreloadEnv(Scenario.load(scenario))
    start = env.reset(seed=5)[0]
    steps = play(env, steps=100)
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    rest = play(env, skip=100)
    answer = subprocess.run(
        [sys.executable, "-c", ROLLOUT, str(scenario), str(tmp_path / "env.pickle")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == [digest([start, *steps, *rest]), digest(rest)]


# -- what an episode measures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision_interval_s", [10, 37])
@pytest.mark.parametrize("prewarm", ["openwhisk", "histogram"])
@pytest.mark.parametrize("mode", ["paper", "realistic"])
def test_leaving_everything_is_the_lru_policy(
    tiny: Scenario, make_env: MakeEnv, decision_interval_s: float, prewarm: str, mode: str
) -> None:
    env = make_env(split="test", decision_interval_s=decision_interval_s, prewarm=prewarm, mode=mode)
    env.reset(seed=2, options={"window": 1})
    while not env.step(leave(env))[3]:
        pass
    found = env.result()
    world = tiny.world("test", 1, 2, Kernel.LRU, Conditions(prewarm, mode))  # type: ignore[arg-type]
    expected = simulate(world, decision=decision_interval_s)
    assert found.log is not None
    assert expected.log is not None
    assert np.array_equal(found.log, expected.log)
    assert np.array_equal(found.totals, expected.totals)
    assert found.end_to_end_percentiles_us == expected.end_to_end_percentiles_us
    assert found.counters == expected.counters
    for name, values in expected.integrals_mb_us.items():
        assert found.integrals_mb_us[name].tolist() == values.tolist()


def test_result_scores_requests_that_arrive_after_the_warm_up(make_env: MakeEnv) -> None:
    env = make_env()
    a_whole_episode(env)
    result = env.result()
    assert result.log is not None
    assert sorted(result.log["request"]) == np.flatnonzero(env.world.arrival_us >= env.world.score_from_us).tolist()
    assert result.totals["requests"].sum() == len(result.log)
    assert len(result.log) < len(env.world.arrival_us)


def test_actions_within_the_dead_zone_leave_and_only_signs_matter_below(make_env: MakeEnv) -> None:
    def rewards(change: Any) -> list[float]:
        env = make_env()
        env.reset(seed=0, options={"window": 0})
        found = []
        for action in actions(env):
            _, reward, _, truncated, _ = env.step(change(action))
            found.append(float(reward))
            if truncated:
                return found
        raise AssertionError

    def leave_some(fill: float) -> Any:
        return lambda action: np.where(action > 0.5, action, np.where(action < 0, -1.0, fill))

    assert rewards(leave_some(0.0)) == rewards(leave_some(0.0499)) == rewards(leave_some(-0.0499))
    assert rewards(lambda a: np.where(a < -0.05, -1.0, a)) == rewards(lambda a: np.where(a < -0.05, -0.051, a))
    assert rewards(leave_some(0.0)) != rewards(leave_some(-1.0))


def test_actions_beyond_the_bounds_count_as_the_bounds(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    env.step(leave(env) + 9)
    assert (env.backend.state.functions["priority"] == 1 << 20).all()


def test_more_rows_than_functions_change_nothing(make_env: MakeEnv) -> None:
    env, padded = make_env(), make_env(max_functions=25)
    assert env.max_functions == 10
    env.reset(seed=0)
    padded.reset(seed=0)
    for action in actions(env):
        wide = np.ones((25, 2), np.float32)
        wide[:10] = action
        _, reward, _, truncated, info = env.step(action)
        _, reward_padded, _, _, info_padded = padded.step(wide)
        assert reward == reward_padded
        assert np.array_equal(info["function_rewards"], info_padded["function_rewards"][:10])
        assert not info_padded["function_rewards"][10:].any()
        if truncated:
            break


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_mode": "human"}, "render_mode 'human': there are ansi and rgb_array"),
        ({"split": "tests"}, "split 'tests': there are train, validation, test"),
        ({"decision_interval_s": 0}, "decision_interval_s: needs a positive number of seconds, got 0"),
        ({"decision_interval_s": float("nan")}, "decision_interval_s: needs a positive number of seconds, got nan"),
        ({"decision_interval_s": float("inf")}, "decision_interval_s: needs a positive number of seconds, got inf"),
        ({"max_functions": 3}, "max_functions: the largest train window has 10, got 3"),
        ({"prewarm": "openwisk"}, "prewarm.policy: prewarm openwisk: there is no such prewarm; did you mean openwhisk"),
        ({"mode": "real"}, "mode: Input should be 'paper' or 'realistic'"),
        ({"backend": "simulate"}, "backend simulate: there is no such backend; did you mean simulated?"),
    ],
)
def test_a_wrong_option_is_named(make_env: MakeEnv, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        make_env(**options)
    assert message in str(error.value)


def test_a_scenario_may_be_a_name_a_path_a_mapping_or_itself(tiny: Scenario, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny.to_yaml())
    assert PreloadEnv("small").scenario == Scenario.load("small")
    for scenario in (tiny, str(path), tiny.model_dump()):
        assert PreloadEnv(scenario).scenario == tiny
    with pytest.raises(ScenarioError, match="did you mean small"):
        PreloadEnv("smal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": 1}, "reset options: unknown 'windows'; there is 'window'"),
        ({"window": 1000}, "there is no 1000"),
        ({"window": -1}, "split train has windows 0 to"),
        ({"window": "first"}, "there is no 'first'"),
        ({"window": 0.5}, "there is no 0.5"),
    ],
)
def test_a_wrong_reset_option_is_named(make_env: MakeEnv, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PreloadEnvError) as error:
        make_env().reset(options=options)
    assert message in str(error.value)


def test_the_last_window_is_there_and_none_after_it(make_env: MakeEnv) -> None:
    env = make_env()
    count = len(env.windows)
    assert env.reset(options={"window": count - 1})[1]["window"] == count - 1
    with pytest.raises(PreloadEnvError, match=f"windows 0 to {count - 1}, there is no {count}"):
        env.reset(options={"window": count})


def test_a_wrong_action_is_refused_and_changes_nothing(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=5)
    play(env, steps=100)
    with pytest.raises(PreloadEnvError, match=r"action: needs shape \(10, 2\), got \(20,\)"):
        env.step(leave(env).reshape(-1))
    for value in (np.nan, np.inf):
        action = leave(env)
        action[3, 1] = value
        with pytest.raises(PreloadEnvError, match="action: holds a value that is not finite"):
            env.step(action)
    untouched = make_env()
    untouched.reset(seed=5)
    play(untouched, steps=100)
    assert digest(play(env, skip=100)) == digest(play(untouched, skip=100))


def test_calls_out_of_order_are_named(make_env: MakeEnv) -> None:
    env = make_env()
    with pytest.raises(PreloadEnvError, match="call reset first"):
        env.step(leave(env))
    env.reset(seed=0)
    with pytest.raises(PreloadEnvError, match=r"result\(\) needs a finished window"):
        env.result()
    play(env)
    with pytest.raises(PreloadEnvError, match="the window is over, call reset"):
        env.step(leave(env))
    env.reset(seed=1)
    with pytest.raises(PreloadEnvError, match=r"result\(\) needs a finished window"):
        env.result()
