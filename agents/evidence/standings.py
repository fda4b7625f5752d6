"""How policies and agents stand: means, shares of the gap, paired differences, from the rows of a measurement.

Costs are pooled over windows (``agents.evidence.measure.cost_parts``), training seeds of an agent averaged first.
Intervals rest on groups of functions, and where there are too few of these there are none, and no stars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from agents.evidence.measure import CEILING, FLOOR, HEURISTICS, METRICS, besides, cost_parts
from agents.evidence.statistics import Parts, difference, gap_share
from agents.evidence.tables import rests_on

EMPIRICAL = "empirical"

Windows = dict[tuple[str, int], float]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy, or the training seeds of one agent, did in one scenario on one metric.

    Attributes:
        mean: ms, pooled over windows, the mean over training seeds.
        iqm: interquartile mean, over windows x training seeds, of the cost relative to Tyche's in the same window.
        seeds: training seeds; 1 for a heuristic.
        seed_deviation: standard deviation of the mean between training seeds.
        gap_share: of the gap from Tyche to the minute oracle, with its interval; None where there is no clear gap.
        versus: what it is compared with: the best heuristic on this metric other than itself, or a chosen agent.
        relative: difference from that, relative to it.
        difference: the same in ms, with its interval.
        clear_of_zero: whether that interval lies on one side of 0.
        improvement: share of windows x training seeds that are better than with that.
        besides: the figures of ``measure.BESIDES``.
        windows: number of windows.
        groups: number of function groups they come from.
    """

    scenario: str
    policy: str
    metric: str
    mean: float
    iqm: float
    seeds: int
    seed_deviation: float
    gap_share: dict[str, Any] | None
    versus: str
    relative: float | None
    difference: dict[str, Any] | None
    clear_of_zero: bool
    improvement: float
    besides: dict[str, float]
    windows: int
    groups: int


def standings(rows: Sequence[Row], against: str | None = None, rivals: Sequence[str] = HEURISTICS) -> list[Standing]:
    """One entry for scenario x metric x policy.

    Args:
        rows: of ``measure.measure``.
        against: agent that all are compared with; None: the best heuristic of each metric.
        rivals: heuristics among which the best is taken.
    """
    entries = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        own = [row for row in rows if row["scenario"] == scenario]
        members = {name: _members(own, name) for name in dict.fromkeys(row["policy"] for row in own)}
        for metric in METRICS:
            pooled = {name: [cost_parts(each, metric) for each in found] for name, found in members.items()}
            for name in pooled:
                other = against
                if other in (None, name):
                    other = min(
                        (each for each in rivals if each != name), key=lambda each: _average(pooled[each]).value
                    )
                entries.append(_standing(scenario, name, metric, own, pooled, str(other)))
    return entries


def by_member(rows: Sequence[Row], metric: str) -> dict[str, list[Windows]]:
    """The values of a metric by policy and training seed, (group, window) to value."""
    found: dict[str, dict[int, Windows]] = {}
    for row in rows:
        member = found.setdefault(row["policy"], {}).setdefault(row["seed"], {})
        member[row["group"], row["window"]] = row[metric]
    return {name: [members[seed] for seed in sorted(members)] for name, members in found.items()}


def relative_costs(rows: Sequence[Row], metric: str) -> dict[str, list[float]]:
    """Cost relative to Tyche's in the same window, over windows x training seeds, by policy."""
    found = by_member(rows, metric)
    floor = found[FLOOR][0]
    return {
        name: [member[key] / max(floor[key], 1e-9) for member in members for key in member]
        for name, members in found.items()
    }


def as_markdown(entries: Sequence[Standing]) -> str:
    """A table a scenario and metric, the best first."""
    lines: list[str] = []
    for scenario, metric in dict.fromkeys((each.scenario, each.metric) for each in entries):
        own = sorted(
            (each for each in entries if (each.scenario, each.metric) == (scenario, metric)), key=lambda e: e.mean
        )
        first = own[0]
        lines += [
            f"### {scenario}, per {metric.removesuffix('_ms')}",
            "",
            "| " + " | ".join(HEADINGS) + " |",
            "|" + "---|" * len(HEADINGS),
        ]
        lines += ["| " + " | ".join(cells(each)) + " |" for each in own]
        lines += ["", rests_on(first.windows, first.groups), ""]
    return "\n".join(lines)


