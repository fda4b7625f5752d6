"""Traces that look like a real one: its functions' rates, regularity and daily shape, none of its requests.

Each function of the real trace is a template: number of requests, coefficient of variation (CoV) of its gaps, rate by
the hour, run times.  A made function takes one template's numbers, so that what belongs together stays together, and
draws its own gaps: gamma distributed, bent by a power until their CoV is the template's, laid out in a time that runs
faster in the template's busy hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from traces.counts import MINUTE_US, Counts
from traces.describe import cov_of_gaps
from traces.errors import TraceError
from traces.shape import as_trace
from traces.trace import Trace

_HOUR_US = 60 * MINUTE_US
_PRIOR_REQUESTS = 4.0
"""Requests an hour's worth of the common shape counts as: a rare function has hardly a shape of its own."""
_STEADY_COV = 0.05
_RATE_JITTER = 0.05
_COV_RANGE = (1e-3, 30.0)


class LikenessConfig(BaseModel):
    """What to make.

    Attributes:
        functions: How many functions; None: as many as the real trace has.
        seed: Seed of all draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functions: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class _Template:
    """What one real function lends.

    Attributes:
        requests: how many it gets.
        cov: of its gaps, in the time that runs by its shape; nan with fewer than three requests.
        cumulative: (H + 1,) share of its requests that come before each hour's end.
        log_duration: mean and standard deviation of the logarithm of its run times in us, or None.
    """

    requests: int
    cov: float
    cumulative: NDArray[np.float64]
    log_duration: tuple[float, float] | None


def synthesize_like(real: Counts | Trace, config: LikenessConfig | None = None) -> Trace:
    """Make a trace of the same length whose functions are like those of a real one.

    Args:
        real: The trace to be like; functions without a request are not taken as templates.
        config: Size and seed.

    Returns:
        The trace; its source says that it is synthetic and what it is like.

    Raises:
        TraceError: the real trace has no requests.
    """
    config = config or LikenessConfig()
    trace = as_trace(real)
    if len(trace.arrival_us) == 0:
        raise TraceError("--like: the trace has no requests to be like")
    used, templates = _templates(trace)
    count = config.functions or len(trace.names)
    generator = np.random.default_rng(config.seed)
    # every template equally often, in random order
    rounds = -(-count // len(templates))
    chosen = np.concatenate([generator.permutation(len(templates)) for _ in range(rounds)])[:count]
    parts = [
        _arrivals(templates[at], trace.end_us, np.random.default_rng((config.seed, k))) for k, at in enumerate(chosen)
    ]
    runs = [_durations(templates[at], len(parts[k]), config.seed, k) for k, at in enumerate(chosen)]
    owners = {owner: f"o{number:05d}" for number, owner in enumerate(dict.fromkeys(trace.owners)) if owner}
    sizes = [len(part) for part in parts]
    return Trace.build(
        names=[f"f{k:05d}" for k in range(count)],
        owners=[owners.get(trace.owners[used[at]], "") for at in chosen],
        triggers=[trace.triggers[used[at]] for at in chosen],
        arrival_us=np.concatenate(parts),
        arrival_function=np.repeat(np.arange(count, dtype=np.int32), sizes),
        duration_us=np.concatenate(runs) if len(trace.duration_us) else None,
        end_us=trace.end_us,
        source=f"synthetic, like {trace.metadata.source} ({trace.metadata.window})",
        licence=trace.metadata.licence,
        window=f"{trace.end_us / MINUTE_US:g} minutes",
        expansion="none",
        seed=config.seed,
    )


def _templates(trace: Trace) -> tuple[NDArray[np.int64], list[_Template]]:
    """Indices of the functions that have requests, and their templates."""
    order = np.argsort(trace.arrival_function, kind="stable")
    sizes = np.bincount(trace.arrival_function, minlength=len(trace.names))
    first = np.cumsum(sizes) - sizes
    hours = max(1, -(-trace.end_us // _HOUR_US))
    edges_us = np.minimum(np.arange(hours + 1) * _HOUR_US, trace.end_us)
    used = np.flatnonzero(sizes)
    # the common shape: every function counts once, or the busiest would be all of it
    shares = np.zeros(hours)
    by_hour = []
    for f in used:
        arrival_us = trace.arrival_us[order[first[f] : first[f] + sizes[f]]]
        counts = np.diff(np.searchsorted(arrival_us, edges_us)).astype(np.float64)
        by_hour.append((arrival_us, counts))
        shares += counts / counts.sum()
    common = (shares + 1e-9) / (shares + 1e-9).sum() * np.diff(edges_us) / np.diff(edges_us).mean()
    common /= common.sum()
    templates = []
    for f, (arrival_us, counts) in zip(used, by_hour, strict=True):
        steady = cov_of_gaps(arrival_us) < _STEADY_COV
        own = np.diff(edges_us).astype(np.float64) if steady else counts + _PRIOR_REQUESTS * hours * common
        cumulative = np.concatenate(([0.0], np.cumsum(own / own.sum())))
        cumulative[-1] = 1.0
        operational = np.interp(arrival_us, edges_us, cumulative)
        runs = None
        if len(trace.duration_us):
            logs = np.log(np.maximum(1, trace.duration_us[order[first[f] : first[f] + sizes[f]]]))
            runs = (float(logs.mean()), float(logs.std()))
        templates.append(_Template(int(sizes[f]), _cov(np.diff(operational)), cumulative, runs))
    return used, templates


def _arrivals(template: _Template, end_us: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(n,) ascending arrivals of one made function."""
    jittered = template.requests * np.exp(_RATE_JITTER * generator.standard_normal())
    count = max(1, int(jittered + generator.random()))
    if template.requests < 1.0 / _RATE_JITTER:
        count = template.requests  # a rare function's number is what matters about it
    gaps = _gaps(template.cov, count, generator)
    # the first gap is cut at random: the time before the first request and that after the last are its two parts
    at = np.cumsum(gaps) - gaps[0] * generator.random()
    operational = np.minimum(at / gaps.sum(), 1.0)
    edges_us = np.minimum(np.arange(len(template.cumulative)) * _HOUR_US, end_us)
    at_us = np.sort(np.interp(operational, template.cumulative, edges_us))
    arrival_us: NDArray[np.int64] = np.clip(at_us, 0, end_us - 1).astype(np.int64)
    return arrival_us


