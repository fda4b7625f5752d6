"""Cases of an experiment: how one is run, and how many are, resumably and over several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bound import bound
from agents.experiments.draws import Draw, histories, world_of
from agents.hindsight import run_policy
from agents.policy import BOUND, POLICIES
from agents.predictors import TABLES, forecast
from agents.runs import STAGES, RunFolder
from tyche_env.fourier import with_forecast
from tyche_env.metrics import TOTALS_DTYPE, summarize
from tyche_env.scenario import PREWARM, Mode, PrewarmName, Scenario
from tyche_env.simulate import Result, simulate
from tyche_env.world import Kernel, Routing, World

Axis = str | int | float
Progress = Callable[[int, int], None]

BINS_PER_DECADE = 40
"""Resolution of the latency histograms, from 1 ms on."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Attributes:
        axes: what its row is filed under; cases with equal axes and different draws are averaged.
        scenario: cluster, profiles, trace.
        draw: the requests.
        policy: a name of ``agents.policy.POLICIES`` or ``agents.predictors.TABLES``, or ``bound``.
        prewarm: the platform's policy.
        mode: what becomes of processes.
        settings: changes of :class:`~tyche_env.world.Settings`, before the policy's own.
    """

    axes: Mapping[str, Axis]
    scenario: Scenario
    draw: Draw
    policy: str
    prewarm: PrewarmName
    mode: Mode = "paper"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies its row."""
        return (*self.axes.items(), self.draw.name)


def run(case: Case, world: World) -> dict[str, Any]:
    """One case's row: its axes, and sums by function of the trace.

    Args:
        case: what to run.
        world: of its scenario, draw and mode.
    """
    row: dict[str, Any] = {"axes": dict(case.axes), "draw": case.draw.name}
    if case.policy == BOUND:
        found = bound(world)
        scored = world.arrival_us >= world.score_from_us
        return row | {"bound_ms": _ms(found.request_mean_us), "requests": int(scored.sum())}
    result = simulated(case, world)
    totals, log = result.totals, result.log
    assert log is not None  # recorded by default
    metrics = summarize(
        totals,
        result.end_to_end_percentiles_us,
        result.counters,
        result.integrals_mb_us,
        prices=case.scenario.prices,
        invocations=len(world.arrival_us),
        cpu_s=result.cpu_s,
    )
    stages = {stage: float(log[f"{stage}_us"].sum(dtype=np.int64)) / 1e3 for stage in STAGES}
    return row | {
        "by_function": _by_function(case.draw, totals),
        "stages_ms": stages,
        "latency": _histogram(log["end_us"] - log["arrival_us"]),
        **{
            name: metrics[name]
            for name in (
                "requests",
                "container_gb_s",
                "idle_gb_s",
                "preload_gb_s",
                "gpu_gb_s",
                "loads",
                "wasted_loads",
                "cost_usd",
                "cold_rate",
                "warm_rate",
                "kept_rate",
            )
        },
        "cpu_s": result.cpu_s,
    }


def simulated(case: Case, world: World, **options: Any) -> Result:
    """Simulate a case.

    Args:
        case: its policies and settings.
        world: of its scenario, draw and mode.
        options: of ``tyche_env.simulate.simulate``.
    """
    changes: dict[str, Any] = {"prewarm": PREWARM[case.prewarm], **case.settings}
    if case.prewarm == "icebreaker":
        world = with_forecast(world)
    if case.policy in TABLES:
        world = forecast(TABLES[case.policy], world, histories(case.scenario.trace, case.draw))
        return simulate(world.with_settings(kernel=Kernel.TABLE, **changes).validate(), **options)
    policy = POLICIES[case.policy]
    if policy.kernel == Kernel.NONE:
        # Without a pre-loader the platform routes as it does by itself.
        changes["routing"] = Routing.HASH
    return run_policy(world.with_settings(**changes), policy, **options)


