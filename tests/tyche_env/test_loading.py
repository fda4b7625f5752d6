"""The price of loads: what lies in a step is charged in it, on one cluster and on many; version 0 does as it did.

The world is worked out by hand: one container, of function A, until 10 s; B is to be held from 20 s on, and its load
takes until 25 s.  At 30 s A clears it out; when A ends, at 34 s, B is loaded again, until A clears it out at 37 s; from
41 s on B is loaded for the third time, until at 44 s its own request takes the load over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import tyche_env  # noqa: F401 - registers the ids
from tests.tyche_env.simulator.test_rules import a_world, function, interval
from tyche_env.accounting import loading_us
from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.hold_price import HoldPriceEnv
from tyche_env.scenario import Scenario
from tyche_env.vector import PreloadVectorEnv

PRICE = 0.25
SECOND = 1_000_000
Make = Callable[..., Any]


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of an environment in which the world by hand happens, in steps of 2 s."""
    arrivals: list[tuple[float, int]] = [(0, 0), (30, 0), (37, 0), (44, 1)]
    world = a_world([function(), function()], arrivals, nodes=(1000,), end=48, **interval())
    monkeypatch.setattr(Scenario, "world", lambda *_: replace(world, score_from_us=24 * SECOND))
    scenario = Scenario.load("small").with_(
        **{"cluster.nodes": [{"count": 1, "memory_mb": 1000}], "reward": {"load_per_s": PRICE}}
    )
    return {"scenario": scenario, "decision_interval_s": 2, "max_functions": 40}


def played(env: Any, shape: tuple[int, ...]) -> tuple[list[float], list[Any]]:
    """Rewards and infos of an episode in which B is to be held from 20 s on."""
    env.reset(seed=0)
    rewards, infos = [], []
    for step in range(24):
        action = np.zeros(shape, np.float32)
        action[..., 1, 0] = float(step >= 10)
        _, reward, *_, info = env.step(action)
        rewards.append(float(np.squeeze(reward)))
        infos.append(info)
    return rewards, infos


# seconds of loading in the steps that begin at 20, 22, ... 44 s
PRORATED = [2, 2, 1, 0, 0, 0, 0, 2, 1, 0, 1, 2, 0]
AT_THE_END = [0, 0, 5, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0]
"""Booked when a load ends: at 25, 37 and 44 s, which is the end of the step from 42 s on."""
NOMINAL = [5, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0]
"""Booked with the whole nominal time when a load begins: at 20, 34 (as the last event of its step) and 41 s."""


@pytest.mark.parametrize(("version", "charged_s"), [(0, AT_THE_END), (1, PRORATED)])
def test_a_step_is_charged_for_loads(arguments: dict[str, Any], version: int, charged_s: list[int]) -> None:
    env = PreloadEnv(**arguments, version=version)
    rewards, infos = played(env, (40, 2))
    terms = [info["reward_terms"]["load"] for info in infos]
    assert terms == [0.0] * 10 + [-PRICE * second for second in charged_s] + [0.0]
    # nobody waits from 20 s on but for what B's request takes over: 2 s
    assert sum(rewards[10:]) == -PRICE * 11 - 2
    by_function = sum(info["function_rewards"] for info in infos)
    assert by_function[:3].tolist() == [-6.0, -2.0 - (PRICE * 11 if version else 0.0), 0.0]
    # of the window from 24 s on: 1 s of the first load, and the others, of which the second was wasted as well
    counters = env.result().counters
    assert (counters["load_us"], counters["loads"]) == (7 * SECOND, 2)
    assert (counters["wasted_load_us"], counters["wasted_loads"]) == (4 * SECOND, 2)


@pytest.mark.parametrize(("version", "charged_s"), [(0, NOMINAL), (1, PRORATED)])
def test_a_step_of_a_batch_is_charged_for_loads(arguments: dict[str, Any], version: int, charged_s: list[int]) -> None:
    batch = PreloadVectorEnv(1, **arguments, version=version)
    rewards, infos = played(batch, (1, 40, 2))
    loads = np.array([info["function_rewards"][0, 1] for info in infos])
    loads[22] += 2  # what B's request waits
    assert loads.tolist() == [0.0] * 10 + [-PRICE * second for second in charged_s] + [0.0]
    assert rewards == [info["function_rewards"].sum() for info in infos]


def test_who_asks_is_told_how_long_loads_took_whatever_their_price(arguments: dict[str, Any]) -> None:
    free = arguments | {"scenario": arguments["scenario"].with_(reward={"load_per_s": 0})}
    _, infos = played(PreloadVectorEnv(1, **free, measure_loads=True), (1, 40, 2))
    assert [info["loading_us"][0, 1] / SECOND for info in infos[10:23]] == PRORATED
    assert not any(info["loading_us"][0, [0, 2]].any() for info in infos)
    _, infos = played(PreloadVectorEnv(1, **free), (1, 40, 2))
    assert not any("loading_us" in info for info in infos)


