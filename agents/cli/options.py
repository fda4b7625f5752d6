"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traces.options import Reading, reading_options, tell, warn
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from agents.policies.recipe import Recipe
    from tyche_env.scenario import Scenario
    from tyche_env.sources import TraceSettings


def spread_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--jobs`` and ``--on`` of ``agents.playing.spread.Spread``."""
    jobs = click.option("--jobs", type=click.IntRange(min=1), help="Simulations at a time.  [default: one a core]")
    on = click.option(
        "--on",
        type=click.Choice(["processes", "ray"]),
        default="processes",
        show_default=True,
        help="Where simulations run: processes here, or a Ray cluster (RAY_ADDRESS), which decides how many at a time; "
        "same results.",
    )
    return jobs(on(command))


def trace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--trace`` and how it is read: a file instead of the scenario's own trace."""
    trace = click.option("--trace", type=click.Path(path_type=Path), help="A trace file of any form instead.")
    return trace(reading_options("--trace")(command))


def on_trace(scenario: Scenario, trace: Path | None, reading: Reading) -> Scenario:
    """A scenario on the file of ``--trace``, if it is given; what is mended in it, or implausible, is told.

    Raises:
        UserError: options of a trace that is not given, or that make no sense.
    """
    _refuse_without(trace, reading)
    chosen = scenario if trace is None else scenario.on_file(trace, **reading.settings())
    if chosen.trace.durations != scenario.trace.durations:
        click.echo("run times: those of the trace, as they are named", err=True)
    if chosen.trace.family == "file":
        _tell_of(chosen.trace)
    return chosen


def recipe_on_trace(recipe: Recipe, trace: Path | None, reading: Reading) -> Recipe:
    """A recipe on the file of ``--trace``, likewise; the recipe is used elsewhere, so its paths are whole.

    Raises:
        UserError: see :func:`on_trace`.
    """
    from agents.policies.recipe import AlgorithmRecipe, PricedRecipe, TraceReading

    _refuse_without(trace, reading)
    if trace is not None:
        settings = reading.settings()
        for name in {"durations_file", "memory_file"} & set(settings):
            settings[name] = str(Path(settings[name]).resolve())
        how = TraceReading.model_validate(settings) if settings else None
        recipe = recipe.model_copy(update={"trace": str(trace.resolve()), "reading": how})
    if recipe.trace is not None:
        name = recipe.scenario if isinstance(recipe, PricedRecipe | AlgorithmRecipe) else recipe.scenarios[0]
        _tell_of(recipe.scenario_of(name).trace)
    return recipe


def _tell_of(settings: TraceSettings) -> None:
    """What is mended in a trace, and what about it can hardly be right."""
    from traces.plausible import findings
    from tyche_env.sources import read_source, repairs_of

    tell(repairs_of(settings))
    warn(findings(read_source(settings), settings.columns))


def _refuse_without(trace: Path | None, reading: Reading) -> None:
    if trace is None and reading.given():
        raise UserError(f"{reading.given()}: needs --trace FILE, which is not given")
