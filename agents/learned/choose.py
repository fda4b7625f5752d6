"""Choosing among candidates on the validation windows: which horizon, price, checkpoint and bonus to ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.fan_out import THIS_PROCESS, Crew, Task, in_order, shareable
from agents.learned.recipe import Choice
from tyche_env.scenario import Scenario
from tyche_env.simulate import Result, simulate
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
    equips = [RowNetwork(each.network, percent) for each, percent in tried]
    values = validation_shares(equips, scenarios, choice.function_weight, workers)
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


@dataclass(frozen=True, slots=True)
class RowNetwork:
    """Gives a world the kernel of a row network with a bonus; it can be sent to other processes."""

    network: NDArray[np.float32]
    displace_percent: int

    def __call__(self, world: World) -> World:
        """The world with weights and kernel."""
        world = replace(world, network=self.network)
        return world.with_settings(kernel=Kernel.NETWORK, displace_percent=self.displace_percent)


def score(
    network: NDArray[np.float32], displace_percent: int, scenarios: Sequence[Scenario], function_weight: float = 0.5
) -> float:
    """Cost of a row network relative to Tyche's over the validation windows of some scenarios."""
    return validation_shares([RowNetwork(network, displace_percent)], scenarios, function_weight)[0]


def validation_shares(
    equips: Sequence[Callable[[World], World]],
    scenarios: Sequence[Scenario],
    function_weight: float = 0.5,
    workers: Crew = THIS_PROCESS,
) -> list[float]:
    """Cost of each of some policies relative to Tyche's over the validation windows of some scenarios.

    The cost of a request is its wait for library, model and container, and where a scenario charges loads, their share.

    Args:
        equips: give a world the policy.
        scenarios: where.
        function_weight: see :func:`share_of`.
        workers: who plays the windows.
    """
    known = [(scenario.hash(), *_validation(scenario)) for scenario in scenarios]
    worlds_of = {digest: worlds for digest, worlds, _ in known}
    tasks = [
        Task((equip, scenario, 0), (digest, "validation", window))
        for equip in equips
        for scenario, (digest, worlds, _) in zip(scenarios, known, strict=True)
        for window in range(len(worlds))
    ]
    found = workers.do(played_cost, tasks, lambda key: shareable(worlds_of[key[0]][key[2]]))
    costs = iter(in_order(found, len(tasks)))
    return [
        float(
            np.mean(
                [
                    share_of(np.mean([next(costs) for _ in worlds], axis=0), tyche, function_weight)
                    for _, worlds, tyche in known
                ]
            )
        )
        for _ in equips
    ]


def played_cost(equip: Callable[[World], World], scenario: Scenario, seed: int, world: World) -> tuple[float, float]:
    """The two costs of a policy in a world of a scenario.

    Args:
        equip: gives a world the policy.
        scenario: the world's.
        seed: of the run.
        world: under any policy.
    """
    world = equip(scenario.under(world, seed, Kernel.TYCHE))
    return cost(simulate(world, record="none"), scenario.reward.load_per_s)


def share_of(costs: NDArray[np.float64], tyche: NDArray[np.float64], function_weight: float = 0.5) -> float:
    """Two costs (mean over requests, over functions) relative to Tyche's, in one number.

    Args:
        costs: (2,).
        tyche: (2,).
        function_weight: weight of the mean over functions; that over requests has the rest.
    """
    shares = costs / tyche
    return float((1 - function_weight) * shares[0] + function_weight * shares[1])


def cost(result: Result, load_price: float = 0.0) -> tuple[float, float]:
    """Cost in ms of a request: mean over requests, and mean over functions.

    Args:
        result: of a run.
        load_price: ms charged for a ms of loading, spread over all requests.
    """
    totals = result.totals[result.totals["requests"] > 0]
    waits_ms = totals["warming_loading_us"] / 1e3
    loads_ms = load_price * result.counters["load_us"] / 1e3 / max(1, totals["requests"].sum())
    by_request = waits_ms.sum() / max(1, totals["requests"].sum())
    by_function = np.mean(waits_ms / totals["requests"]) if len(totals) else 0.0
    return float(by_request + loads_ms), float(by_function + loads_ms)


@lru_cache(maxsize=8)
def _validation(scenario: Scenario) -> tuple[tuple[World, ...], NDArray[np.float64]]:
    """The validation worlds of a scenario, and Tyche's mean costs over them."""
    count = len(scenario.windows("validation"))
    worlds = tuple(scenario.world("validation", window, 0, Kernel.TYCHE) for window in range(count))
    price = scenario.reward.load_per_s
    return worlds, np.mean([cost(simulate(world, record="none"), price) for world in worlds], axis=0)
