"""Choosing among candidates on the validation windows: which horizon, price, checkpoint and bonus to ship."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.playing.runs import Crew
from agents.playing.scene import WindowScene, play_in
from agents.playing.spread import THIS_PROCESS, play_all
from agents.policies.builtin import POLICIES
from agents.policies.policy import Policy
from agents.policies.recipe import Choice
from agents.policies.trained import LearnedPolicy
from tyche_env.played import Played
from tyche_env.scenario import Scenario
from tyche_env.world import Kernel, World


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights, and a name that says where they come from (``horizon 10 s``)."""

    name: str
    network: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best candidate with its bonus.

    Attributes:
        score: mean over scenarios of cost relative to Tyche's, both means (per request, per function) weighted.
        table: (candidate, displace_percent, floor, score) of all that were tried.
    """

    candidate: Candidate
    displace_percent: int
    score: float
    table: tuple[tuple[str, int, float, float], ...]


def choose(
    candidates: Sequence[Candidate], choice: Choice, scenarios: Sequence[Scenario], workers: Crew = THIS_PROCESS
) -> Chosen:
    """The candidate and bonus with the least score over the validation windows of some scenarios.

    Args:
        candidates: what is tried.
        choice: with which bonuses and floors.
        scenarios: where.
        workers: who plays the windows; the result is the same.
    """
    tried = [
        (each, percent)
        for each in (with_floor(candidate, floor) for candidate in candidates for floor in choice.floors)
        for percent in choice.displace_percent
    ]
    policies = [row_network(each.network, percent) for each, percent in tried]
    values = validation_shares(policies, scenarios, choice.function_weight, workers)
    value, best, percent = min(zip(values, *zip(*tried, strict=True), strict=True), key=lambda entry: entry[0])
    table = tuple(
        (each.name, bonus, float(each.network[-1]), found) for found, (each, bonus) in zip(values, tried, strict=True)
    )
    return Chosen(best, percent, value, table)


def with_floor(candidate: Candidate, floor: float) -> Candidate:
    """The candidate with another floor, which is the last of its weights."""
    network = candidate.network.copy()
    network[-1] = floor
    return Candidate(candidate.name, network)


def row_network(network: NDArray[np.float32], displace_percent: int) -> Policy:
    """The policy that a row network is with a bonus."""
    settings = {"displace_percent": displace_percent}
    return LearnedPolicy("candidate", Kernel.NETWORK, False, "a row network", settings, network=network)


def score(
    network: NDArray[np.float32], displace_percent: int, scenarios: Sequence[Scenario], function_weight: float = 0.5
) -> float:
    """Cost of a row network relative to Tyche's over the validation windows of some scenarios."""
    return validation_shares([row_network(network, displace_percent)], scenarios, function_weight)[0]


@dataclass(frozen=True, slots=True)
class PricedRun:
    """A policy in a window, of which the two costs are kept.

    Attributes:
        scene: the window.
        policy: who plays it.
        number: tells the policies apart.
    """

    scene: WindowScene
    policy: Policy
    number: int

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Policy and scene."""
        return (self.number, *self.scene.world_key)

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """The scene's."""
        return self.scene.world_key

    def requests(self) -> World:
        """The scene's, once a process for as long as they are among the last ones."""
        return _requests(self.scene)

    def row(self, requests: World) -> tuple[float, float]:
        """See :func:`cost`."""
        played = play_in(self.scene, self.policy, requests, record="none")
        return cost(played, self.scene.scenario.reward.load_per_s)


@lru_cache(maxsize=512)
def _requests(scene: WindowScene) -> World:
    return scene.requests()


def costs_of(
    policies: Sequence[Policy], scenes: Sequence[Sequence[WindowScene]], workers: Crew = THIS_PROCESS
) -> list[list[NDArray[np.float64]]]:
    """The mean costs of each policy over each group of scenes, (2,) each."""
    runs = [
        PricedRun(scene, policy, number)
        for number, policy in enumerate(policies)
        for group in scenes
        for scene in group
    ]
    costs = iter(play_all(runs, workers))
    return [[np.mean([next(costs) for _ in group], axis=0) for group in scenes] for _ in policies]


def validation_shares(
    policies: Sequence[Policy],
    scenarios: Sequence[Scenario],
    function_weight: float = 0.5,
    workers: Crew = THIS_PROCESS,
) -> list[float]:
    """Cost of each of some policies relative to Tyche's over the validation windows of some scenarios.

    The cost of a request is its wait for library, model and container, and where a scenario charges loads, their share.

    Args:
        policies: who is compared.
        scenarios: where.
        function_weight: see :func:`share_of`.
        workers: who plays the windows.
    """
    scenes = [validation_scenes(scenario) for scenario in scenarios]
    tyche = [_tyche_costs(scenario) for scenario in scenarios]
    return [
        float(np.mean([share_of(own, theirs, function_weight) for own, theirs in zip(costs, tyche, strict=True)]))
        for costs in costs_of(policies, scenes, workers)
    ]


def validation_scenes(scenario: Scenario) -> list[WindowScene]:
    """All validation windows."""
    return [WindowScene(scenario, "validation", window, 0) for window in range(len(scenario.windows("validation")))]


def share_of(costs: NDArray[np.float64], tyche: NDArray[np.float64], function_weight: float = 0.5) -> float:
    """Two costs (mean over requests, over functions) relative to Tyche's, in one number.

    Args:
        costs: (2,).
        tyche: (2,).
        function_weight: weight of the mean over functions; that over requests has the rest.
    """
    shares = costs / tyche
    return float((1 - function_weight) * shares[0] + function_weight * shares[1])


def cost(played: Played, load_price: float = 0.0) -> tuple[float, float]:
    """Cost in ms of a request: mean over requests, and mean over functions.

    Args:
        played: a run.
        load_price: ms charged for a ms of loading, spread over all requests.
    """
    totals = played.totals[played.totals["requests"] > 0]
    waits_ms = totals["warming_loading_us"] / 1e3
    loads_ms = load_price * played.counters["load_us"] / 1e3 / max(1, totals["requests"].sum())
    by_request = waits_ms.sum() / max(1, totals["requests"].sum())
    by_function = np.mean(waits_ms / totals["requests"]) if len(totals) else 0.0
    return float(by_request + loads_ms), float(by_function + loads_ms)


@lru_cache(maxsize=8)
def _tyche_costs(scenario: Scenario) -> NDArray[np.float64]:
    """Tyche's mean costs over the validation windows."""
    return costs_of([POLICIES["tyche"]], [validation_scenes(scenario)])[0][0]
