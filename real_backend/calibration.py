"""Profiles and delays fitted to what a real run recorded, so that the simulator can be set beside another run.

Every stage of every invocation is a sample: of the library and the model where all of it was paid, in runs that met no
process and in loads alike.  Where the scenario models contention, a sample is what the stage would have taken alone.
The centre of a stage is chosen such that the simulator's mean is that of the samples; a profile has one spread, which
is chosen such that library and model together vary as they did.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from real_backend.unsharing import alone_us
from tyche_env.errors import UserError
from tyche_env.profiles import FunctionProfile
from tyche_env.scenario import Scenario, SplitName
from tyche_env.world import StartType

FEWEST = 3
"""Samples of a function below which its profile stays as it was."""
_LARGEST_SIGMA = 2.0
_DELAYS = ("scheduling_ms", "clear_ms", "command_ms", "offload_ms")
_STAGES = ("warming", "library", "model", "transfer", "inference")
_WHOLE = (StartType.WARM, StartType.COLD)
_CLEARED_US = 500
"""A start that took longer to clear its container than this found something to clear."""


class CalibrationError(UserError):
    """A run that nothing can be fitted to; the message says what would be right."""


@dataclass(slots=True)
class _Samples:
    """Stages of one profile in ms, and of containers and orders."""

    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    loading: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted.

    Attributes:
        scenario: of the run.
        profiles: the scenario's, with fitted latencies where there were enough samples.
        delays: settings of the scenario's ``controller`` in ms.
        counts: samples by profile: (of the library and the model, of the inference).
    """

    scenario: Scenario
    profiles: tuple[FunctionProfile, ...]
    delays: Mapping[str, float]
    counts: Mapping[str, tuple[int, int]]

    def applied(self, catalogue: Path) -> Scenario:
        """The run's scenario with the fitted delays, and profiles from ``catalogue``."""
        controller = {f"controller.{name}": value for name, value in self.delays.items()}
        return self.scenario.with_(**{"functions.catalogue": str(catalogue), **controller})


def calibrate(run: Path) -> Calibration:
    """Fit profiles and delays to the real runs of a run folder.

    Args:
        run: what ``tyche evaluate --backend openwhisk`` left.

    Raises:
        CalibrationError: the folder is no finished real run.
    """
    manifest, rows = _read(run)
    return fit(Scenario.load(run / "scenario.yaml"), manifest["plan"]["split"], rows, _source(manifest, rows))


def fit(scenario: Scenario, split: SplitName, rows: Sequence[Mapping[str, Any]], source: str) -> Calibration:
    """Fit profiles and delays to real runs of windows of a scenario.

    Args:
        scenario: of the runs.
        split: of the windows.
        rows: of the runs; each has ``window``, ``seed`` and ``invocations`` (``columns`` and ``rows``).
        source: where they come from, for the profiles.
    """
    samples: dict[str, _Samples] = defaultdict(_Samples)
    init_ms: list[float] = []
    orders: dict[str, list[float]] = defaultdict(list)
    cores = sum(group.count * (group.cores or 0) for group in scenario.cluster.nodes) if scenario.contention else None
    for row in rows:
        names = scenario.world(split, row["window"], row["seed"]).profiles
        columns = row["invocations"]["columns"]
        invocations = [dict(zip(columns, values, strict=True)) for values in row["invocations"]["rows"]]
        for each, alone in zip(invocations, _alone_ms(invocations, cores), strict=True):
            if each["status"] == 0:
                _take(each, alone, samples[names[each["function"]]], init_ms, orders)
    known = {profile.name: profile for profile in scenario.functions.selected()}
    return Calibration(
        scenario=scenario,
        profiles=tuple(
            _fitted(profile, samples[name], init_ms, f"{source}; memory as declared") for name, profile in known.items()
        ),
        delays={
            name: _delay_ms(orders[name.removesuffix("_ms")], getattr(scenario.controller, name)) for name in _DELAYS
        },
        counts={name: (len(samples[name].loading), len(samples[name].stages["inference"])) for name in known},
    )


