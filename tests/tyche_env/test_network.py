"""The row network: the compiled kernel, its plain twin, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tyche_env.features import features_of
from tyche_env.network import HIDDEN, INPUTS, SIZE, layers_of, priorities
from tyche_env.observe import observe
from tyche_env.scenario import Scenario
from tyche_env.simulate import new_engine, simulate
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.spaces import FUNCTION_COLUMNS, Layout, column
from tyche_env.world import Decision, Kernel, World, WorldError


def some_weights(seed: int) -> NDArray[np.float32]:
    weights = (np.random.default_rng(seed).normal(size=SIZE) * 0.2).astype(np.float32)
    weights[-1] = 0.4  # the floor
    return weights


def with_network(world: World, weights: NDArray[np.float32]) -> World:
    return replace(world, network=weights).with_settings(kernel=Kernel.NETWORK)


def rows_of(engine: CompiledEngine, functions: int) -> NDArray[np.float32]:
    nodes, gpus = len(engine.state.nodes), len(engine.state.gpus)
    layout = Layout.of(functions, nodes, gpus)
    flat = layout.blank(functions, nodes, gpus)
    observe(engine.handles, flat, layout.rows["functions"], layout.rows["nodes"], layout.rows["gpus"])
    return flat[layout.parts["functions"]].reshape(functions, len(FUNCTION_COLUMNS))


@pytest.fixture(scope="module")
def world() -> World:
    return Scenario.load("small").world(window=1, kernel="lru", seed=5)


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_kernel_agrees_with_its_plain_twin_at_any_time(world: World, seed: int) -> None:
    weights = some_weights(seed)
    engine = CompiledEngine(with_network(world, weights))
    for at_s in (0, 61, 600, 3601, 5000, 5400):
        engine.advance_until(at_s * 1_000_000)
        rows = rows_of(engine, world.function_count)
        decision, priority = engine.ask_all()
        known = rows[:, column("functions", "arrivals_count")] > 0
        twin = priorities(weights, features_of(rows))
        np.testing.assert_allclose(priority[known, 0] / 2**20, twin[known], atol=1e-5)
        floor = layers_of(weights).floor[0]
        clear = known & (abs(twin - floor) > 1e-5)
        assert (decision[clear, 0] == np.where(twin[clear] < floor, Decision.LEAVE, Decision.HOLD)).all()
        assert (decision[~known] == Decision.LEAVE).all()
        assert not priority[~known].any()


def test_the_layers_are_those_of_a_plain_perceptron() -> None:
    weights, x = some_weights(7), np.linspace(0, 3, INPUTS, dtype=np.float32)
    layers = layers_of(weights)
    hidden = [max(0.0, float(x @ layers.first[:, j] + layers.first_bias[j])) for j in range(HIDDEN)]
    deeper = [max(0.0, float(np.dot(hidden, layers.second[:, j]) + layers.second_bias[j])) for j in range(HIDDEN)]
    z = float(np.dot(deeper, layers.output) + layers.output_bias[0])
    assert priorities(weights, x) == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)


def test_a_function_never_requested_has_no_features(world: World) -> None:
    engine = CompiledEngine(with_network(world, some_weights(0)))
    engine.advance_until(60_000_000)
    rows = rows_of(engine, world.function_count)
    unknown = rows[:, column("functions", "arrivals_count")] == 0
    assert unknown.any()
    assert not features_of(rows)[unknown].any()


def test_functions_that_it_scores_alike_are_asked_every_ten_seconds(world: World) -> None:
    constant = np.zeros(SIZE, np.float32)
    once = simulate(with_network(world, constant), record="none")
    again = simulate(with_network(world, constant), record="none")
    assert (once.totals == again.totals).all()
    # even odds for all: packed by latency saved a MB alone, which still beats never loading
    plain = simulate(world.with_settings(kernel=Kernel.NONE), record="none")
    assert once.totals["warming_loading_us"].sum() < plain.totals["warming_loading_us"].sum()


def test_a_world_without_weights_is_refused(world: World) -> None:
    with pytest.raises(WorldError, match=rf"needs {SIZE} weights, got shape \(0,\)"):
        world.with_settings(kernel=Kernel.NETWORK).validate()


def test_the_reference_engine_refuses(world: World) -> None:
    with pytest.raises(WorldError, match="the reference engine knows no networks"):
        new_engine(with_network(world, some_weights(0)), "reference")
