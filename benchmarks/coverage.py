"""How often intervals cover the truth: the tables of ``docs/metrics.md``.

Groups are independent.  The level of a group is drawn from a normal or an exponential distribution, its windows vary
lognormally around it (sigma), and so do the requests of groups and windows (sigma 0.3 each, as in the shipped
scenarios, where those of groups vary with 0.2 to 0.5).  The truth is the population's value.  Each sample gives the
interval of ``agents/evidence/intervals.py`` and the former one, a percentile bootstrap over groups that is expanded as
in Hesterberg, The American Statistician 69(4), 2015.  From the repository's root, a few minutes:

    .venv/bin/python benchmarks/coverage.py --trials 20000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.evidence.intervals import bounds, enough, jackknife_bounds

Floats = NDArray[np.float64]
Kind = Literal["pooled mean", "mean over windows", "difference", "share", "no difference", "few lose"]
Levels = Literal["normal", "exponential"]

ASKED: tuple[Kind, ...] = ("pooled mean", "mean over windows", "difference", "share")
"""What reports show."""

HARDER: tuple[Kind, ...] = ("no difference", "few lose")
"""Differences whose skewness the mean does not give away: around 0, and towards 0."""

SIZES = ((8, 32), (12, 28), (16, 24), (20, 20), (40, 40))
"""(groups, windows in all): the smallest that give an interval, and one that is larger."""

TOO_SMALL = ((5, 15), (8, 8), (12, 12))
"""Sizes that give none, and why."""

SIGMAS = (0.5, 1.0)
NORMAL = {"pooled mean": (10.0, 2.5), "mean over windows": (10.0, 2.5), "difference": (-3.0, 3.0)}
SPREADS = (0.2, 0.5)
"""Sigma of the requests of one window, for percentiles."""

PERCENTILES = (0.5, 0.95, 0.99)
RESAMPLES = 999
FORMER_TRIALS = 2000


@dataclass(frozen=True, slots=True)
class Case:
    """What is drawn: an estimator, the levels of groups, sigma of windows, and how many there are of each."""

    kind: Kind
    levels: Levels
    sigma: float
    groups: int
    windows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Coverage of both methods, and the ratio of their median lengths."""

    coverage: float
    former: float
    length: float


def lognormal(random: np.random.Generator, sigma: float, shape: tuple[int, ...]) -> Floats:
    """Factors with mean 1."""
    return np.exp(random.normal(-(sigma**2) / 2, sigma, shape))


def draw_requests(case: Case, trials: int, random: np.random.Generator) -> Floats:
    """(trials, G, most windows of a group) requests; 0 where a group has fewer windows."""
    most = -(-case.windows // case.groups)
    present = np.arange(most) * case.groups + np.arange(case.groups)[:, None] < case.windows
    groups = lognormal(random, 0.3, (trials, case.groups, 1))
    return 100 * groups * lognormal(random, 0.3, (trials, case.groups, most)) * present


def draw_levels(case: Case, trials: int, random: np.random.Generator, mean: float, deviation: float) -> Floats:
    """(trials, G, 1) levels of groups; ``deviation`` is that of normal ones."""
    shape = (trials, case.groups, 1)
    if case.levels == "exponential":
        return mean * random.exponential(size=shape)
    return random.normal(mean, deviation, shape)


def draw(case: Case, trials: int, random: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Samples of a case.

    Returns:
        (trials, G) sums of parts, (trials, G) sums of wholes, and the true ratio.
    """
    requests = draw_requests(case, trials, random)
    skewed = case.levels == "exponential"

    def values(mean: float, deviation: float, shift: float = 0.0) -> Floats:
        level = shift + draw_levels(case, trials, random, mean, deviation)
        return level * lognormal(random, case.sigma, requests.shape)

    match case.kind:
        case "pooled mean":
            parts, wholes, truth = requests * values(10.0, 2.5), requests, 10.0
        case "mean over windows":
            wholes = (requests > 0).astype(np.float64)
            parts, truth = wholes * values(10.0, 2.5), 10.0
        case "difference":
            parts, wholes, truth = requests * values(-3.0, 3.0), requests, -3.0
        case "share":
            parts, wholes, truth = requests * values(-4.0, 2.5), requests * values(-10.0, 2.5), 0.4
        case "no difference":
            parts, wholes, truth = requests * (values(-1.0, 0.0, 1.0) if skewed else values(0.0, 1.0)), requests, 0.0
        case "few lose":
            parts, wholes, truth = requests * (values(-3.0, 0.0, 4.0) if skewed else values(1.0, 2.0)), requests, 1.0
    return parts.sum(-1), wholes.sum(-1), truth


def former(parts: Floats, wholes: Floats, resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Low and high ends, (trials,) each, of the percentile bootstrap over groups, expanded for few groups."""
    from scipy.stats import bootstrap, norm
    from scipy.stats import t as student

    def ratio(first: Floats, second: Floats, axis: int = -1) -> Floats:
        return np.asarray(first.sum(axis=axis) / second.sum(axis=axis))

    groups = parts.shape[1]
    quantile = np.sqrt(groups / (groups - 1)) * student.ppf(0.975, groups - 1)
    low, high = [], []
    for start in range(0, len(parts), 200):
        found = bootstrap(
            (parts[start : start + 200], wholes[start : start + 200]),
            ratio,
            axis=-1,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=float(1 - 2 * norm.cdf(-quantile)),
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low.append(found.low)
        high.append(found.high)
    return np.concatenate(low), np.concatenate(high)


def measure(case: Case, trials: int, former_trials: int = FORMER_TRIALS, seed: int = 0) -> Measured:
    """Draw a case many times; the former method, which is slow, on the first of the trials only."""
    parts, wholes, truth = draw(case, trials, np.random.default_rng(seed))
    ends = np.array([bounds(*sample) for sample in zip(parts, wholes, strict=True)], dtype=np.float64)
    few = slice(min(trials, former_trials))
    low, high = former(parts[few], wholes[few])
    return Measured(
        coverage=float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))),
        former=float(np.mean((low <= truth) & (truth <= high))),
        length=float(np.median(ends[few, 1] - ends[few, 0]) / np.median(high - low)),
    )


