"""What a picture of a trace draws, on values worked by hand; and the table beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from traces import Counts, statistics
from traces.commands import _show_fidelity
from traces.picture import _cumulative, draw, sparkline
from traces.shape import as_trace, fidelity
from traces.synthesis import SynthesisConfig, synthesize


def test_timers_of_no_variation_are_functions_too() -> None:
    axes = Canvas().subplots()
    _cumulative(axes, np.array([1.0, 0.0, 0.0, 0.0]), "red", "x")
    places, shares = axes.lines[0].get_data()
    assert np.asarray(places).tolist() == [0, 0, 0, 1]
    assert np.asarray(shares).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert axes.lines[0].get_drawstyle() == "steps-post"  # up at a value, by those that have it


@pytest.mark.parametrize(
    ("counts", "bars"),
    [
        ([0, 1, 4, 7, 8], " ▁▄▇█"),
        ([0, 1, 30, 100], " ▁▃█"),
        ([0, 0, 0], "   "),
        ([0] * 60 + [2, 0] * 29 + [2, 2], " " * 30 + "▄" * 29 + "█"),
    ],
)
def test_the_line_of_bars_is_in_proportion_and_at_most_sixty_wide(
    table: Callable[..., Counts], counts: list[int], bars: str
) -> None:
    assert sparkline(table([counts])) == bars


def test_each_panel_draws_what_its_title_and_axes_say(
    table: Callable[..., Counts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # four functions of 6, 2, 1 and 1 requests in two minutes, and one of 4 with gaps of a third of a minute
    planted = table([[6, 0], [1, 1], [1, 0], [0, 1]])
    other = table([[4, 0]])
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw({"real": planted, "made": other}, tmp_path / "two.svg")
    panels = {axes.get_title(): axes for axes in drawn[0].axes}
    shown = {
        title: {str(line.get_label()): np.array(line.get_data()).tolist() for line in axes.lines}
        for title, axes in panels.items()
    }
    assert {title: (axes.get_xlabel(), axes.get_ylabel()) for title, axes in panels.items()} == {
        "Requests per minute": ("hours", ""),
        "Mean rates of the functions": ("requests per minute", "share of functions"),
        "Regularity: CoV of the gaps": ("CoV (timers 0, Poisson 1, bursts above)", "share of functions"),
        "Concentration": ("busiest functions, %", "their requests, %"),
    }
    assert shown["Requests per minute"] == {"real": [[0, 1 / 60], [8, 2]], "made": [[0, 1 / 60], [4, 0]]}
    assert shown["Mean rates of the functions"] == {
        "real": [[0.5, 0.5, 1, 3], [0.25, 0.5, 0.75, 1]],
        "made": [[2], [1]],
    }
    assert shown["Concentration"] == {
        "real": [[25, 50, 75, 100], pytest.approx([60, 80, 90, 100])],
        "made": [[100], [100]],
    }
    described = statistics(planted)["cov"].dropna()
    assert shown["Regularity: CoV of the gaps"]["real"] == [described.tolist(), [1]]
    assert [title for title, axes in panels.items() if axes.get_xscale() == "log"] == ["Mean rates of the functions"]
    colours = [{str(line.get_label()): line.get_color() for line in axes.lines} for axes in panels.values()]
    assert all(each == colours[0] for each in colours)
    assert len(set(colours[0].values())) == 2
    legend = panels["Requests per minute"].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["real", "made"]


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