def run_all(
    cases: Sequence[Case], folder: RunFolder, jobs: int | None = None, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Run the cases that the folder has no row of yet; the rows of all, in the order of the cases.

    Args:
        cases: what to run.
        folder: where rows go, one line a run.
        jobs: processes; None: one a core.
        progress: called with (finished, all).
    """
    done = {_key(row): row for row in folder.rows()}
    left = [case for case in cases if case.key not in done]
    if progress:
        progress(len(cases) - len(left), len(cases))
    for row in _run(left, jobs or os.cpu_count() or 1):
        folder.append(row)
        done[_key(row)] = row
        if progress:
            progress(len(done), len(cases))
    return [done[case.key] for case in cases]


def run_batch(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Run cases one after the other; those of one world share it."""
    rows = []
    key, world = None, None
    for case in cases:
        wanted = (case.scenario, case.draw, case.mode)
        if world is None or wanted != key:
            key, world = wanted, world_of(case.scenario, case.draw, case.mode)
        rows.append(run(case, world))
    return rows


def open_folder(out: Path, experiment: str, draws: int, cases: Sequence[Case], command: str) -> RunFolder:
    """The run folder of one experiment, new or to go on with.

    Raises:
        RunError: it holds another experiment, or the scenarios have changed.
    """
    scenarios = {case.scenario.name: case.scenario for case in cases}
    plan = {
        "experiment": experiment,
        "draws": draws,
        "scenarios": sorted({case.scenario.hash() for case in _firsts(cases)}),
    }
    text = "---\n".join(scenario.to_yaml() for scenario in scenarios.values())
    return RunFolder.open(out, plan, text, command)


def _firsts(cases: Sequence[Case]) -> list[Case]:
    """One case a scenario; hashing reads the profiles, and there are few scenarios for many cases."""
    return list({id(case.scenario): case for case in cases}.values())


def _run(cases: list[Case], jobs: int) -> Iterator[dict[str, Any]]:
    batches = _batches(cases)
    jobs = min(jobs, len(batches))
    if jobs <= 1:
        for batch in batches:
            yield from run_batch(batch)
        return
    # Children must not share state with this process, so they are started afresh.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_batch, batch) for batch in batches]):
            yield from future.result()


def _batches(cases: list[Case]) -> list[list[Case]]:
    """Cases of one draw together."""
    grouped: dict[str, list[Case]] = {}
    for case in cases:
        grouped.setdefault(case.draw.name, []).append(case)
    return list(grouped.values())


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*row["axes"].items(), row["draw"])


def _by_function(draw: Draw, totals: NDArray[Any]) -> dict[str, list[float]]:
    """Sums over the pieces of each function of the trace: what the bootstrap resamples."""
    assert totals.dtype == TOTALS_DTYPE
    functions, place = np.unique(draw.functions, return_inverse=True)

    def added(values: NDArray[Any]) -> list[float]:
        sums: list[float] = np.bincount(place, weights=values, minlength=len(functions)).tolist()
        return [round(value, 6) for value in sums]

    requests = totals["requests"]
    loading_ms = totals["warming_loading_us"] / 1e3
    return {
        "function": functions.tolist(),
        "requests": added(requests),
        "warming_loading_ms": added(loading_ms),
        "end_to_end_ms": added(totals["end_to_end_us"] / 1e3),
        "queue_ms": added(totals["queue_us"] / 1e3),
        "preloaded": added(totals["gpu"] + totals["memory"]),
        "pieces": added(requests > 0),
        "piece_ms": added(loading_ms / np.maximum(1, requests)),
    }


def _histogram(took_us: NDArray[np.int64]) -> dict[str, int]:
    """{logarithmic bin of latency: requests}."""
    bins, counts = np.unique(
        np.floor(np.log10(np.maximum(took_us, 1_000) / 1_000) * BINS_PER_DECADE).astype(int), return_counts=True
    )
    return {str(each): int(count) for each, count in zip(bins, counts, strict=True)}


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else value_us / 1e3
