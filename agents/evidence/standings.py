"""How policies and agents stand: means, shares of the gap, paired differences, from the rows of a measurement.

Samples are windows, paired across policies; training seeds of an agent are averaged first.  Intervals shown are those
of ``agents.evidence.statistics.paired``; a difference counts as clear of 0 where the BCa interval says so too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from agents.evidence.measure import BESIDES, CEILING, FLOOR, HEURISTICS, METRICS
from agents.evidence.statistics import paired, paired_bca

EMPIRICAL = "empirical"

Windows = dict[tuple[str, int], float]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy, or the training seeds of one agent, did in one scenario on one metric.

    Attributes:
        mean: ms.
        iqm: interquartile mean, over windows x training seeds, of the cost relative to Tyche's in the same window.
        seeds: training seeds; 1 for a heuristic.
        seed_deviation: standard deviation of the mean between training seeds.
        gap_share: of the gap from Tyche to the minute oracle, with its interval; None where that is not clear of 0.
        versus: what it is compared with: the best heuristic on this metric other than itself, or a chosen agent.
        relative: mean difference from that, relative to it.
        difference: the same in ms, with its interval.
        bca: ends of the BCa interval of that difference; None where there is none.
        clear_of_zero: whether both intervals lie on one side of 0.
        improvement: share of windows x training seeds that are better than with that.
        besides: means of ``measure.BESIDES``.
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
    bca: tuple[float | None, float | None]
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
        for metric in METRICS:
            found = by_member(own, metric)
            entries += [_standing(scenario, name, metric, found, own, against, rivals) for name in found]
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
        lines += ["", f"Means over {first.windows} windows of {first.groups} function groups.", ""]
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
    scenario: str,
    name: str,
    metric: str,
    found: dict[str, list[Windows]],
    rows: Sequence[Row],
    against_agent: str | None,
    rivals: Sequence[str],
) -> Standing:
    members = found[name]
    average = _average(members)
    best = min(
        (other for other in rivals if other != name), key=lambda other: float(np.mean(list(found[other][0].values())))
    )
    if against_agent is not None and name != against_agent:
        best = against_agent
    reference = _average(found[best])
    against, bca = paired(average, reference), paired_bca(average, reference)
    gap = paired(average, found[FLOOR][0], found[CEILING][0])
    means = [float(np.mean(list(member.values()))) for member in members]
    own = [row for row in rows if row["policy"] == name]
    return Standing(
        scenario=scenario,
        policy=name,
        metric=metric,
        mean=float(np.mean(means)),
        iqm=float(trim_mean(relative_costs(rows, metric)[name], 0.25)),
        seeds=len(members),
        seed_deviation=float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        gap_share=gap["gap_share"],
        versus=best,
        relative=against["relative"],
        difference=against["difference"],
        bca=bca,
        clear_of_zero=against["clear_of_zero"] and _one_sided(*bca),
        improvement=float(np.mean([member[key] < reference[key] for member in members for key in member])),
        besides={column: float(np.mean([row[column] for row in own])) for column in BESIDES},
        windows=len(average),
        groups=len({group for group, _ in average}),
    )


def _one_sided(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _average(members: Sequence[Windows]) -> Windows:
    return {key: float(np.mean([member[key] for member in members])) for key in members[0]}