def a_batch_equals_a_single_environment(scenario: Scenario, **options: Any) -> float:
    """Compare an episode and the first steps of the next one, to the last bit; returns what loads cost."""
    batch, single = PreloadVectorEnv(2, scenario, **options), PreloadEnv(scenario, **options)
    batch.reset(seed=[5, 9], options={"window": 1})
    single.reset(seed=9, options={"window": 1})
    draw = np.random.default_rng(0)
    over, loads = False, 0.0
    while not over:
        actions = draw.uniform(-1, 1, (2, batch.max_functions, 2)).astype(np.float32)
        actions[np.abs(actions) < 0.6] = 0
        _, rewards, _, truncated, infos = batch.step(actions)
        _, reward, _, over, info = single.step(actions[1])
        loads += info["reward_terms"]["load"]
        assert rewards[1] == reward
        assert np.array_equal(infos["function_rewards"][1], info["function_rewards"])
        assert truncated[1] == over
    for _ in range(20):
        if over:
            single.reset(seed=int(infos["world_seed"][1]), options={"window": int(infos["window"][1])})
        actions = draw.uniform(-1, 1, (2, batch.max_functions, 2)).astype(np.float32)
        _, rewards, _, _, infos = batch.step(actions)
        _, reward, _, over, info = single.step(actions[1])
        assert rewards[1] == reward
        assert np.array_equal(infos["function_rewards"][1], info["function_rewards"])
    return loads


@pytest.mark.parametrize("interval_s", [60, 37])
def test_a_batch_equals_a_single_environment_to_the_last_bit(interval_s: float) -> None:
    # 37 s is no divisor of the warm-up, so scoring begins within a step
    small = Scenario.load("small").with_(reward={"load_per_s": 0.3})
    assert a_batch_equals_a_single_environment(small, decision_interval_s=interval_s) < -10


def test_a_step_in_which_scoring_begins_and_the_window_ends_is_added_up_alike(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # unrounded waits of one queue, some of them before scoring begins, some after it, and some in the drain
    quick = function(init=0.1, library=0.71, model=0.37, inference=0.3)
    apart: set[bool] = set()
    for shift in range(8):
        arrivals = [(0.1 + 0.013 * shift + 0.037 * at, 0) for at in range(40)]
        world = replace(a_world([quick], arrivals, nodes=(1000,), end=8, **interval()), score_from_us=5 * SECOND)
        monkeypatch.setattr(Scenario, "world", lambda *_, world=world: world)
        options = arguments | {"decision_interval_s": 8}
        batch, single = PreloadVectorEnv(1, **options), PreloadEnv(**options)
        batch.reset(seed=0)
        single.reset(seed=0)
        leave = np.zeros((1, 40, 2), np.float32)
        _, rewards, _, _, infos = batch.step(leave)
        _, reward, _, over, info = single.step(leave[0])
        assert over
        assert rewards[0] == reward
        assert np.array_equal(infos["function_rewards"][0], info["function_rewards"])
        log = single.backend.log()
        waits_s = (log["end_us"] - log["inference_us"] - log["arrival_us"]) * 1e-6
        apart.add(float(reward) != -float(sum(waits_s.tolist())))
    assert True in apart  # so it matters how they are added up


def test_a_batch_equals_a_single_environment_where_loads_have_a_price() -> None:
    assert a_batch_equals_a_single_environment(Scenario.load("costly-25")) < -10


@pytest.mark.parametrize("version", [0, 1])
def test_steps_add_up_to_all_loads(tiny: Scenario, version: int) -> None:
    env = PreloadEnv(tiny.with_(reward={"load_per_s": PRICE}), version=version)
    env.reset(seed=3, options={"window": 0})
    draw, over, charged = np.random.default_rng(3), False, 0.0
    while not over:
        action = draw.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32)
        *_, over, info = env.step(action)
        charged += info["reward_terms"]["load"]
    all_us = loading_us(env.backend.state)
    assert all_us.sum() == env.backend.counters()["load_us"] > 0
    ended_us = int(env.backend.state.cluster["ended_load_us"][0])
    assert charged == pytest.approx(-PRICE * (ended_us if version == 0 else all_us.sum()) / 1e6)


def test_a_whole_load_costs_its_price_alone_too(tiny: Scenario) -> None:
    def played(load_cost: float, version: int) -> tuple[list[float], Any]:
        quiet = tiny.with_(**{"functions.noise": False, "controller.command_ms": 0})
        env = HoldPriceEnv(quiet, decision_interval_s=1, load_cost=load_cost, version=version)
        env.reset(seed=1)
        found, over, step = [], False, 0
        while not over:
            _, reward, _, over, _ = env.step(step // 20 % 2)  # held for 20 s, let go for 20 s
            found.append(reward)
            step += 1
        return found, env._engine

    free, engine = played(0.0, 1)
    loads, function = engine.counters()["loads"], engine.state.functions[0]
    made = engine.counters()["load_us"] / (function["library_us"] + function["model_us"])
    assert loads - 1 < made <= loads  # what requests took over is not all made
    begun_costs, made_costs = (np.subtract(free, played(0.5, version)[0]) for version in (0, 1))
    # a load of some seconds spans steps of one second: all of it is charged in one of them, or in each its share
    assert begun_costs.sum() == pytest.approx(0.5 * loads)
    assert begun_costs.max() == pytest.approx(0.5)
    assert made_costs.sum() == pytest.approx(0.5 * made)
    assert 0 < made_costs.max() < 0.4


def test_other_versions_are_refused_by_their_number() -> None:
    for make in (PreloadEnv, HoldPriceEnv, lambda **options: PreloadVectorEnv(1, **options)):
        with pytest.raises(PreloadEnvError, match="version: there are 0 to 1, got 2"):
            make(version=2)


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_ids_have_their_versions() -> None:
    for version in (0, 1):
        for name in (f"tyche/Preload-v{version}", f"tyche/HoldPrice-v{version}"):
            made = gym.make(name, scenario="small")
            assert made.unwrapped.version == version  # type: ignore[attr-defined]
        batch = gym.make_vec(f"tyche/Preload-v{version}", 2, vectorization_mode="vector_entry_point", scenario="small")
        assert isinstance(batch, PreloadVectorEnv)
        assert batch.version == version
