"""Cases of an experiment: how one is run, and how many are, resumably."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evidence.bound import bound
from agents.evidence.run_folder import RunFolder
from agents.experiments.draws import Draw, DrawScene
from agents.playing.scene import play_in
from agents.playing.spread import ALL_CORES, Progress, Spread, crew, play_each
from agents.policies.loading import BOUND, load
from tyche_env.metrics import STAGES, TOTALS_DTYPE, ratio_of, sums_of
from tyche_env.scenario import Mode, PrewarmName, Scenario
from tyche_env.world import Kernel, Routing, World

Axis = str | int | float

_KEPT = (
    *("container_gb_s", "idle_gb_s", "preload_gb_s", "gpu_gb_s", "loads", "wasted_loads", "cost_usd"),
    *("cold_rate", "warm_rate", "kept_rate"),
)
"""Metrics that a row has."""

BINS_PER_DECADE = 40
"""Resolution of the latency histograms, from 1 ms on."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Attributes:
        axes: what its row is filed under; cases with equal axes and different draws are averaged.
        scenario: cluster, profiles, trace.
        draw: the requests.
        policy: a name that ``agents.load`` knows, or ``bound``.
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
    def key(self) -> tuple[Hashable, ...]:
        """What identifies its row."""
        return (*self.axes.items(), self.draw.name)

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """The scene's."""
        return self.scene.world_key

    @property
    def scene(self) -> DrawScene:
        """Where it is played; without a pre-loader the platform routes as it does by itself."""
        settings = self.settings
        if self.policy != BOUND and load(self.policy).kernel == Kernel.NONE:
            settings = {**settings, "routing": Routing.HASH}
        return DrawScene(self.scenario, self.draw, self.prewarm, self.mode, settings)

    def requests(self) -> World:
        """The scene's."""
        return self.scene.requests()

    def row(self, requests: World) -> dict[str, Any]:
        """Its axes, and sums by function of the trace."""
        row: dict[str, Any] = {"axes": dict(self.axes), "draw": self.draw.name}
        if self.policy == BOUND:
            found = bound(requests)
            scored = requests.arrival_us >= requests.score_from_us
            return row | {"bound_ms": _ms(found.request_mean_us), "requests": int(scored.sum())}
        played = play_in(self.scene, load(self.policy), requests)
        totals, log = played.totals, played.log
        assert log is not None  # recorded by default
        sums = sums_of(totals, played.counters, played.integrals_mb_us, self.scenario.prices)
        return row | {
            "by_function": _by_function(self.draw, totals),
            "stages_ms": {stage: sums[f"{stage}_us"] / 1e3 for stage in STAGES},
            "latency": _histogram(log["end_us"] - log["arrival_us"]),
            "requests": int(sums["requests"]),
            **{name: ratio_of(name, sums) for name in _KEPT},
            "cpu_s": played.cpu_s,
        }


def run_all(
    cases: Sequence[Case], folder: RunFolder, spread: Spread = ALL_CORES, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Run the cases that the folder has no row of yet; the rows of all, in the order of the cases.

    Args:
        cases: what to run.
        folder: where rows go, one line a run.
        spread: where they are run.
        progress: called with (finished, all).
    """
    rows = {_key(row): row for row in folder.rows()}
    left = [case for case in cases if case.key not in rows]
    # cases of one world follow each other, so that it is made once
    worlds = {key: place for place, key in enumerate(dict.fromkeys(case.world_key for case in left))}
    left.sort(key=lambda case: worlds[case.world_key])
    before = len(cases) - len(left)

    def told(done: int, _: int) -> None:
        if progress:
            progress(before + done, len(cases))

    with crew(spread) as workers:
        for case, row in play_each(left, workers, told):
            folder.append(row)
            rows[case.key] = row
    return [rows[case.key] for case in cases]


def open_folder(out: Path, plan: Mapping[str, Any], scenarios: Iterable[Scenario], command: str) -> RunFolder:
    """The run folder of one experiment, new or to go on with.

    Raises:
        RunError: it holds another experiment, or the scenarios have changed.
    """
    # Hashing reads the profiles, and there are few scenarios for many cases.
    distinct = list({id(scenario): scenario for scenario in scenarios}.values())
    hashes = sorted({scenario.hash() for scenario in distinct})
    text = "---\n".join({scenario.name: scenario.to_yaml() for scenario in distinct}.values())
    return RunFolder.open(out, {**plan, "scenarios": hashes}, text, command)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*row["axes"].items(), row["draw"])


def _by_function(draw: Draw, totals: NDArray[Any]) -> dict[str, list[float]]:
    """Sums over the pieces of each function of the trace: what intervals rest on."""
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
