"""Memory at a price: rewards, observations and the node with room for all, worked out by hand."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest

from tyche_env.features import WIDTH, features_of
from tyche_env.hold_price import (
    HoldPriceEnv,
    action_of,
    hold_price_observation,
    hold_price_reward,
    loads_begun,
    loads_made,
    roomy,
)
from tyche_env.network import INPUTS
from tyche_env.scenario import Scenario
from tyche_env.spaces import column


def rows(count: int, **columns: list[float]) -> Any:
    out = np.zeros((count, WIDTH), np.float32)
    for name, values in columns.items():
        out[:, column("functions", name)] = values
    return out


def test_rewards_by_hand() -> None:
    # 0 waits and is not there; 1 is held; 2 is loading; 3 waits and runs
    after = rows(
        4, saved_s=[2, 4, 5, 8], held_count=[0, 1, 0, 0], loading_count=[0, 0, 1, 0], running_count=[0, 0, 0, 1]
    )
    waited_s, price, loads = np.array([1.0, 0, 0, 2]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0.25, 1, 2])
    assert hold_price_reward(waited_s, after, price, loads, 0.0) == pytest.approx([-0.5, -0.2, -0.3, -0.25 - 0.4])
    paid = [-0.5, -0.2 - 0.05 / 4, -0.3 - 0.05, -0.25 - 0.4 - 0.1]
    assert hold_price_reward(waited_s, after, price, loads, 0.05) == pytest.approx(paid)


def test_a_part_of_a_load_is_that_part_and_a_load_that_began_is_one() -> None:
    # half of the four seconds that a load takes, and all of five
    some = rows(2, saved_s=[4, 5])
    assert loads_made(np.array([2_000_000, 5_000_000]), some).tolist() == [0.5, 1.0]
    # begun: not there before, there now, and to be held
    before = rows(4, held_count=[0, 1, 0, 0])
    after = rows(4, held_count=[0, 1, 0, 0], loading_count=[0, 0, 1, 0], running_count=[0, 0, 0, 1])
    assert loads_begun(before, after, np.array([True, True, True, False])).tolist() == [0, 0, 1, 0]


def test_a_function_that_saves_nothing_is_no_division_by_zero() -> None:
    one, nothing = rows(1), np.zeros(1)
    assert hold_price_reward(np.array([0.002]), one, np.ones(1), nothing, 0.0) == pytest.approx([-2])


def test_actions_are_to_hold_with_full_priority_or_to_let_go() -> None:
    assert action_of(np.array([1, 0, 1])).tolist() == [[1, -1], [-1, -1], [1, -1]]


def test_what_is_observed_are_the_features_and_the_log_of_the_price() -> None:
    some = rows(2, arrivals_count=[3, 0], age_s=[5, 0], censored_rate_per_s=[1, 0])
    found = hold_price_observation(some, np.array([log(0.01), log(0.4)]))
    assert found.shape == (2, INPUTS + 1)
    np.testing.assert_array_equal(found[:, :INPUTS], features_of(some))
    assert found[:, INPUTS] == pytest.approx([log(0.01), log(0.4)])


def test_the_node_has_room_for_two_containers_of_every_function() -> None:
    given = Scenario.load("costly-25")
    found = roomy(given)
    largest_mb = max(profile.container_mb for profile in given.functions.selected())
    (group,) = found.cluster.nodes
    assert (group.count, group.memory_mb) == (1, 2 * given.trace.group_size * largest_mb)
    assert found.reward.load_per_s == 0 < given.reward.load_per_s
    assert not found.contention
    assert found.trace == given.trace
    sized = roomy(given.with_(**{"functions.container_mb": 1234}))
    assert sized.cluster.nodes[0].memory_mb == 2 * given.trace.group_size * 1234


def test_prices_are_drawn_evenly_on_a_logarithmic_scale() -> None:
    env = HoldPriceEnv("small", prices=(0.01, 0.64))
    env.reset(seed=0)
    prices = np.array([exp(float(env.reset()[0][-1])) for _ in range(40)])
    assert 0.01 <= prices.min() < 0.02
    assert 0.32 < prices.max() <= 0.64
    # the middle of the scale is 0.08; of an even draw it would be a tenth
    assert 8 < (prices < 0.08).sum() < 32