def against_the_known(rows: Sequence[Row]) -> str:
    """A table of the agents and of ``empirical``, each against the best of all other heuristics.

    Those are the ones that come from papers or are baselines; ``empirical``, which reads what the network reads, was
    written beside it, and stands here as one more that is compared.
    """
    known = [name for name in HEURISTICS if name != EMPIRICAL]
    lines = [
        f"### Against the best heuristic other than {EMPIRICAL}",
        "",
        "| scenario, mean | policy | ms | share of the gap closed | against |",
        "|---|---|---|---|---|",
    ]
    for each in standings(rows, rivals=known):
        if each.policy in known or each.policy == CEILING:
            continue
        _, milliseconds, _, _, gap, versus, *_ = cells(each)
        place = f"{each.scenario}, per {each.metric.removesuffix('_ms')}"
        lines.append(f"| {place} | {each.policy} | {milliseconds} | {gap} | {versus} |")
    return "\n".join([*lines, ""])


HEADINGS = (
    *("policy", "ms", "IQM / Tyche", "training seeds", "share of the gap closed", "against", "better in"),
    *("hits", "load s a request", "preload GB s"),
)


def cells(each: Standing) -> list[str]:
    """One row of a table, as text."""
    share = ""
    if each.gap_share is not None and each.policy not in (FLOOR, CEILING):
        share = f"{100 * each.gap_share['mean']:.0f} %"
        if each.gap_share["low"] is not None:
            share += f" [{100 * each.gap_share['low']:.0f}, {100 * each.gap_share['high']:.0f}]"
    versus = ""
    if each.relative is not None and each.difference is not None and each.policy != CEILING:
        star = "\\*" if each.clear_of_zero else ""
        versus = f"{100 * each.relative:+.0f} %{star} ({each.versus})"
        if each.difference["low"] is not None:
            versus = (
                f"{100 * each.relative:+.0f} %, {each.difference['mean']:+.0f} "
                f"[{each.difference['low']:+.0f}, {each.difference['high']:+.0f}] ms{star} ({each.versus})"
            )
    return [
        each.policy,
        f"{each.mean:.1f}",
        f"{each.iqm:.2f}",
        f"{each.seeds}, sd {each.seed_deviation:.1f}" if each.seeds > 1 else "",
        share,
        versus,
        f"{100 * each.improvement:.0f} %" if each.policy != CEILING else "",
        f"{100 * each.besides['hit_rate']:.1f} %",
        f"{each.besides['load_s']:.2f}",
        f"{each.besides['preload_gb_s']:,.0f}",
    ]


def _standing(
    scenario: str, name: str, metric: str, rows: Sequence[Row], pooled: Mapping[str, Sequence[Parts]], other: str
) -> Standing:
    average, reference = _average(pooled[name]), _average(pooled[other])
    compared = difference(average, reference)
    values = [each.value for each in pooled[name]]
    windows = by_member(rows, metric)
    theirs = {key: float(np.mean([member[key] for member in windows[other]])) for key in windows[other][0]}
    return Standing(
        scenario=scenario,
        policy=name,
        metric=metric,
        mean=float(np.mean(values)),
        iqm=float(trim_mean(relative_costs(rows, metric)[name], 0.25)),
        seeds=len(values),
        seed_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        gap_share=gap_share(average, _average(pooled[FLOOR]), _average(pooled[CEILING])),
        versus=other,
        relative=compared.mean / reference.value if reference.value else None,
        difference=compared.as_dict(),
        clear_of_zero=compared.clear_of_zero,
        improvement=float(np.mean([member[key] < theirs[key] for member in windows[name] for key in member])),
        besides=besides([row for row in rows if row["policy"] == name]),
        windows=len(windows[name][0]),
        groups=len(average.groups),
    )


def _members(rows: Sequence[Row], policy: str) -> list[list[Row]]:
    """The rows of a policy by training seed."""
    own = [row for row in rows if row["policy"] == policy]
    return [[row for row in own if row["seed"] == seed] for seed in sorted({row["seed"] for row in own})]


def _average(members: Sequence[Parts]) -> Parts:
    """The mean over training seeds, which met the same requests."""
    return Parts(members[0].groups, np.mean([each.parts for each in members], axis=0), members[0].wholes)
