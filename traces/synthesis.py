"""Made-up counts that look like a large provider's, from published distribution facts.

Sources: Shahrad et al., "Serverless in the Wild", USENIX ATC'20 (run times log-normal, memory Burr, application sizes,
timers, daily shape); quantiles of rates, of the CoV of gaps, and periods of timers as measured in eight hours of 250
functions of the data set published with it (CC-BY 4.0).  No request of that data set is copied.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from traces.counts import MINUTE_US, Counts

_DAY_MIN = 1440
_NAME_DIGITS = 5

_RATE_AT = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
_RATE_PER_MIN = (0.0007, 0.002, 0.1, 2.0, 123.0, 570.0)
_COV_AT = (0.0, 0.1, 0.5, 0.9, 1.0)
_COV = (0.1, 0.12, 1.3, 5.1, 10.0)
_PERIOD_MIN = (1, 2, 3, 5, 10, 15, 30, 60)
_PERIOD_SHARE = (0.16, 0.05, 0.03, 0.34, 0.06, 0.13, 0.07, 0.16)
_TRIGGERS = ("http", "queue", "orchestration", "storage", "event")
_TRIGGER_SHARE = (0.56, 0.29, 0.11, 0.02, 0.02)
_APP_TAIL = 1.12  # P(size >= s) = s ** -1.12: 54 % of applications have one function, 5-7 % more than ten
_LARGEST_APP = 100
_DURATION_LOG_S = (-0.38, 2.36)  # mean and standard deviation of ln(mean run time in s)
_DURATION_MS = (1.0, 600_000.0)
_MEMORY_BURR = (11.652, 0.221, 107.083)  # c, k, scale in MB
_MEMORY_MB = (1.0, 1536.0)
_LARGEST_SWING = 0.8
_PEAK_MIN = 13 * 60


def _known_rates(span: tuple[float, float]) -> tuple[float, float]:
    if not _RATE_PER_MIN[0] <= span[0] < span[1] <= _RATE_PER_MIN[-1]:
        raise ValueError(f"{span} must be two ascending rates in {_RATE_PER_MIN[0]}..{_RATE_PER_MIN[-1]}")
    return span


class SynthesisConfig(BaseModel):
    """What to make.

    Attributes:
        functions: How many functions.
        minutes: How many minutes.
        seed: Seed of all draws; function i of a seed is the same whatever the number of functions.
        first_minute: Label of the first minute in its day, which sets the phase of the daily shape.
        timer_share: Share of functions that a timer triggers.
        rate_per_min: Lowest and highest mean rate of the other functions; rates outside are not drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functions: int = Field(default=100, ge=1)
    minutes: int = Field(default=_DAY_MIN, ge=1)
    seed: int = Field(default=0, ge=0)
    first_minute: int = Field(default=0, ge=0)
    timer_share: float = Field(default=0.5, ge=0.0, le=1.0)
    rate_per_min: Annotated[tuple[float, float], AfterValidator(_known_rates)] = (_RATE_PER_MIN[0], _RATE_PER_MIN[-1])


def synthesize(config: SynthesisConfig) -> Counts:
    """Make counts per minute.

    Timers have one request every 1 to 60 minutes.  The others have rates over many decades; their gaps are gamma
    distributed with the CoV of their function (small shapes give bursts), in a time that runs faster by day, by an
    amount of their own.

    Returns:
        Counts whose source says that they are synthetic.
    """
    apps = _app_numbers(config)
    draws = [_function(config, index) for index in range(config.functions)]
    return Counts(
        names=tuple(f"f{index:0{_NAME_DIGITS}d}" for index in range(config.functions)),
        owners=tuple(f"o{app:0{_NAME_DIGITS}d}" for app in apps),
        apps=tuple(f"a{app:0{_NAME_DIGITS}d}" for app in apps),
        triggers=tuple(trigger for trigger, *_ in draws),
        counts=np.stack([counts for _, counts, *_ in draws]),
        first_minute=config.first_minute,
        start_us=config.first_minute * MINUTE_US,
        duration_ms=np.array([duration for *_, duration, _ in draws]),
        memory_mb=np.array([memory for *_, memory in draws]),
        weights=np.ones(config.functions, np.int64),
        source=f"synthetic, from the distributions of Shahrad et al., USENIX ATC'20; {config!r}",
        licence="Apache-2.0",
    )


