"""How often intervals cover the truth: the tables of ``docs/metrics.md``.

Groups are independent.  The level of a group is drawn from a normal or an exponential distribution, its windows vary
lognormally around it (sigma), and so do the requests of groups and windows (sigma 0.3 each, as in the shipped
scenarios, where those of groups vary with 0.2 to 0.5).  The truth is the population's value.  Each sample gives the
interval of ``agents/evidence/intervals.py`` and the former one, a percentile bootstrap over groups that is expanded as
in Hesterberg, The American Statistician 69(4), 2015.  From the repository's root, a few minutes:

    .venv/bin/python benchmarks/interval_coverage.py --trials 20000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.evidence.intervals import FEWEST_GROUPS, bounds
from agents.evidence.pages import fill

Floats = NDArray[np.float64]
Kind = Literal["pooled mean", "mean over windows", "difference", "share", "no difference", "few lose"]
Levels = Literal["normal", "exponential"]

ASKED: tuple[Kind, ...] = ("pooled mean", "mean over windows", "difference", "share")
"""What reports show."""

HARDER: tuple[Kind, ...] = ("no difference", "few lose")
"""Differences whose skewness the mean does not give away: around 0, and towards 0."""

SIZES = ((8, 8), (8, 24), (12, 12), (20, 20), (40, 40))
"""(groups, windows in all) that give an interval."""

TOO_SMALL = ((5, 15),)
"""Sizes that give none, and why."""

SIGMAS = (0.5, 1.0)
NORMAL = {"pooled mean": (10.0, 2.5), "mean over windows": (10.0, 2.5), "difference": (-3.0, 3.0)}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
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
    """Print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000, help="samples a case")
    trials = parser.parse_args().trials
    assert all((groups >= FEWEST_GROUPS) == (size in SIZES) for size in SIZES + TOO_SMALL for groups in size[:1])
    found = {"coverage": table((*ASKED, *HARDER), SIZES, trials)}
    print(found["coverage"], end="\n\n", flush=True)
    found["coverage-five"] = table((*ASKED, *HARDER), TOO_SMALL, trials)
    print(found["coverage-five"])
    fill(PAGE, found)


if __name__ == "__main__":
    main()
