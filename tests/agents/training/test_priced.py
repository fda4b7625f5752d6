"""From a policy on priced memory to a row network: the price that was planted is the priority that comes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agents.training.hazard import moments
from agents.training.priced import critical_price, distill
from tyche_env.network import INPUTS


class Holds:
    """A policy that holds up to a price a function, which the first feature says."""

    def get_distribution(self, observed: torch.Tensor) -> Any:
        assert observed.shape[1] == INPUTS + 1
        margin = torch.log(observed[:, 0]) - observed[:, -1]
        logits = torch.stack([torch.zeros_like(margin), margin], dim=1)
        return SimpleNamespace(distribution=SimpleNamespace(logits=logits))


def test_the_critical_price_is_where_holding_no_longer_pays() -> None:
    prices = np.array([0.0005, 0.003, 0.02, 0.3, 0.9], np.float32)
    features = np.zeros((len(prices), INPUTS), np.float32)
    features[:, 0] = prices
    model: Any = SimpleNamespace(policy=Holds())
    assert critical_price(model, features) == pytest.approx(prices, rel=2e-3)
    # whoever holds at any price, or at none, gets an end of what is searched
    features[:, 0] = [1e-9, 5, 5, 5, 5]
    assert critical_price(model, features) == pytest.approx([1e-4, 1, 1, 1, 1], rel=2e-3)


def test_the_network_that_is_distilled_gives_the_price_as_priority() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(100_000, INPUTS)).astype(np.float32)
    kind = draw.integers(0, 3, len(features))
    features[:, 0] = kind
    prices = np.array([0.01, 0.1, 0.6], np.float32)[kind]
    network = distill(features, prices, seed=0)
    mean, deviation = moments(features)
    with torch.no_grad():
        priority = torch.sigmoid(network(torch.from_numpy((features - mean) / deviation)))[:, 0].numpy()
    for each in (0.01, 0.1, 0.6):
        assert np.median(priority[prices == np.float32(each)]) == pytest.approx(each, rel=0.15)
