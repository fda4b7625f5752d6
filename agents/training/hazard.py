"""Supervised training: how likely is a request within 2, 10, 60 and 300 s?

The network is rewarded for calibrated chances (binary cross-entropy), not for latency; the decision core turns a chance
into a density by the latency saved and the memory taken.  Which horizon serves the cluster best is left to the
validation windows.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.playing.runs import Crew
from agents.playing.spread import THIS_PROCESS
from agents.policies.bundle import Bundle
from agents.policies.recipe import HazardRecipe
from agents.training.choose import Candidate, choose
from agents.training.course import Log, Progress
from agents.training.data import HORIZONS_S, Rows, joined, rows_of
from agents.training.manifest import manifest, of_choice
from tyche_env.network import FEATURES, HIDDEN, INPUTS

HELD = FEATURES.index("held")


def make_network(outputs: int) -> nn.Sequential:
    """Two hidden layers of rectified linear units."""
    return nn.Sequential(
        nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def fit(
    rows: Rows, recipe: HazardRecipe, seed: int, log: Log | None = None, progress: Progress | None = None
) -> tuple[nn.Sequential, NDArray[np.float32], NDArray[np.float32]]:
    """Train on rows; returns the network for scaled features, and their mean and deviation.

    One thread computes and all draws follow the seed, so that equal arguments give equal weights on one machine.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(len(HORIZONS_S))
    with torch.no_grad():
        first: Any = network[0]
        first.weight[:, HELD] = 0.0  # when a request comes does not depend on what is held
    mean, deviation = moments(rows.features)
    features = torch.from_numpy((rows.features - mean) / deviation)
    features[:, HELD] = 0.0
    wait_s, horizons = torch.from_numpy(rows.wait_s), torch.tensor(HORIZONS_S)
    worth = torch.from_numpy(worth_of(rows.requests_per_h, recipe.rare_exponent))
    batches = max(1, len(rows) // recipe.batch_size)
    optimiser = torch.optim.Adam(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs * batches)
    loss_of = nn.BCEWithLogitsLoss()
    for epoch in range(recipe.epochs):
        total = 0.0
        order = torch.randperm(len(rows), generator=generator)
        for batch in range(batches):
            taken = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            target = (wait_s[taken, None] <= horizons).float() * worth[taken, None]
            loss = loss_of(network(features[taken]), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
            if progress:
                progress((epoch + (batch + 1) / batches) / recipe.epochs)
        if log:
            log.add_scalar("hazard/loss", total / batches, epoch + 1)
    return network, mean, deviation


def worth_of(requests_per_h: NDArray[np.float32], exponent: float) -> NDArray[np.float32]:
    """What a second of waiting counts: 1 at one request an hour and below, and less the more often one comes.

    The mean over functions counts a second of a rarely requested function for more than the mean over requests does; an
    exponent of 0 counts requests, of 1 functions.

    Args:
        requests_per_h: (n,) of each row's function.
        exponent: 0 to 1.
    """
    return np.maximum(requests_per_h, np.float32(1)) ** np.float32(-exponent)


def moments(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each feature; 0 and 1 for the flag ``held``."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + np.float32(1e-6)
    mean[HELD], deviation[HELD] = 0.0, 1.0
    return mean, deviation


def export(
    layers: list[nn.Linear],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    output: NDArray[np.floating[Any]],
    output_bias: float,
) -> NDArray[np.float32]:
    """Flat weights of the row network, the features' scaling folded into the first layer, and a floor of 0.

    Args:
        layers: the two hidden layers, HIDDEN wide.
        mean: (INPUTS,) of the features.
        deviation: (INPUTS,).
        output: (HIDDEN,) weights of the output.
        output_bias: its bias.
    """
    return flatten(_of(layers[0]), _of(layers[1]), mean, deviation, output, output_bias)


Layer = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights (inputs, outputs) and biases."""


def flatten(
    hidden_1: Layer,
    hidden_2: Layer,
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    output: NDArray[np.floating[Any]],
    output_bias: float,
) -> NDArray[np.float32]:
    """The same as :func:`export` for layers that are arrays."""
    first, first_bias = hidden_1
    second, second_bias = hidden_2
    folded = first / deviation[:, None].astype(np.float64)
    bias = first_bias - mean.astype(np.float64) @ folded
    parts = (folded.reshape(-1), bias, second.reshape(-1), second_bias, output, [output_bias], [0.0])
    return np.concatenate(parts).astype(np.float32)


def train_hazard(
    recipe: HazardRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    workers: Crew = THIS_PROCESS,
) -> Bundle:
    """Train by a recipe, choose horizon and bonus on the validation windows, and bundle the result."""
    return train_heads(recipe, seed, log, progress, workers)[0]


def train_heads(
    recipe: HazardRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    workers: Crew = THIS_PROCESS,
) -> tuple[Bundle, dict[float, NDArray[np.float32]]]:
    """The same, and the row networks of all horizons, which differ in nothing but their output."""
    started = time.process_time() + workers.cpu_s
    scenarios = [recipe.scenario_of(name) for name in recipe.scenarios]
    expansions = tuple(range(recipe.expansions * seed, recipe.expansions * (seed + 1)))
    rows = joined([rows_of(scenario, seeds=expansions, share=recipe.share) for scenario in scenarios])
    network, mean, deviation = fit(rows, recipe, seed, log, progress)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    output, output_bias = _of(linear[2])
    heads = {
        horizon_s: export(linear[:2], mean, deviation, output[:, at], float(output_bias[at]))
        for at, horizon_s in enumerate(HORIZONS_S)
    }
    candidates = [Candidate(f"horizon {horizon_s:g} s", heads[horizon_s]) for horizon_s in recipe.horizons_s]
    chosen = choose(candidates, recipe.choice, [recipe.scenario_of(name) for name in recipe.choice.scenarios], workers)
    bundle = Bundle(
        network=chosen.candidate.network,
        mean=mean,
        deviation=deviation,
        settings={"displace_percent": chosen.displace_percent},
        recipe=recipe,
        manifest=manifest(scenarios, seed, len(rows), started - workers.cpu_s) | of_choice(chosen),
    )
    return bundle, heads


def _of(layer: nn.Linear) -> Layer:
    """Weights (inputs, outputs) and biases of a layer."""
    return layer.weight.detach().numpy().T.astype(np.float64), layer.bias.detach().numpy().astype(np.float64)
