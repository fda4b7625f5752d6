"""Trials of a search for hyperparameters: what one costs, which is the best, and how they are told.

A trial has one number, from 0: that of its folder, its line, its row and of the best recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.policies.bundle import load_bundle
from agents.policies.recipe import Value
from agents.training.seeds import validation_cost


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial.

    Attributes:
        number: from 0.
        values: the hyperparameters, by name.
        cost: mean over training seeds of the cost on validation windows.
    """

    number: int
    values: Mapping[str, Value]
    cost: float


def folder_of(out: Path, number: int) -> Path:
    """Where the bundles of a trial go."""
    return out / f"trial-{number}"


def cost_of(folders: Sequence[Path]) -> float:
    """The mean over training seeds, a folder each, of the cost on validation windows."""
    return float(np.mean([validation_cost(load_bundle(folder)) for folder in folders]))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the least cost, the earliest of equals."""
    return min(trials, key=lambda trial: trial.cost)


def shown(value: Value) -> str:
    """A hyperparameter in a few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def beginning(number: int, values: Mapping[str, Value], finished: int, trials: int) -> str:
    """What is said when a trial begins, of so many of which some are finished."""
    tried = ", ".join(f"{name} {shown(value)}" for name, value in values.items())
    return f"trial {number} ({finished} of {trials} finished): {tried}"


def ending(trials: Sequence[Trial]) -> str:
    """Which of the finished trials is the best, and what it costs."""
    best = best_of(trials)
    return f"trial {best.number}, the best of {len(trials)}: {best.cost:.4f} on validation windows"