def measure_percentiles(levels: Levels, spread: float, size: tuple[int, int], trials: int) -> list[float]:
    """Coverage of the jackknife for each of :data:`PERCENTILES` of the requests of all groups together.

    Requests of a window are lognormal (``spread``) around the window's value, and so many that their distribution
    stands for them; windows vary around groups with sigma 1.
    """
    from scipy.special import ndtr

    random = np.random.default_rng(0)
    grid = np.linspace(-6, 8, 701)
    """Logarithms of times."""

    def draw_counts(groups: int, windows: int) -> tuple[Floats, Floats]:
        """Requests at or under each point of the grid, and all requests, of each group."""
        case = Case("pooled mean", levels, 1.0, groups, windows)
        requests = draw_requests(case, 1, random)[0]
        level = np.maximum(draw_levels(case, 1, random, 10.0, 2.5), 1e-3)[0]
        centres = np.log(level * lognormal(random, case.sigma, requests.shape))
        below = requests[..., None] * ndtr((grid - centres[..., None]) / spread)
        return below.sum(1), requests.sum(1)

    def quantiles(below: Floats, requests: float) -> Floats:
        return np.exp(np.interp(PERCENTILES, below / requests, grid))

    below, requests = draw_counts(20_000, 20_000)
    truth = quantiles(below.sum(0), requests.sum())
    hits = np.zeros(len(PERCENTILES))
    for _ in range(trials):
        below, requests = draw_counts(*size)
        pooled, total = below.sum(0), requests.sum()
        without = np.array([quantiles(pooled - own, total - count) for own, count in zip(below, requests, strict=True)])
        ends = [jackknife_bounds(*one) for one in zip(quantiles(pooled, total), without.T, strict=True)]
        low, high = np.array(ends).T
        hits += (low <= truth) & (truth <= high)
    return [float(hit) for hit in hits / trials]


def percentile_table(trials: int) -> str:
    """Coverage of the jackknife for p50, p95 and p99, as Markdown."""
    heads = ("levels", "sigma of requests", "groups, windows", *(f"p{round(100 * q)}" for q in PERCENTILES))
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for levels in ("normal", "exponential"):
        for spread in SPREADS:
            for size in (SIZES[0], SIZES[3]):
                cells = (f"{share:.2f}" for share in measure_percentiles(levels, spread, size, trials))
                lines.append(f"| {levels} | {spread} | {size[0]}, {size[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(kinds: Iterable[Kind], sizes: Iterable[tuple[int, int]], trials: int) -> str:
    """Coverage, in brackets the former one, and the ratio of lengths, as Markdown."""
    sizes = tuple(sizes)
    heads = ("what", "levels", "sigma", *(f"{groups} groups, {windows} windows" for groups, windows in sizes))
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for kind in kinds:
        for levels in ("normal", "exponential"):
            for sigma in SIGMAS:
                found = [measure(Case(kind, levels, sigma, *size), trials) for size in sizes]
                cells = (f"{one.coverage:.3f} ({one.former:.2f}) x {one.length:.2f}" for one in found)
                lines.append(f"| {kind} | {levels} | {sigma} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000, help="samples a case")
    trials = parser.parse_args().trials
    assert all(enough(*size) for size in SIZES)
    assert not any(enough(*size) for size in TOO_SMALL)
    print(table((*ASKED, *HARDER), SIZES, trials), end="\n\n", flush=True)
    print(table(ASKED, TOO_SMALL, trials), end="\n\n", flush=True)
    print(percentile_table(trials // 10))


if __name__ == "__main__":
    main()
