"""Policy search where it counts: a supervised network is bent towards lower cost in whole clusters.

The supervised network knows when requests come, not what a load costs nor what holding one function does to others.
Evolution strategies (Salimans et al., 2017) move the part of it that turns what it knows into a priority: the last
layer, the biases before it, the weights of the flag ``held``, the floor and the bonus.  Each trial plays whole training
windows, so every consequence of a decision counts, without a model of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.learned.bundle import Bundle
from agents.learned.choose import Candidate, Chosen, cost, score
from agents.learned.course import Log, Progress
from agents.learned.hazard import HELD, train_hazard
from agents.learned.manifest import manifest, of_choice
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


@dataclass(slots=True)
class _Standing:
    """Where a search stands after a generation.

    Attributes:
        here, first, second: (PARAMETERS,) the point, and the moving means of gradient and squared gradient.
        checked: generation, point and score on validation windows of all that were looked at.
    """

    generation: int = 0
    here: Vector = field(default_factory=lambda: np.zeros(PARAMETERS))
    first: Vector = field(default_factory=lambda: np.zeros(PARAMETERS))
    second: Vector = field(default_factory=lambda: np.zeros(PARAMETERS))
    checked: list[tuple[int, Vector, float]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None, draw: np.random.Generator) -> _Standing:
        """What a checkpoint says, or the beginning; the generator goes on where it was."""
        if path is None or not path.is_file():
            return cls()
        content = json.loads(path.read_text(encoding="utf-8"))
        draw.bit_generator.state = content["draw"]
        here, first, second = (np.array(content[name]) for name in ("here", "first", "second"))
        checked = [(generation, np.array(where), value) for generation, where, value in content["checked"]]
        return cls(content["generation"], here, first, second, checked)

    def write(self, path: Path, draw: np.random.Generator) -> None:
        """Write a checkpoint, whole or not at all; JSON keeps every bit of a float."""
        content = {
            "generation": self.generation,
            "here": self.here.tolist(),
            "first": self.first.tolist(),
            "second": self.second.tolist(),
            "checked": [[generation, where.tolist(), value] for generation, where, value in self.checked],
            "draw": draw.bit_generator.state,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.partial")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(path)


def train_search(
    recipe: SearchRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Bundle:
    """Search from the supervised network of the same seed; the validation windows choose the generation.

    With a checkpoint a search that was killed goes on after its last finished generation, to the same result.

    Raises:
        RecipeError: ``start`` is no supervised recipe.
    """
    start_recipe = load_recipe(recipe.start)
    if not isinstance(start_recipe, HazardRecipe):
        raise RecipeError(f"start: {recipe.start} is of kind {start_recipe.kind}, a search starts from kind hazard")
    started = time.process_time()
    start = train_hazard(start_recipe.model_copy(update={"trace": recipe.trace}), seed)
    scenarios = [recipe.scenario_of(name) for name in recipe.scenarios]
    games = [game for scenario in scenarios for game in _games(scenario, recipe.expansions)]
    draw = np.random.default_rng(seed)
    at = _Standing.read(checkpoint, draw)
    if not at.checked:
        at.checked.append((0, at.here, score(*bend(start, at.here), scenarios)))
    for generation in range(at.generation + 1, recipe.generations + 1):
        played = [games[k] for k in draw.choice(len(games), min(recipe.windows, len(games)), replace=False)]
        noise = draw.normal(size=(recipe.pairs, PARAMETERS))
        costs = np.array(
            [[_mean_cost(start, at.here + sign * recipe.deviation * e, played) for sign in (1, -1)] for e in noise]
        )
        difference = costs[:, 0] - costs[:, 1]
        gradient = (difference[:, None] / (difference.std() + 1e-9) * noise).mean(axis=0)
        # Adam, without its constants for other problems
        at.first = 0.9 * at.first + 0.1 * gradient
        at.second = 0.99 * at.second + 0.01 * gradient**2
        slope = at.first / (1 - 0.9**generation) / (np.sqrt(at.second / (1 - 0.99**generation)) + 1e-3)
        at.here = at.here - recipe.step * slope
        at.generation = generation
        if generation % recipe.check_every == 0:
            at.checked.append((generation, at.here, score(*bend(start, at.here), scenarios)))
            if log:
                log.add_scalar("search/validation", at.checked[-1][2], generation)
        if log:
            log.add_scalar("search/training", float(costs.mean()), generation)
        if checkpoint is not None:
            at.write(checkpoint, draw)
        if progress:
            progress(generation / recipe.generations)
    tried = [
        (value, Candidate(f"generation {generation}", network), percent)
        for generation, where, value in at.checked
        for network, percent in [bend(start, where)]
    ]
    best, candidate, percent = min(tried, key=lambda entry: entry[0])
    table = tuple((each.name, bonus, float(each.network[-1]), value) for value, each, bonus in tried)
    chosen = Chosen(candidate, percent, best, table)
    rows = recipe.generations * recipe.pairs * 2 * recipe.windows
    return replace(
        start,
        network=candidate.network,
        settings={"displace_percent": percent},
        recipe=recipe,
        manifest=manifest(scenarios, seed, rows, started) | of_choice(chosen),
    )


def bend(start: Bundle, parameters: Vector) -> tuple[NDArray[np.float32], int]:
    """The network and the bonus at a point of the search; (PARAMETERS,) zeros give the start."""
    moved = start.network.astype(np.float64)
    step = parameters * _SCALE
    moved[_MOVED] += step[:-2]
    moved[-1] = min(_LARGEST_FLOOR, moved[-1] * np.exp(step[-2]))
    percent = round(min(_LARGEST_BONUS, start.settings["displace_percent"] * np.exp(step[-1])))
    return moved.astype(np.float32), percent


def _mean_cost(start: Bundle, parameters: Vector, games: Sequence[_Game]) -> float:
    """Cost relative to Tyche's, mean over games and both means."""
    network, percent = bend(start, parameters)
    settings = {"kernel": Kernel.NETWORK, "displace_percent": percent}
    costs = []
    for game in games:
        result = simulate(replace(game.world, network=network).with_settings(**settings), record="none")
        costs.append(np.divide(cost(result, game.load_price), game.tyche))
    return float(np.mean(costs))


def _games(scenario: Scenario, expansions: int) -> list[_Game]:
    price = scenario.reward.load_per_s
    worlds = [
        scenario.world("train", window, seed, Kernel.TYCHE)
        for window in range(len(scenario.windows("train")))
        for seed in range(expansions)
    ]
    return [_Game(world, price, cost(simulate(world, record="none"), price)) for world in worlds]
