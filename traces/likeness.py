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

_SPAN_US = 10 * MINUTE_US
_PRIOR_REQUESTS, _PRIOR_SHARE = 10.0, 0.25
"""Requests, and share of its own, that the common shape counts as: a rare function has hardly a shape of its own."""
_STEADY_COV = 0.05
_RATE_JITTER = 0.05
_COV_RANGE = (1e-3, 30.0)
_TURNS = 40
_GAMMA_BELOW = 4.0


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
        cov: of its gaps; nan with fewer than three requests.
        period_us: gap of a function whose gaps hardly vary; 0 for others.
        cumulative: (S + 1,) share of its requests that come before the end of each ten minutes.
        log_duration: mean and standard deviation of the logarithm of its run times in us, or None.
    """

    requests: int
    cov: float
    period_us: int
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
        start_us=trace.start_us,
    )


def _templates(trace: Trace) -> tuple[NDArray[np.int64], list[_Template]]:
    """Indices of the functions that have requests, and their templates."""
    order = np.argsort(trace.arrival_function, kind="stable")
    sizes = np.bincount(trace.arrival_function, minlength=len(trace.names))
    first = np.cumsum(sizes) - sizes
    rows = [order[first[f] : first[f] + sizes[f]] for f in range(len(sizes))]
    edges_us = _edges_us(max(1, -(-trace.end_us // _SPAN_US)), trace.end_us)
    used = np.flatnonzero(sizes)
    counts = {f: np.histogram(trace.arrival_us[rows[f]], edges_us)[0].astype(np.float64) for f in used}
    # the common shape: every function counts once, or the busiest would be all of it
    common = np.diff(edges_us) / trace.end_us * 1e-3 + sum(each / each.sum() for each in counts.values())
    common /= common.sum()
    templates = []
    for f in used:
        arrival_us = trace.arrival_us[rows[f]]
        own = counts[f] + (_PRIOR_REQUESTS + _PRIOR_SHARE * sizes[f]) * common
        cumulative = np.concatenate(([0.0], np.cumsum(own / own.sum())))
        cumulative[-1] = 1.0
        cov = cov_of_gaps(arrival_us)
        runs = None
        if len(trace.duration_us):
            logs = np.log(np.maximum(1, trace.duration_us[rows[f]]))
            runs = (float(logs.mean()), float(logs.std()))
        period_us = round((arrival_us[-1] - arrival_us[0]) / (sizes[f] - 1)) if cov < _STEADY_COV else 0
        templates.append(_Template(int(sizes[f]), cov, period_us, cumulative, runs))
    return used, templates


def _edges_us(spans: int, end_us: int) -> NDArray[np.int64]:
    edges_us: NDArray[np.int64] = np.minimum(np.arange(spans + 1, dtype=np.int64) * _SPAN_US, end_us)
    return edges_us


def _arrivals(template: _Template, end_us: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(n,) ascending arrivals of one made function."""
    if template.period_us > 0:
        # as many as the real one has, from a phase of its own
        spare_us = max(1, min(template.period_us, end_us - (template.requests - 1) * template.period_us))
        begin_us = int(generator.integers(spare_us))
        steady_us: NDArray[np.int64] = begin_us + np.arange(template.requests, dtype=np.int64) * template.period_us
        return steady_us
    count = template.requests  # a rare function's number is what matters about it
    if count * _RATE_JITTER > 1.0:
        count = max(3, int(count * np.exp(_RATE_JITTER * generator.standard_normal()) + generator.random()))
    edges_us = _edges_us(len(template.cumulative) - 1, end_us)
    wanted = 1.0 if np.isnan(template.cov) else float(np.clip(template.cov, *_COV_RANGE))
    logs = np.log(_gaps(wanted, count, generator))
    logs -= logs.max()
    # the first gap is cut at random: the time before the first request and that after the last are its two parts
    cut = generator.random()

    def laid_out(power: float) -> NDArray[np.float64]:
        gaps = np.exp(power * logs)
        operational = np.minimum((np.cumsum(gaps) - gaps[0] * cut) / gaps.sum(), 1.0)
        at_us: NDArray[np.float64] = np.interp(operational, template.cumulative, edges_us)
        return at_us

    low, high = 0.0, 64.0
    for _ in range(_TURNS if count >= 3 and not np.isnan(template.cov) else 0):
        power = (low + high) / 2
        gaps_us = np.diff(laid_out(power))
        if gaps_us.std() < wanted * gaps_us.mean():
            low = power
        else:
            high = power
    at_us = laid_out((low + high) / 2 if high < 64.0 else 1.0)
    arrival_us: NDArray[np.int64] = np.clip(np.sort(at_us), 0, end_us - 1).astype(np.int64)
    return arrival_us


def _gaps(cov: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(n,) positive gaps of about this CoV."""
    if cov >= _GAMMA_BELOW:
        return _heavy(cov, count, generator)
    gaps: NDArray[np.float64] = np.maximum(1e-12, generator.gamma(1.0 / cov**2, cov**2, count))
    return gaps


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