def _function(config: SynthesisConfig, index: int) -> tuple[str, NDArray[np.int32], float, float]:
    """Trigger, counts (M,), mean run time in ms and memory in MB of one function."""
    generator = np.random.default_rng((config.seed, 1, index))
    duration_ms = float(np.clip(1000.0 * generator.lognormal(*_DURATION_LOG_S), *_DURATION_MS))
    c, k, scale = _MEMORY_BURR
    memory_mb = float(np.clip(scale * ((1.0 - generator.random()) ** (-1.0 / k) - 1.0) ** (1.0 / c), *_MEMORY_MB))
    if generator.random() < config.timer_share:
        period = int(generator.choice(_PERIOD_MIN, p=_PERIOD_SHARE))
        counts = np.zeros(config.minutes, np.int32)
        counts[int(generator.integers(period)) :: period] = 1
        return "timer", counts, duration_ms, memory_mb
    trigger = str(generator.choice(_TRIGGERS, p=_TRIGGER_SHARE))
    low, high = np.interp(np.log(config.rate_per_min), np.log(_RATE_PER_MIN), _RATE_AT)
    rate_per_min = float(np.exp(np.interp(generator.uniform(low, high), _RATE_AT, np.log(_RATE_PER_MIN))))
    cov = float(np.exp(np.interp(generator.random(), _COV_AT, np.log(_COV))))
    shape = _daily_shape(config, generator)
    operational_min = _gamma_arrivals(rate_per_min, cov, float(shape.sum()), generator)
    minute = np.searchsorted(np.cumsum(shape), operational_min, side="right")
    counts = np.bincount(minute[minute < config.minutes], minlength=config.minutes).astype(np.int32)
    return trigger, counts, duration_ms, memory_mb


def _daily_shape(config: SynthesisConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    """Relative rate in each minute: one wave a day, mean 1 over the day, peaking about noon."""
    swing = generator.uniform(0.0, _LARGEST_SWING)
    peak = generator.normal(_PEAK_MIN, 120.0)
    label = config.first_minute + np.arange(config.minutes)
    return np.asarray(1.0 + swing * np.cos(2.0 * np.pi * (label - peak) / _DAY_MIN), dtype=np.float64)


def _gamma_arrivals(rate: float, cov: float, end: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Arrivals in 0..end of a stationary renewal process with gamma gaps of this rate and CoV."""
    form = 1.0 / cov**2
    scale = cov**2 / rate
    # Seen from a random instant, the gap in progress is length-biased, and a uniform part of it is still to come.
    start = float(generator.uniform() * generator.gamma(form + 1.0, scale))
    parts = [np.array([start])]
    while parts[-1][-1] < end:
        gaps = generator.gamma(form, scale, size=max(16, int(1.2 * rate * (end - parts[-1][-1]))))
        parts.append(parts[-1][-1] + np.cumsum(gaps))
    arrivals = np.concatenate(parts)
    return arrivals[arrivals < end]


def _app_numbers(config: SynthesisConfig) -> list[int]:
    """Application of each function, one owner an application; neighbours share."""
    generator = np.random.default_rng((config.seed, 0))
    numbers: list[int] = []
    app = 0
    while len(numbers) < config.functions:
        size = min(int((1.0 - generator.random()) ** (-1.0 / _APP_TAIL)), _LARGEST_APP)
        numbers.extend([app] * size)
        app += 1
    return numbers[: config.functions]
