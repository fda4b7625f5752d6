"""The row network with a gate: what it wants, what it lets go, and that it runs and is kept like any agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from agents.policies.bundle import CARD, WEIGHTS, Bundle, BundleError, load_bundle, save_bundle
from agents.policies.gate import CONTEXT, GATED_SIZE, gated
from agents.policies.policy import KernelPolicy, PolicyError
from agents.policies.trained import load_learned, policy_of
from tyche_env.network import HIDDEN, SIZE, layers_of
from tyche_env.played import Played
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import Kernel, World

_INPUTS = HIDDEN + len(CONTEXT)
FLOOR = 0.99
"""Between the chances that the random weights of the tests give."""


@pytest.fixture(scope="module")
def world() -> World:
    return Scenario.load("small").world(window=1, kernel="lru", seed=5)


@pytest.fixture(scope="module")
def contended(world: World) -> World:
    cores = np.full(world.node_count, 2, np.int64)
    disks = np.ones(world.node_count, np.int64)
    return replace(world, node_cores=cores, node_disk_streams=disks).with_settings(contention=True)


def with_gate(bundle: Bundle, floor: float, keep: float, context: dict[str, float] | None = None) -> Bundle:
    """The bundle with a gate at a floor, a constant keep, and weights of the context for the gate."""
    layers = layers_of(bundle.network)
    gate = np.concatenate([layers.output, np.zeros(len(CONTEXT)), layers.output_bias])
    gate[-1] -= np.log(floor / (1 - floor))
    for name, weight in (context or {}).items():
        gate[HIDDEN + CONTEXT.index(name)] = weight
    kept = np.zeros(_INPUTS + 1)
    kept[-1] = keep
    return replace(bundle, network=gated(bundle.network, gate, kept, np.zeros(len(CONTEXT))))


def play(bundle: Bundle, world: World) -> Played:
    policy = policy_of(bundle, "agent")
    assert isinstance(policy, KernelPolicy)
    return simulate(policy.equip(world))


def test_a_gate_at_a_floor_that_keeps_all_is_the_row_network_with_that_floor(bundle: Bundle, world: World) -> None:
    network = bundle.network.copy()
    network[-1] = FLOOR
    plain = play(replace(bundle, network=network), world)
    found = play(with_gate(bundle, FLOOR, 1.0), world)
    assert found.log is not None
    np.testing.assert_array_equal(found.log, plain.log)
    assert 0 < found.counters["loads"] < play(bundle, world).counters["loads"]


def test_what_is_not_kept_is_not_put_back(bundle: Bundle, world: World) -> None:
    kept, dropped, closed = (
        play(with_gate(bundle, floor, keep), world).counters["loads"]
        for floor, keep in ((FLOOR, 1.0), (FLOOR, -1.0), (1 - 1e-9, -1.0))
    )
    assert kept > dropped > closed == 0


@pytest.mark.parametrize("name", CONTEXT)
def test_each_number_of_the_context_is_heard(bundle: Bundle, contended: World, name: str) -> None:
    loads = {
        play(with_gate(bundle, FLOOR, -1.0, {name: weight}), contended).counters["loads"] for weight in (-3.0, 0.0, 3.0)
    }
    assert len(loads) > 1


def test_it_is_kept_and_found_again(bundle: Bundle, world: World, tmp_path: Path) -> None:
    agent = with_gate(bundle, FLOOR, -1.0)
    save_bundle(agent, tmp_path)
    found = load_bundle(tmp_path)
    assert isinstance(found, Bundle)
    assert found.hash() == agent.hash()
    np.testing.assert_array_equal(found.network, agent.network)
    policy = load_learned(tmp_path)
    assert policy.kernel == Kernel.OWN
    np.testing.assert_array_equal(play(found, world).log, play(agent, world).log)


def test_weights_of_another_length_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    def zeros(count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    with pytest.raises(ValueError, match=f"needs {GATED_SIZE} weights"):
        gated(bundle.network, zeros(3), zeros(3), zeros(3))
    save_bundle(with_gate(bundle, FLOOR, 1.0), tmp_path / "gated")
    save_bundle(bundle, tmp_path / "plain")
    (tmp_path / "gated" / WEIGHTS).write_bytes((tmp_path / "plain" / WEIGHTS).read_bytes())
    with pytest.raises(BundleError, match=f"network must be {GATED_SIZE} finite numbers"):
        load_bundle(tmp_path / "gated")
    assert SIZE < GATED_SIZE
    assert (tmp_path / "gated" / CARD).is_file()


def test_it_cannot_be_asked_from_an_observation(bundle: Bundle, tiny: Scenario) -> None:
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=tiny)
    observation, _ = env.reset(seed=0)
    with pytest.raises(PolicyError, match="more than an observation shows"):
        policy_of(with_gate(bundle, FLOOR, 1.0), "agent").predict(observation)
