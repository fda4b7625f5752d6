"""Policy search where it counts: from a supervised network to low cost in whole clusters.

The supervised network knows when requests come, not what a load costs nor what holding one function does to others.
An evolution strategy (CMA-ES; Hansen and Ostermeier, 2001) learns the rest by trying: how gate, keep and priority
(``agents.policies.gate``) follow from the chances that the network gives for its horizons and from the state of the
cluster.  Each trial plays whole training windows, so every consequence of a decision counts, without a model of it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.playing.runs import Crew
from agents.playing.scene import WindowScene
from agents.playing.spread import THIS_PROCESS, play_all
from agents.policies.builtin import POLICIES
from agents.policies.bundle import Bundle
from agents.policies.gate import CONTEXT, gated
from agents.policies.policy import Policy
from agents.policies.recipe import HazardRecipe, RecipeError, SearchRecipe
from agents.policies.trained import policy_of
from agents.training.choose import Candidate, Chosen, PricedRun, costs_of, share_of, validation_shares
from agents.training.course import Log, Progress
from agents.training.hazard import train_heads
from agents.training.manifest import manifest, of_choice
from agents.training.recipes import load_recipe
from tyche_env.network import layers_of
from tyche_env.scenario import Scenario

Vector = NDArray[np.float64]
Heads = Mapping[float, NDArray[np.float32]]
"""Row networks by horizon, alike but for their outputs."""

_UNIT = 0.5
"""What a parameter of 1 weighs a logit with, so that trials of one size matter alike for all parameters."""
_LARGEST_BONUS = 3000
_LEAST_FLOOR, _KEPT = 0.01, 0.02


@dataclass(frozen=True, slots=True)
class _Game:
    """A training window, and Tyche's two costs there."""

    scene: WindowScene
    tyche: tuple[float, float]


