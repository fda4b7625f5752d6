"""Policy search where it counts: a supervised network is bent towards lower cost in whole clusters.

The supervised network knows when requests come, not what a load costs nor what holding one function does to others.
Evolution strategies (Salimans et al., 2017) move the part of it that turns what it knows into a priority: the last
layer, the biases before it, the weights of the flag ``held``, the floor and the bonus.  Each trial plays whole training
windows, so every consequence of a decision counts, without a model of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.learned.bundle import Bundle
from agents.learned.choose import Candidate, Chosen, cost, load_per_s, score
from agents.learned.hazard import HELD, Log, Progress, train_hazard
from agents.learned.manifest import manifest
from agents.learned.recipe import HazardRecipe, RecipeError, SearchRecipe, load_recipe
from tyche_env.network import HIDDEN, SIZE
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import Kernel, World

Vector = NDArray[np.float64]

_OUTPUT = SIZE - 2 - HIDDEN
_MOVED = np.concatenate(
    [np.arange(HELD * HIDDEN, (HELD + 1) * HIDDEN), np.arange(_OUTPUT - HIDDEN, _OUTPUT), np.arange(_OUTPUT, SIZE - 1)]
)
_SCALE = np.concatenate([np.full(HIDDEN, 0.15), np.full(HIDDEN, 0.1), np.full(HIDDEN + 1, 0.05), [0.2, 0.2]])
PARAMETERS = len(_SCALE)
"""Moved weights, then log of the floor and log of the bonus."""
_LARGEST_BONUS, _LARGEST_FLOOR = 2000, 0.95


@dataclass(frozen=True, slots=True)
class _Game:
    """A training world with what a ms of loading costs there, and Tyche's two costs."""

    world: World
    load_price: float
    tyche: tuple[float, float]


def train_search(recipe: SearchRecipe, seed: int, log: Log | None = None, progress: Progress | None = None) -> Bundle:
    """Search from the supervised network of the same seed; the validation windows choose the generation.

    Raises:
        RecipeError: ``start`` is no supervised recipe.
    """
    start_recipe = load_recipe(recipe.start)
    if not isinstance(start_recipe, HazardRecipe):
        raise RecipeError(f"start: {recipe.start} is of kind {start_recipe.kind}, a search starts from kind hazard")
    started = time.process_time()
    start = train_hazard(start_recipe, seed)
    games = [game for name in recipe.scenarios for game in _games(name, recipe.expansions)]
    draw = np.random.default_rng(seed)
    here, first, second = np.zeros(PARAMETERS), np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    tried = [_checked(start, here, 0, recipe)]
    for generation in range(1, recipe.generations + 1):
        played = [games[at] for at in draw.choice(len(games), min(recipe.windows, len(games)), replace=False)]
        noise = draw.normal(size=(recipe.pairs, PARAMETERS))
        costs = np.array(
            [[_mean_cost(start, here + sign * recipe.deviation * e, played) for sign in (1, -1)] for e in noise]
        )
        difference = costs[:, 0] - costs[:, 1]
        gradient = (difference[:, None] / (difference.std() + 1e-9) * noise).mean(axis=0)
        # Adam, without its constants for other problems
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        slope = first / (1 - 0.9**generation) / (np.sqrt(second / (1 - 0.99**generation)) + 1e-3)
        here = here - recipe.step * slope
        if generation % recipe.check_every == 0:
            tried.append(_checked(start, here, generation, recipe))
            if log:
                log.add_scalar("search/validation", tried[-1][0], generation)
        if log:
            log.add_scalar("search/training", float(costs.mean()), generation)
        if progress:
            progress(generation / recipe.generations)
    best, candidate, percent = min(tried, key=lambda entry: entry[0])
    table = tuple((each.name, bonus, float(each.network[-1]), value) for value, each, bonus in tried)
    chosen = Chosen(candidate, percent, best, table)
    rows = recipe.generations * recipe.pairs * 2 * recipe.windows
    return replace(
        start,
        network=candidate.network,
        settings={"displace_percent": percent},
        recipe=recipe,
        manifest=manifest(Scenario.load(recipe.scenarios[0]), seed, rows, started, chosen),
    )


def bend(start: Bundle, parameters: Vector) -> tuple[NDArray[np.float32], int]:
    """The network and the bonus at a point of the search; (PARAMETERS,) zeros give the start."""
    moved = start.network.astype(np.float64)
    step = parameters * _SCALE
    moved[_MOVED] += step[:-2]
    moved[-1] = min(_LARGEST_FLOOR, moved[-1] * np.exp(step[-2]))
    percent = round(min(_LARGEST_BONUS, start.settings["displace_percent"] * np.exp(step[-1])))
    return moved.astype(np.float32), percent


def _checked(start: Bundle, parameters: Vector, generation: int, recipe: SearchRecipe) -> tuple[float, Candidate, int]:
    network, percent = bend(start, parameters)
    return score(network, percent, recipe.scenarios), Candidate(f"generation {generation}", network), percent


def _mean_cost(start: Bundle, parameters: Vector, games: Sequence[_Game]) -> float:
    """Cost relative to Tyche's, mean over games and both means."""
    network, percent = bend(start, parameters)
    settings = {"kernel": Kernel.NETWORK, "displace_percent": percent}
    costs = []
    for game in games:
        result = simulate(replace(game.world, network=network).with_settings(**settings), record="none")
        costs.append(np.divide(cost(result, game.load_price), game.tyche))
    return float(np.mean(costs))


def _games(name: str, expansions: int) -> list[_Game]:
    scenario, price = Scenario.load(name), load_per_s(name)
    worlds = [
        scenario.world("train", window, seed, Kernel.TYCHE)
        for window in range(len(scenario.windows("train")))
        for seed in range(expansions)
    ]
    return [_Game(world, price, cost(simulate(world, record="none"), price)) for world in worlds]
