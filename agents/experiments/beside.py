"""Runs on real containers, and what the simulator predicts for the same requests, side by side.

A prediction is the mean over draws of the simulator's latencies, on the same arrivals.  An error is small where it is
at most 10 % of the mean per request and 20 % of the mean per function, or at most 5 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agents.evidence.tables import ms, percent
from agents.experiments.fidelity import DRAWS as DRAWS
from agents.playing.play import play
from agents.playing.scene import WindowScene
from agents.policies.loading import load
from tyche_env.metrics import STAGES as STAGES
from tyche_env.scenario import Conditions, Mode, PrewarmName, Scenario, SplitName
from tyche_env.world import StartType

LOADING = ("warming", "library", "model", "transfer")
OF_REQUEST, OF_FUNCTION, LEAST_MS = 0.10, 0.20, 5.0
"""Errors that are small: of the mean per request, of the mean per function, and of either in ms."""
READY = ("gpu", "memory")
"""Start types of requests whose function was loaded before they came."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means in ms over the requests of some runs.

    Attributes:
        requests: how many.
        loading: of warming and loading; a request that was not served counts as its wait.
        function: mean of the functions' means of it.
        stages: of each stage, over those that were served.
        starts: shares of the start types, likewise.
        unserved: how many were not served.
    """

    requests: int
    loading: float
    function: float
    stages: Mapping[str, float]
    starts: Mapping[str, float]
    unserved: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A run that was measured, or several windows of one policy and mode.

    Attributes:
        name: what it is called in the table.
        policy: the policy.
        measured: on real containers.
        simulated: of the same requests.
        lost: containers that were lost.
    """

    name: str
    policy: str
    measured: Figures
    simulated: Figures | None
    lost: int

    @property
    def close(self) -> bool:
        """Whether the simulator is as close as we want it."""
        if self.simulated is None:
            return True
        pairs = (
            (self.simulated.loading, self.measured.loading, OF_REQUEST),
            (self.simulated.function, self.measured.function, OF_FUNCTION),
        )
        return all(abs(ours - theirs) <= max(LEAST_MS, share * theirs) for ours, theirs, share in pairs)


def figures_of(requests: pd.DataFrame) -> Figures:
    """Figures of requests.

    Args:
        requests: a row each: ``window``, ``function``, ``start_type`` as text, ``*_us`` a stage.  Where some may not
            have been served also ``status`` (0: served), ``arrival_us``, ``end_us`` and ``unserved_us``: what one that
            was not counts as, at least.
    """
    loading_us = requests[[f"{stage}_us" for stage in LOADING]].sum(axis=1)
    served = requests
    if "unserved_us" in requests:
        is_served = requests["status"] == 0
        wait_us = np.maximum(requests["end_us"] - requests["arrival_us"], requests["unserved_us"])
        loading_us, served = loading_us.where(is_served, wait_us), requests[is_served]
    functions = loading_us.groupby([requests["window"], requests["function"]], observed=True).mean()
    return Figures(
        requests=len(requests),
        loading=float(loading_us.mean()) / 1e3,
        function=float(functions.mean()) / 1e3,
        stages={stage: float(served[f"{stage}_us"].mean()) / 1e3 for stage in STAGES},
        starts={str(name): float(share) for name, share in served["start_type"].value_counts(normalize=True).items()},
        unserved=len(requests) - len(served),
    )


def simulated(
    scenario: Scenario,
    policy: str,
    *,
    split: SplitName,
    window: int,
    seed: int,
    prewarm: PrewarmName,
    mode: Mode,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """The requests of a run, as the simulator plays them, all draws together.

    Args:
        scenario: calibrated.
        policy: name or file.
        split: of the window.
        window: its index.
        seed: of the run's arrivals.
        prewarm: the pre-warming policy.
        mode: of the run.
        draws: how often.
    """
    scene = WindowScene(scenario, split, window, seed, Conditions(prewarm, mode))
    world = scene.world(scene.requests())
    playing = load(policy).prepare(scene.history(world))
    names = {int(start): start.name.lower() for start in StartType}
    found = []
    for draw in range(draws):
        log = play(world.with_settings(seed=draw), playing).log
        assert log is not None
        table = pd.DataFrame({f"{stage}_us": log[f"{stage}_us"] for stage in STAGES})
        starts = pd.Series(log["start_type"]).map(names)
        found.append(table.assign(window=window, function=log["function"], start_type=starts))
    return pd.concat(found, ignore_index=True)


def pair(figures: Figures) -> str:
    """Per request and per function, in ms."""
    return f"{ms(figures.loading)} / {ms(figures.function)}"


def ahead(figures: Figures) -> str:
    """The share of requests whose function was loaded before they came."""
    return percent(sum(figures.starts.get(start, 0.0) for start in READY))


def table(rows: Sequence[Row]) -> str:
    """Measured beside simulated; how many were not served is told where any was."""
    fails = any(row.measured.unserved for row in rows)
    head = (
        *("mode, window", "policy", "requests", *(("not served",) if fails else ()), "measured, ms", "simulated, ms"),
        *("error, per request / per function", "pre-loaded, measured", "simulated", "scheduling, ms"),
        "lost containers",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        ours, theirs = row.simulated, row.measured
        assert ours is not None
        cells = (
            *(row.name, row.policy, str(theirs.requests), *((str(theirs.unserved),) if fails else ())),
            *(pair(theirs), pair(ours)),
            f"{_error(ours.loading, theirs.loading)} / {_error(ours.function, theirs.function)}"
            + ("" if row.close else " **outside**"),
            *(ahead(theirs), ahead(ours), ms(theirs.stages["scheduling"]), str(row.lost)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _error(ours: float, theirs: float) -> str:
    return f"{100 * (ours / theirs - 1):+.0f} %" if theirs > 0 else "-"


def misses(rows: Sequence[Row]) -> str:
    """Stage by stage, measured and simulated, where the simulator is not close enough."""
    head = ("mode, window", "policy", *LOADING[:3], "cold", "warm", "loading")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if row.simulated is not None and not row.close:
            stages = [f"{ms(row.measured.stages[each])} ({ms(row.simulated.stages[each])})" for each in LOADING[:3]]
            starts = [
                f"{percent(row.measured.starts.get(each, 0.0))} ({percent(row.simulated.starts.get(each, 0.0))})"
                for each in head[-3:]
            ]
            lines.append(f"| {' | '.join([row.name, row.policy, *stages, *starts])} |")
    return "\n".join(lines)
