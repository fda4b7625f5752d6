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

from agents.evidence.intervals import bounds, enough

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


def draw(case: Case, trials: int, random: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Samples of a case.

    Returns:
        (trials, G) sums of parts, (trials, G) sums of wholes, and the true ratio.
    """
    each = -(-case.windows // case.groups)
    present = np.arange(each) * case.groups + np.arange(case.groups)[:, None] < case.windows
    shape = (trials, case.groups, each)

    def lognormal(sigma: float, size: tuple[int, ...] = shape) -> Floats:
        return np.exp(random.normal(-(sigma**2) / 2, sigma, size))

    def levels(mean: float, deviation: float) -> Floats:
        if case.levels == "normal":
            return random.normal(mean, deviation, (trials, case.groups, 1))
        return mean * random.exponential(size=(trials, case.groups, 1))

    requests = 100 * lognormal(0.3, (trials, case.groups, 1)) * lognormal(0.3) * present
    exponential = case.levels == "exponential"
    match case.kind:
        case "mean over windows":
            values = levels(10.0, 2.5) * lognormal(case.sigma) * present
            return values.sum(-1), np.broadcast_to(present.sum(-1, dtype=np.float64), shape[:2]), 10.0
        case "share":
            parts = requests * levels(-4.0, 2.5) * lognormal(case.sigma)
            wholes = requests * levels(-10.0, 2.5) * lognormal(case.sigma)
            return parts.sum(-1), wholes.sum(-1), 0.4
        case "no difference":
            level, truth = (1 - levels(1.0, 0.0) if exponential else levels(0.0, 1.0)), 0.0
        case "few lose":
            level, truth = (4 - levels(3.0, 0.0) if exponential else levels(1.0, 2.0)), 1.0
        case _:
            mean, deviation = NORMAL[case.kind]
            level, truth = levels(mean, deviation), mean
    return (requests * level * lognormal(case.sigma)).sum(-1), requests.sum(-1), truth


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
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000, help="samples a case")
    trials = parser.parse_args().trials
    assert all(enough(*size) for size in SIZES)
    assert not any(enough(*size) for size in TOO_SMALL)
    print(table((*ASKED, *HARDER), SIZES, trials), end="\n\n", flush=True)
    print(table(ASKED, TOO_SMALL, trials))


if __name__ == "__main__":
    main()
