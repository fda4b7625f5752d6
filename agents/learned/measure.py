"""Measuring trained agents on the test windows: unseen functions and times, against every heuristic.

Samples are windows, paired across policies; expansions of a window and training seeds of an agent are averaged first.
Intervals are those of ``agents.statistics``.  Every measurement is written to a log, so that reports can say how often
the test windows were looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.learned.choose import cost
from agents.learned.policy import LearnedPolicy
from agents.policy import POLICIES, KernelPolicy
from agents.statistics import paired
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import Kernel

HEURISTICS = ("lru", "tyche", "tyche-ewma", "tyche-histogram", "censored", "empirical")
CEILING = "minute-oracle"
FLOOR = "tyche"
METRICS = ("request", "function")
"""Mean cost over requests, and over functions."""
TEST_LOG = "test-evaluations.jsonl"

Windows = dict[tuple[str, int], float]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy, or the training seeds of one agent, did in one scenario on one metric.

    Attributes:
        mean: ms.
        seeds: training seeds; 1 for a heuristic.
        seed_deviation: standard deviation of the mean between training seeds.
        gap_share: of the gap from Tyche to the minute oracle, with its interval; None where that is not clear of 0.
        versus: what it is compared with: the best heuristic on this metric other than itself, or a chosen agent.
        relative: mean difference from that, relative to it.
        difference: the same in ms, with its interval.
        clear_of_zero: whether that interval lies on one side of 0.
        improvement: share of windows x training seeds that are better than with that.
        windows: number of windows.
        groups: number of function groups they come from.
    """

    scenario: str
    policy: str
    metric: str
    mean: float
    seeds: int
    seed_deviation: float
    gap_share: dict[str, Any] | None
    versus: str
    relative: float | None
    difference: dict[str, Any] | None
    clear_of_zero: bool
    improvement: float
    windows: int
    groups: int


def measure(
    scenario: Scenario,
    agents: Mapping[str, Sequence[KernelPolicy]],
    *,
    expansions: int = 2,
    against: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Standing]:
    """Run heuristics, the minute oracle and agents over all test windows of a scenario.

    Args:
        scenario: where.
        agents: by name, one policy a training seed.
        expansions: of each window's counts into arrivals.
        against: agent that all are compared with; None: the best heuristic of each metric.
        progress: called with the share that is done.
    """
    policies: dict[str, Sequence[KernelPolicy]] = {name: [POLICIES[name]] for name in (*HEURISTICS, CEILING)}
    policies |= agents
    price = scenario.reward.load_per_s
    windows = scenario.windows("test")
    found: dict[str, dict[str, list[Windows]]] = {
        name: {metric: [{} for _ in members] for metric in METRICS} for name, members in policies.items()
    }
    for done, window in enumerate(windows):
        worlds = [scenario.world("test", window.index, seed, Kernel.NONE) for seed in range(expansions)]
        for name, members in policies.items():
            for member, policy in enumerate(members):
                costs = [cost(simulate(policy.equip(world), record="none"), price) for world in worlds]
                for metric, value in zip(METRICS, np.mean(costs, axis=0), strict=True):
                    found[name][metric][member][window.group, window.index] = float(value)
        if progress:
            progress((done + 1) / len(windows))
    return [_standing(scenario.name, name, metric, found, against) for metric in METRICS for name in policies]


def log_measurement(
    folder: Path, scenario: str, agents: Mapping[str, Sequence[KernelPolicy]], recipes: Mapping[str, str]
) -> int:
    """Note that the test windows were looked at; returns how often they have been, by this log.

    Args:
        folder: of the log.
        scenario: whose test windows.
        agents: that were measured.
        recipes: hash of each agent's recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scenario": scenario,
        "agents": {
            name: {
                "recipe": recipes[name],
                "digests": [member.digest for member in members if isinstance(member, LearnedPolicy)],
            }
            for name, members in agents.items()
        },
    }
    path = folder / TEST_LOG
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return len(path.read_text(encoding="utf-8").splitlines())


def as_markdown(standings: Sequence[Standing]) -> str:
    """A table a scenario and metric, the best first."""
    lines: list[str] = []
    for scenario, metric in dict.fromkeys((each.scenario, each.metric) for each in standings):
        own = sorted(
            (each for each in standings if (each.scenario, each.metric) == (scenario, metric)), key=lambda e: e.mean
        )
        first = own[0]
        lines += [
            f"### {scenario}, per {metric}",
            "",
            "| policy | ms | training seeds | share of the gap closed | against | better in |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(each) for each in own]
        lines += ["", f"Means over {first.windows} windows of {first.groups} function groups.", ""]
    return "\n".join(lines)


def write_json(standings: Sequence[Standing], path: Path) -> None:
    """All standings as JSON."""
    path.write_text(json.dumps([asdict(each) for each in standings], indent=1) + "\n", encoding="utf-8")


def _standing(
    scenario: str, name: str, metric: str, found: dict[str, dict[str, list[Windows]]], against_agent: str | None
) -> Standing:
    members = found[name][metric]
    average = _average(members)
    rivals = [other for other in HEURISTICS if other != name]
    best = min(rivals, key=lambda other: float(np.mean(list(found[other][metric][0].values()))))
    if against_agent is not None and name != against_agent:
        best = against_agent
    reference = _average(found[best][metric])
    against = paired(average, reference)
    gap = paired(average, found[FLOOR][metric][0], found[CEILING][metric][0])
    means = [float(np.mean(list(member.values()))) for member in members]
    better = [member[key] < reference[key] for member in members for key in member]
    return Standing(
        scenario=scenario,
        policy=name,
        metric=metric,
        mean=float(np.mean(means)),
        seeds=len(members),
        seed_deviation=float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        gap_share=gap["gap_share"],
        versus=best,
        relative=against["relative"],
        difference=against["difference"],
        clear_of_zero=against["clear_of_zero"],
        improvement=float(np.mean(better)),
        windows=len(average),
        groups=len({group for group, _ in average}),
    )


def _average(members: Sequence[Windows]) -> Windows:
    return {key: float(np.mean([member[key] for member in members])) for key in members[0]}


def _row(each: Standing) -> str:
    seeds = f"{each.seeds}, sd {each.seed_deviation:.1f}" if each.seeds > 1 else ""
    share = ""
    if each.gap_share is not None and each.policy not in (FLOOR, CEILING):
        share = f"{100 * each.gap_share['mean']:.0f} %"
        if each.gap_share["low"] is not None:
            share += f" [{100 * each.gap_share['low']:.0f}, {100 * each.gap_share['high']:.0f}]"
    versus = ""
    if each.relative is not None and each.difference is not None and each.policy != CEILING:
        star = "*" if each.clear_of_zero else ""
        versus = f"{100 * each.relative:+.0f} %{star} ({each.versus})"
        if each.difference["low"] is not None:
            versus = (
                f"{100 * each.relative:+.0f} %, {each.difference['mean']:+.0f} "
                f"[{each.difference['low']:+.0f}, {each.difference['high']:+.0f}] ms{star} ({each.versus})"
            )
    better = f"{100 * each.improvement:.0f} %" if each.policy != CEILING else ""
    return f"| {each.policy} | {each.mean:.1f} | {seeds} | {share} | {versus} | {better} |"
