"""Scaling: the formula, its logarithm, and that every way to it finds the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tyche_env.scaling import factors_of, factors_of_layout, scale_of, scale_rows, scaled
from tyche_env.scenario import Scenario
from tyche_env.spaces import TABLES, Layout
from tyche_env.vector import PreloadVectorEnv
from tyche_env.wrappers import ScaledObservation


def logarithms(values: Any) -> Any:
    """log(1 + u) of float32 values as the kernel finds it."""
    row = np.array([values], np.float32)
    factors = np.zeros((3, row.shape[1]), np.float32)
    factors[1], factors[2] = 1 / 32, 1  # nothing reaches 1
    scale_rows(row, factors)
    return row[0].astype(np.float64) * 32


def test_the_logarithm_is_right_from_nothing_to_the_greatest_bound() -> None:
    u = np.concatenate([[0.0], np.geomspace(1e-12, 1e11, 100_000)]).astype(np.float32)
    found, expected = logarithms(u), np.log1p(u.astype(np.float64))
    assert found[0] == 0
    assert np.abs(found[1:] / expected[1:] - 1).max() < 1.5e-6
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_scaled_by_their_formula_and_never_beyond_one(name: str) -> None:
    columns = TABLES[name]
    draw = np.random.default_rng(0)
    high = np.array([column.high for column in columns])
    values = (1.2 * high * draw.random((50, 3, len(columns))) ** 8).astype(np.float32)
    found = scaled(values.reshape(50, -1), factors_of(columns, rows=3))
    a, b = np.array([scale_of(column) for column in columns]).T
    expected = np.where(np.isinf(a), values, np.log1p(values / a)) / b
    np.testing.assert_allclose(found.reshape(values.shape), np.minimum(1, expected), atol=3e-7)


def test_a_whole_observation_is_scaled_table_by_table_and_masks_stay() -> None:
    layout = Layout.of(3, 2, 1)
    draw = np.random.default_rng(0)
    flat = draw.uniform(0, 50, (4, layout.size)).astype(np.float32)
    whole = scaled(flat, factors_of_layout(layout))
    for name, part in layout.parts.items():
        table = scaled(flat[:, part], factors_of(TABLES[name], layout.rows[name]))
        np.testing.assert_array_equal(whole[:, part], table)
    for part in layout.masks.values():
        np.testing.assert_array_equal(whole[:, part], np.minimum(1, flat[:, part]))


def test_the_scaled_batch_shows_what_the_wrapper_shows(tiny: Scenario) -> None:
    import gymnasium as gym

    arguments: dict[str, Any] = {"scenario": tiny, "decision_interval_s": 60}
    batch = PreloadVectorEnv(2, scaled=True, **arguments)
    single = ScaledObservation(gym.make("tyche_env:tyche/Preload-v1", **arguments))
    assert batch.single_observation_space == single.observation_space
    shown, _ = batch.reset(seed=5)
    expected, _ = single.reset(seed=5)
    draw = np.random.default_rng(0)
    truncated = False
    while not truncated:
        for name, values in expected.items():
            np.testing.assert_array_equal(shown[name][0], values)
        assert batch.observation_space.contains(shown)
        action = draw.uniform(-1, 1, batch.single_action_space.shape).astype(np.float32)
        shown, _, _, _, infos = batch.step(np.stack([action, action]))
        expected, _, _, truncated, _ = single.step(action)
    for name, values in expected.items():
        np.testing.assert_array_equal(infos["final_obs"][0][name], values)