@dataclass(slots=True)
class _Standing:
    """Where a search stands after a generation.

    Attributes:
        costs: of all trials of each generation; from these and the seed the search can be gone through again.
        checked: generation, point and score on validation windows of all that were looked at.
    """

    costs: list[list[float]] = field(default_factory=list)
    checked: list[tuple[int, list[float], float]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> _Standing:
        """What a checkpoint says, or the beginning."""
        if path is None or not path.is_file():
            return cls()
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(content["costs"], [(generation, where, value) for generation, where, value in content["checked"]])

    def write(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all; JSON keeps every bit of a float."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.partial")
        temporary.write_text(json.dumps({"costs": self.costs, "checked": self.checked}), encoding="utf-8")
        temporary.replace(path)


def train_search(
    recipe: SearchRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    workers: Crew = THIS_PROCESS,
) -> Bundle:
    """Search from the supervised network of the same seed; the validation windows choose the generation.

    With a checkpoint a search that was killed goes on after its last finished generation, to the same result.

    Raises:
        RecipeError: ``start`` is no supervised recipe.
    """
    import cma

    start_recipe = load_recipe(recipe.start)
    if not isinstance(start_recipe, HazardRecipe):
        raise RecipeError(f"start: {recipe.start} is of kind {start_recipe.kind}, a search starts from kind hazard")
    started = time.process_time() + workers.cpu_s
    start, heads = train_heads(start_recipe.on_trace_of(recipe), seed, workers=workers)
    scenarios = [recipe.scenario_of(name) for name in recipe.scenarios]
    games = [_games(scenario, recipe.expansions) for scenario in scenarios]
    draw = np.random.default_rng(seed)
    # all chance comes from the one generator: cma's own would be the process's
    options = {"popsize": recipe.population, "seed": math.nan, "verbose": -9, "randn": _standard_normal(draw)}
    strategy: Any = cma.CMAEvolutionStrategy(beginning(start, heads), recipe.deviation, options)
    at = _Standing.read(checkpoint)

    def check(generation: int) -> None:
        where = strategy.mean.tolist()
        trial = bend(start, heads, strategy.mean)
        (value,) = validation_shares([policy_of(trial, "trial")], scenarios, recipe.function_weight, workers)
        at.checked.append((generation, where, value))
        if log:
            log.add_scalar("search/validation", at.checked[-1][2], generation)

    if not at.checked:
        check(0)
    for generation in range(1, recipe.generations + 1):
        played = [
            [found[k] for k in draw.choice(len(found), min(recipe.windows, len(found)), False)] for found in games
        ]
        trials = strategy.ask()
        if generation <= len(at.costs):
            strategy.tell(trials, at.costs[generation - 1])
            continue
        agents = [policy_of(bend(start, heads, trial), "trial") for trial in trials]
        costs = _shares(agents, played, recipe.function_weight, workers)
        strategy.tell(trials, costs)
        at.costs.append(costs)
        if generation % recipe.check_every == 0 or generation == recipe.generations:
            check(generation)
        if log:
            log.add_scalar("search/training", float(np.mean(costs)), generation)
        if checkpoint is not None:
            at.write(checkpoint)
        if progress:
            progress(generation / recipe.generations)
    best = min(at.checked, key=lambda entry: entry[2])
    found = bend(start, heads, np.array(best[1]))
    table = tuple((f"generation {generation}", 0, 0.0, value) for generation, _, value in at.checked)
    chosen = Chosen(
        Candidate(f"generation {best[0]}", found.network), found.settings["displace_percent"], best[2], table
    )
    rows = recipe.generations * recipe.population * sum(min(recipe.windows, len(each)) for each in games)
    return replace(
        found, recipe=recipe, manifest=manifest(scenarios, seed, rows, started - workers.cpu_s) | of_choice(chosen)
    )


def parameters(heads: Heads) -> int:
    """How many numbers a search looks for: three outputs from all heads and the context, and the bonus."""
    return 3 * (len(heads) + len(CONTEXT) + 1) + 1


def beginning(start: Bundle, heads: Heads) -> Vector:
    """The point at which the gate is the supervised network's floor; (PARAMETERS,)."""
    outputs = np.zeros((3, len(heads) + len(CONTEXT) + 1))
    gate, keep = outputs[0], outputs[1]
    chosen = next(k for k, head in enumerate(heads.values()) if np.array_equal(head[:-1], start.network[:-1]))
    outputs[:, chosen] = 1 / _UNIT
    gate[-1] = -_logit(max(_LEAST_FLOOR, float(start.network[-1])))
    keep[-1] = -_logit(_KEPT)
    return np.append(outputs, math.log(max(1, start.settings["displace_percent"])))


def bend(start: Bundle, heads: Heads, point: Vector) -> Bundle:
    """The agent at a point of the search: a gated network with its bonus."""
    outputs = point[:-1].reshape(3, -1)
    weights = np.stack([np.append(layers_of(head).output, layers_of(head).output_bias) for head in heads.values()])
    mixed = _UNIT * outputs[:, : len(heads)] @ weights
    context = outputs[:, len(heads) :]
    gate, keep = (np.concatenate([mixed[k, :-1], context[k, :-1], [mixed[k, -1] + context[k, -1]]]) for k in (0, 1))
    network = start.network.copy()
    layers = layers_of(network)
    layers.output[:] = mixed[2, :-1]
    layers.output_bias[:] = mixed[2, -1] + context[2, -1]
    layers.floor[:] = 0.0
    percent = round(min(_LARGEST_BONUS, math.exp(min(point[-1], 20.0))))
    return replace(start, network=gated(network, gate, keep, context[2, :-1]), settings={"displace_percent": percent})


def _shares(
    trials: Sequence[Policy], played: Sequence[Sequence[_Game]], function_weight: float, workers: Crew
) -> list[float]:
    """Cost of each trial relative to Tyche's over the games of each scenario, mean over scenarios."""
    scenes = [[game.scene for game in games] for games in played]
    tyche = [np.mean([game.tyche for game in games], axis=0) for games in played]
    return [
        float(np.mean([share_of(own, theirs, function_weight) for own, theirs in zip(costs, tyche, strict=True)]))
        for costs in costs_of(trials, scenes, workers)
    ]


def _games(scenario: Scenario, expansions: int) -> list[_Game]:
    scenes = [
        WindowScene(scenario, "train", window, seed)
        for window in range(len(scenario.windows("train")))
        for seed in range(expansions)
    ]
    tyche = play_all([PricedRun(scene, POLICIES["tyche"], 0) for scene in scenes])
    return [_Game(scene, costs) for scene, costs in zip(scenes, tyche, strict=True)]


def _standard_normal(draw: np.random.Generator) -> Any:
    return lambda *shape: draw.standard_normal(shape)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
