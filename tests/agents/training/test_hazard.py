"""The supervised network: chances that are planted come out, in the head of their horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agents.policies.recipe import HazardRecipe
from agents.training import hazard as hazard_module
from agents.training.choose import Candidate, Chosen
from agents.training.data import HORIZONS_S, Rows
from agents.training.hazard import HELD, export, fit, make_network, moments, train_heads, worth_of
from tyche_env.network import INPUTS, layers_of, logits, priorities

WAITS_S = (2.0, 9.0, 60.0, 200.0, 300.5)
"""Equally often; 2 and 60 s lie just within their horizon, the last beyond all."""
SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of :data:`WAITS_S` within each horizon."""


def planted(per_h: float = 1.0) -> Rows:
    """Rows of functions that look alike, but for a feature that says nothing."""
    count = 2000
    features = np.ones((count, INPUTS), np.float32)
    features[:, 3] = np.random.default_rng(0).normal(size=count)
    waits = np.tile(np.array(WAITS_S, np.float32), count // len(WAITS_S))
    return Rows(features, waits, np.full(count, per_h, np.float32))


@pytest.fixture(scope="module")
def long(recipe: HazardRecipe) -> HazardRecipe:
    return recipe.model_copy(update={"epochs": 20, "batch_size": 100, "learning_rate": 0.01})


def chances(rows: Rows, recipe: HazardRecipe) -> Any:
    network, mean, deviation = fit(rows, recipe, seed=0)
    with torch.no_grad():
        return torch.sigmoid(network(torch.from_numpy((rows.features - mean) / deviation))).numpy().mean(axis=0)


def test_the_chance_within_each_horizon_is_the_share_of_requests_within_it(long: HazardRecipe) -> None:
    np.testing.assert_allclose(chances(planted(), long), SHARES, atol=0.04)


def test_where_requests_are_many_a_chance_counts_less(long: HazardRecipe) -> None:
    assert worth_of(np.array([4], np.float32), 0.5).tolist() == [0.5]
    rare = long.model_copy(update={"rare_exponent": 0.5})
    np.testing.assert_allclose(chances(planted(per_h=4), rare), np.array(SHARES) / 2, atol=0.04)


def test_scaling_is_folded_into_the_first_layer() -> None:
    torch.manual_seed(1)
    network = make_network(1)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    mean, deviation = np.linspace(-3, 3, INPUTS, dtype=np.float32), np.linspace(0.5, 2, INPUTS, dtype=np.float32)
    weights = export(linear[:2], mean, deviation, linear[2].weight.detach().numpy()[0], float(linear[2].bias.detach()))
    x = np.random.default_rng(0).normal(size=(50, INPUTS)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy((x - mean) / deviation))[:, 0].numpy()
    np.testing.assert_allclose(logits(weights, x), expected, atol=1e-5)
    assert layers_of(weights).floor == 0


def test_moments_by_hand() -> None:
    features = np.zeros((2, INPUTS), np.float32)
    features[:, 0], features[:, HELD] = (1, 5), (1, 1)
    mean, deviation = moments(features)
    assert (mean[0], mean[HELD], deviation[HELD]) == (3, 0, 1)
    assert deviation[0] == pytest.approx(2)


def test_each_horizon_has_its_own_head_and_each_seed_its_own_expansions(
    recipe: HazardRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    offered: list[Candidate] = []
    network = make_network(len(HORIZONS_S))
    with torch.no_grad():
        for layer in (layer for layer in network if isinstance(layer, nn.Linear)):
            layer.weight.zero_()
            layer.bias.zero_()
        output: Any = network[-1]
        output.bias.copy_(torch.logit(torch.tensor(SHARES)))

    def rows_of(scenario: Any, *, seeds: tuple[int, ...], share: float) -> Rows:
        asked.append(seeds)
        return planted()

    def choose(candidates: Any, *_: Any) -> Chosen:
        offered.extend(candidates)
        return Chosen(candidates[-1], 40, 0.5, ())

    unscaled = np.zeros(INPUTS, np.float32), np.ones(INPUTS, np.float32)
    monkeypatch.setattr(hazard_module, "rows_of", rows_of)
    monkeypatch.setattr(hazard_module, "fit", lambda *_: (network, *unscaled))
    monkeypatch.setattr(hazard_module, "choose", choose)
    given = recipe.model_copy(update={"expansions": 3, "horizons_s": (60, 10)})
    for seed in range(2):
        bundle, heads = train_heads(given, seed)
    # no two seeds see the same expansion of the counts
    assert asked == [(0, 1, 2), (3, 4, 5)]
    for horizon_s, share in zip(HORIZONS_S, SHARES, strict=True):
        assert priorities(heads[horizon_s], np.zeros(INPUTS, np.float32)) == pytest.approx(share)
    assert [candidate.name for candidate in offered[:2]] == ["horizon 60 s", "horizon 10 s"]
    # what was chosen is what is shipped
    np.testing.assert_array_equal(bundle.network, heads[10.0])
    assert bundle.settings == {"displace_percent": 40}