def _gaps(cov: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(n,) positive gaps whose sample CoV is the wanted one as nearly as their number allows."""
    wanted = 1.0 if np.isnan(cov) else float(np.clip(cov, *_COV_RANGE))
    gaps = (
        np.maximum(1e-12, generator.gamma(1.0 / wanted**2, wanted**2, count))
        if wanted < 4
        else _heavy(wanted, count, generator)
    )
    if count < 3 or np.isnan(cov):
        return gaps
    logs = np.log(gaps) - np.log(gaps).max()
    low, high = 0.0, 64.0
    for _ in range(60):
        power = (low + high) / 2
        if _cov(np.exp(power * logs)) < wanted:
            low = power
        else:
            high = power
    bent: NDArray[np.float64] = np.maximum(1e-15, np.exp((low + high) / 2 * logs))
    return bent


def _heavy(cov: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Log-normal gaps of this CoV: a gamma with such a small shape would be 0 nearly always."""
    sigma = np.sqrt(np.log1p(cov**2))
    gaps: NDArray[np.float64] = np.exp(sigma * generator.standard_normal(count))
    return gaps


def _durations(template: _Template, count: int, seed: int, number: int) -> NDArray[np.int64]:
    if template.log_duration is None:
        return np.zeros(0, np.int64)
    mean, deviation = template.log_duration
    draws = np.random.default_rng((seed, number, 1)).normal(mean, deviation, count)
    return np.rint(np.exp(np.minimum(draws, np.log(86_400e6)))).astype(np.int64)


def _cov(gaps: NDArray[np.float64]) -> float:
    mean = gaps.mean() if len(gaps) > 1 else 0.0
    return float(gaps.std() / mean) if mean > 0 else float("nan")
