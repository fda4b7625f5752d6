"""What a picture of a trace draws, on values worked by hand; and the table beside it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from traces.commands import _show_fidelity
from traces.picture import _cumulative
from traces.shape import as_trace, fidelity
from traces.synthesis import SynthesisConfig, synthesize


def test_timers_of_no_variation_are_functions_too() -> None:
    axes = Canvas().subplots()
    _cumulative(axes, np.array([1.0, 0.0, 0.0, 0.0]), "red", "x")
    places, shares = axes.lines[0].get_data()
    assert np.asarray(places).tolist() == [0, 0, 0, 1]
    assert np.asarray(shares).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_the_distance_of_an_imitation_and_that_of_halves_stand_under_their_headings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, made = (as_trace(synthesize(SynthesisConfig(functions=20, minutes=60, seed=seed))) for seed in (1, 2))
    _show_fidelity(real, made)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["distance", "of", "halves"])
    found = fidelity(real, made)
    assert [float(lines[at + row][1]) for row in (1, 2)] == pytest.approx([found.ks_rate, found.ks_cov], rel=1e-3)
    assert lines[0] == ["real", "synthetic"]
    first, second = found.first.as_dict(), found.second.as_dict()
    for line, name in zip(lines[1:at], first, strict=True):
        assert line[0] == name
        for cell, value in zip(line[1:], (first[name], second[name]), strict=True):
            assert (cell == "-") == (value is None)
            assert value is None or float(cell.replace(",", "")) == pytest.approx(value, rel=1e-3)