def _read(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Manifest and rows of the folder."""
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{run}: is no folder of a finished run ({error})") from None
    rows = [row for row in rows if "invocations" in row]
    if not rows:
        raise CalibrationError(f"{run}: has no run on real containers; make one with --backend openwhisk")
    return manifest, rows


def _alone_ms(invocations: Sequence[Mapping[str, Any]], cores: int | None) -> list[dict[str, float]]:
    """What the stages of each invocation would have taken alone, in ms.

    Stages are taken to follow each other up to the end of their invocation, since replies take little.
    """
    begin_us = np.zeros((len(invocations), len(_STAGES)))
    end_us = np.zeros_like(begin_us)
    for row, each in enumerate(invocations):
        lengths = np.array([each[f"{name}_us"] for name in _STAGES])
        end_us[row] = each["end_us"] - lengths.sum() + np.cumsum(lengths)
        begin_us[row] = end_us[row] - lengths
    alone = alone_us(begin_us.ravel(), end_us.ravel(), cores).reshape(begin_us.shape) / 1e3
    return [dict(zip(_STAGES, row, strict=True)) for row in alone.tolist()]


def _take(
    each: Mapping[str, Any],
    alone: Mapping[str, float],
    own: _Samples,
    init_ms: list[float],
    orders: dict[str, list[float]],
) -> None:
    """Add an invocation's stages to the samples."""
    ms = {name.removesuffix("_us"): value / 1e3 for name, value in each.items() if isinstance(value, int)}
    over_ms = ms["end"] - ms["begin"] - ms["clear"] - sum(ms[stage] for stage in _STAGES)
    kind = each["kind"]
    if kind == "infer":
        own.stages["inference"].append(alone["inference"])
        if each["met"] == StartType.COLD:
            init_ms.append(alone["warming"])
        # no sample of the delay alone: a start that waited for another call in its slot, or cleared while it loaded
        if ms["begin"] - ms["order"] < 1 and each["met"] != StartType.LOADING:
            orders["scheduling"].append(over_ms)
        if ms["clear"] * 1e3 > _CLEARED_US:
            orders["clear"].append(ms["clear"])
    elif kind == "load":
        orders["command"].append(over_ms)
    elif kind == "offload":
        orders["offload"].append(ms["end"] - ms["begin"])
    if (kind == "infer" and each["met"] in _WHOLE) or (kind == "load" and ms["library"] > 0):
        for stage in ("library", "model"):
            own.stages[stage].append(alone[stage])
        own.loading.append(alone["library"] + alone["model"])
    if ms["transfer"] > 0:
        own.stages["transfer"].append(alone["transfer"])


def _fitted(profile: FunctionProfile, samples: _Samples, init_ms: Sequence[float], source: str) -> FunctionProfile:
    if len(samples.loading) < FEWEST:
        return profile
    sigma = _sigma(samples)
    changes: dict[str, Any] = {"sigma": round(sigma, 3), "source": source}
    for stage, values in (*samples.stages.items(), ("container_init", init_ms)):
        if values:
            # the mean of a log-normal latency is its median times exp(sigma^2 / 2)
            changes[f"{stage}_ms"] = round(statistics.mean(values) * math.exp(-(sigma**2) / 2), 3)
    return profile.model_copy(update=changes)


def _sigma(samples: _Samples) -> float:
    """The spread of each stage with which the sum of library and model varies as it did.

    The simulator draws the two by themselves, so their sum varies less than each.
    """
    library, model = (statistics.mean(samples.stages[stage]) for stage in ("library", "model"))
    whole = statistics.stdev(math.log(max(value, 1e-3)) for value in samples.loading)
    return min(_LARGEST_SIGMA, whole * (library + model) / math.hypot(library, model))


def _delay_ms(samples: Sequence[float], known_ms: float) -> float:
    """Median of the samples; what the run never did keeps the delay that the scenario has."""
    return round(max(0.0, statistics.median(samples)), 3) if samples else float(known_ms)


def _source(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the numbers come from: window, device, date, versions."""
    plan, versions = manifest["plan"], manifest["versions"]
    where = ", ".join(sorted({row["health"]["where"] for row in rows}))
    policies = ", ".join(dict.fromkeys(row["policy"] for row in rows))
    load = max(max(row["health"]["load_average"]) for row in rows)
    chosen = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "tyche-env") if name in versions)
    return (
        f"fitted to {len(rows)} real runs ({policies}) of {plan['windows']} {plan['split']} windows of "
        f"{plan['scenario']}, measured {manifest['started'][:10]} on {where}; "
        f"load average up to {load}; {chosen}"
    )
