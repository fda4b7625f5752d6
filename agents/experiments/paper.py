"""The paper's experiments: which cases each runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from agents.experiments import checks
from agents.experiments.draws import CLASSES, Draw, draws
from agents.experiments.runs import Axis, Case
from tyche_env.scenario import Mode, PrewarmName, Scenario

PREWARMS: tuple[PrewarmName, ...] = ("openwhisk", "histogram", "pagurus", "faascache")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment of the paper.

    Attributes:
        name: as ``--experiment`` takes it.
        title: what it answers.
        axis: its own axis, beside class, pre-warming, policy and mode; None without one.
        cases: number of draws -> what is run.
        checks: what its rows are held against.
    """

    name: str
    title: str
    axis: str | None
    cases: Callable[[int], list[Case]]
    checks: Callable[[Sequence[Mapping[str, Any]]], Iterable[dict[str, Any]]] = lambda rows: ()


def _single_node(count: int) -> list[Case]:
    scenario = Scenario.load("paper-single-node")
    return list(_by_class(scenario, count, PREWARMS, ("none", "tyche", "oracle")))


def _multi_node(count: int) -> list[Case]:
    scenario = Scenario.load("paper-multi-node")
    return list(_by_class(scenario, count, PREWARMS, ("none", "instainfer", "tyche", "oracle")))


def _by_class(
    scenario: Scenario, count: int, prewarms: Sequence[PrewarmName], policies: Sequence[str]
) -> Iterator[Case]:
    for name in CLASSES:
        yield from _crossed(scenario, draws(scenario.trace, name, count, 8), name, prewarms, policies)


def _crossed(
    scenario: Scenario,
    drawn: Sequence[Draw],
    cov_class: str,
    prewarms: Sequence[PrewarmName],
    policies: Sequence[str],
    mode: Mode = "paper",
    settings: dict[str, Any] | None = None,
    **axes: Axis,
) -> Iterator[Case]:
    """Every draw under every policy and pre-warming policy."""
    for draw, prewarm, policy in product(drawn, prewarms, policies):
        filed = {"class": cov_class, "prewarm": prewarm, "policy": policy, "mode": mode, **axes}
        yield Case(filed, scenario, draw, policy, prewarm, mode, settings or {})


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment("single-node", "Warming and loading on one node of 256 GB", None, _single_node, checks.tables),
        Experiment("multi-node", "Warming and loading on four nodes of 128 GB", None, _multi_node, checks.tables),
    )
}
"""By name, in the order in which they are run."""
