"""What a scenario's windows ask of its cluster, and what of that the cluster cannot give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from traces.counts import Counts
from traces.plausible import Finding, Work, asked, dates, findings, work
from tyche_env.scenario import Scenario, ScenarioError, SplitName
from tyche_env.sources import read_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traces import Window
    from tyche_env.profiles import FunctionProfile

FAR_ABOVE = 100
"""Work over what the cluster can hold, from which on a unit is taken to be wrong."""
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Demand:
    """What the test windows ask for in their scored time, and what is strange about a scenario.

    Attributes:
        dates: when the first and the last request of the whole trace came; None where it does not tell.
        work: how long the requests of the whole trace run; None where it does not tell.
        cluster_mb: memory of all nodes.
        room_mb: one container for each function of a window: of that window where they are largest together.
        running: requests that run at once in the mean of the window where these take most memory, if none has to wait.
        running_mb: memory of their containers.
        trace_mb: memory of all applications that the trace tells of, each once; None where it tells of none.
        empty: of each split that has room for windows, those without a request in their scored time.
        findings: what is implausible about the trace, and what the cluster cannot give.
    """

    dates: tuple[str, str] | None
    work: Work | None
    cluster_mb: int
    room_mb: int
    running: float
    running_mb: float
    trace_mb: float | None
    empty: dict[str, list[int]]
    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """What is asked and what is strange, a line each."""
        shown = [] if self.dates is None else [f"requests: from {self.dates[0]} to {self.dates[1]}"]
        shown += [] if self.work is None else _of_work(self.work)
        shown.append(
            f"memory: the cluster has {_gb(self.cluster_mb)}; a container of each function of a window takes "
            f"{_gb(self.room_mb)}, what runs in the mean of the busiest {_gb(self.running_mb)}"
        )
        if self.trace_mb is not None:
            shown.append(f"memory in the trace: {_gb(self.trace_mb)} for all its applications")
        for split, windows in self.empty.items():
            if windows:
                shown.append(f"empty windows: {_some([str(window) for window in windows])} of {split} have no request")
        return [*shown, *(f"implausible: {finding}" for finding in self.findings)]


def demand_of(scenario: Scenario) -> Demand:
    """Set a scenario's windows beside its cluster.

    Requests run as long as the trace says, or as the faster inference of their profile takes.  Loading is not counted,
    so that nothing is called too much that need not be.

    Raises:
        ScenarioError: the test split has no room for a window, or a container fits into no node.
        SourceError: the trace's files are missing.
    """
    content = read_source(scenario.trace)
    empty: dict[str, list[int]] = {}
    running_mb, running, room_mb = 0.0, 0.0, 0
    used: dict[str, FunctionProfile] = {}
    asked_in = cache(partial(asked, content))  # groups of functions share their windows' times
    for split in get_args(SplitName):
        try:
            windows = scenario.windows(split)
        except ScenarioError:
            if split == "test":
                raise
            continue  # only the split that is used has to fit
        empty[split] = []
        for window in windows:
            requests, run_us = (part[list(window.functions)] for part in asked_in(*_scored(window)))
            profiles = scenario.profiles_of(window)
            used |= {profile.name: profile for profile in profiles}
            if not requests.any():
                empty[split].append(window.index)
            if split != "test":
                continue
            if scenario.trace.durations == "profile":
                run_us = requests * np.array([_fastest_ms(profile) * 1000.0 for profile in profiles])
            container_mb = np.array([scenario.functions.container_mb or profile.container_mb for profile in profiles])
            at_once = run_us / (window.end_us - window.score_from_us)
            room_mb = max(room_mb, int(container_mb.sum()))
            running_mb, running = max((running_mb, running), (float(at_once @ container_mb), float(at_once.sum())))
    cluster_mb = sum(group.count * group.memory_mb for group in scenario.cluster.nodes)
    return Demand(
        dates=dates(content),
        work=work(content),
        cluster_mb=cluster_mb,
        room_mb=room_mb,
        running=running,
        running_mb=running_mb,
        trace_mb=_trace_mb(content) if isinstance(content, Counts) else None,
        empty=empty,
        findings=(
            *findings(content, scenario.trace.columns),
            *_silent(empty["test"], len(scenario.windows())),
            *_too_much(scenario, running, running_mb, cluster_mb),
            *_on_no_gpu(scenario, list(used.values())),
        ),
    )


def refuse_what_no_node_holds(scenario: Scenario, profiles: Sequence[FunctionProfile]) -> None:
    """Refuse containers that are larger than the smallest node.

    Raises:
        ScenarioError: names the profiles.
    """
    smallest_mb = min(group.memory_mb for group in scenario.cluster.nodes)
    sizes_mb = {each.name: scenario.functions.container_mb or each.container_mb for each in profiles}
    too_large = [f"{name} ({size_mb} MB)" for name, size_mb in sizes_mb.items() if size_mb > smallest_mb]
    if too_large:
        problem = f"the smallest node has {smallest_mb} MB, too few for a container of {_some(too_large)}"
        raise ScenarioError(f"scenario {scenario.name}: cluster.nodes: {problem}; give larger nodes or leave these out")


def _of_work(asks: Work) -> list[str]:
    quantiles = (("50 %", asks.run_ms_p50), ("90 %", asks.run_ms_p90), ("99 %", asks.run_ms_p99))
    runs = "".join(f"{share} up to {_short(ms)}, " for share, ms in quantiles)
    mean, peak = asks.concurrency_mean, asks.concurrency_peak
    return [
        f"run times in ms: {runs}the longest {_short(asks.run_ms_max)}",
        f"running at once: {_short(mean)} requests in the mean, {_short(peak)} in the busiest minute",
    ]


def _silent(empty: list[int], windows: int) -> list[Finding]:
    if len(empty) < windows:
        return []
    return [
        Finding("windows", f"none of the {windows} test windows has a request; is a time far from all others?", True)
    ]


def _too_much(scenario: Scenario, running: float, running_mb: float, cluster_mb: int) -> list[Finding]:
    """Work that waits for longer and longer."""
    have = [("memory", running_mb, cluster_mb, f"{_gb(running_mb)} of containers run", _gb(cluster_mb))]
    if scenario.contention:
        cores = sum(group.count * (group.cores or 0) for group in scenario.cluster.nodes)
        have.append(("cores", running, cores, f"{_short(running)} requests run", f"{cores} cores"))
    return [
        Finding(
            about,
            f"in the mean of a test window {words} at once, the cluster has {limit}: requests wait longer and longer"
            + ("; are the units of times and run times right?" if wanted > FAR_ABOVE * there else ""),
            grave=wanted > FAR_ABOVE * there,
        )
        for about, wanted, there, words, limit in have
        if wanted > there
    ]


def _on_no_gpu(scenario: Scenario, profiles: Sequence[FunctionProfile]) -> list[Finding]:
    largest_mb = max(group.gpu_memory_mb for group in scenario.cluster.nodes)
    too_large = [f"{each.name} ({each.gpu_mb} MB)" for each in profiles if each.gpu_mb > largest_mb > 0]
    if not too_large:
        return []
    return [Finding("GPUs", f"the largest has {largest_mb} MB, too few for {_some(too_large)}: these run without one")]


def _scored(window: Window) -> tuple[int, int]:
    return window.score_from_us, window.end_us


def _fastest_ms(profile: FunctionProfile) -> float:
    return min(profile.inference_ms, profile.gpu_inference_ms) if profile.gpu_mb else profile.inference_ms


def _trace_mb(counts: Counts) -> float | None:
    """Memory of applications; where a function has none, its own."""
    if np.isnan(counts.memory_mb).all():
        return None
    names = zip(counts.owners, (app or name for app, name in zip(counts.apps, counts.names, strict=True)), strict=True)
    each = {name: float(mb) for name, mb in zip(names, counts.memory_mb, strict=True) if mb == mb}
    return sum(each.values())


def _gb(mb: float) -> str:
    return f"{_short(mb / 1000)} GB"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
