"""Trials of a search: what one costs, which is the best, and its one number."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.training import trials as trials_module
from agents.training.trials import Trial, beginning, best_of, cost_of, ending, folder_of

TRIALS = [Trial(0, {}, 0.7), Trial(2, {}, 0.61234), Trial(3, {}, 0.61234), Trial(5, {}, 0.9)]
"""Trials 1 and 4 were killed while their values were drawn."""


def test_the_earliest_of_equals_is_the_best() -> None:
    assert best_of(TRIALS).number == 2
    assert best_of(list(reversed(TRIALS))).number == 3


def test_a_trial_costs_the_mean_over_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"a": 0.2, "b": 0.3, "c": 0.7}
    monkeypatch.setattr(trials_module, "load_bundle", lambda folder: folder.name)
    monkeypatch.setattr(trials_module, "validation_cost", costs.__getitem__)
    assert cost_of([Path(name) for name in costs]) == pytest.approx(0.4)


def test_a_trial_has_one_number_from_0_whatever_is_finished() -> None:
    assert folder_of(Path("out"), 4) == Path("out/trial-4")
    said = beginning(4, {"learning_rate": 0.00123456, "epochs": 1234, "form": "wide"}, 3, 20)
    assert said == "trial 4 (3 of 20 finished): learning_rate 0.00123, epochs 1234, form wide"
    assert ending(TRIALS) == "trial 2, the best of 4: 0.6123 on validation windows"
