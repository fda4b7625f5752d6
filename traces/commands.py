"""``tyche trace``: look at, convert, sample, split and make traces."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from traces.counts import Counts
    from traces.trace import Trace

_METHODS = ("uniform", "exponential", "equidistant", "timer_phase")
_COV_CLASSES = ("Predictable", "Normal", "Bursty", "Unknown")
_RATE_GROUPS = ("frequent", "medium", "rare")
_FRACTION = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)

_source = click.argument("source", type=click.Path(exists=True, dir_okay=False))
_target = click.argument("target", type=click.Path(dir_okay=False, writable=True))
_method = click.option("--method", type=click.Choice(_METHODS), default="uniform", help="How counts become arrivals.")
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)


class _Refused(click.ClickException):
    exit_code = 2


@click.group()
def trace() -> None:
    """Look at, convert, sample, split and make traces."""


@trace.command()
@_source
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def inspect(source: str, as_json: bool) -> None:
    """Say what a trace file holds: source, functions, requests, rates, regularity."""
    import json

    from traces.describe import COV_CLASSES, RATE_GROUPS, statistics

    loaded = _load(source)
    table = statistics(loaded)
    rates = table["rate_per_min"].quantile([0.1, 0.5, 0.9, 0.99])
    about: dict[str, Any] = {
        "file": source,
        **_origin(loaded),
        "minutes": loaded.end_us / 60e6,
        "functions": len(table),
        "requests": int(table["requests"].sum()),
        "timers": int(table["timer"].sum()),
        **{f"rate_per_min_p{round(100 * float(str(q)))}": float(rate) for q, rate in rates.items()},
        "cov_classes": {name: int((table["cov_class"] == name).sum()) for name in COV_CLASSES},
        "rate_groups": {name: int((table["rate_group"] == name).sum()) for name in RATE_GROUPS},
    }
    if as_json:
        click.echo(json.dumps(about))
        return
    for key, value in about.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{key:18} {text:.6g}" if isinstance(value, float) else f"{key:18} {text}")


@trace.command()
@_source
@_target
@_method
@_seed
def convert(source: str, target: str, method: str, seed: int) -> None:
    """Write SOURCE as TARGET in our Parquet form; counts are expanded to arrivals."""
    _write(_expanded(_load(source), method, seed), target)


@trace.command()
@_source
@_target
@click.option("-n", "--functions", type=click.IntRange(min=1), required=True, help="How many functions to draw.")
@click.option("--cov-class", type=click.Choice(_COV_CLASSES), help="Only functions of this regularity.")
@click.option("--rate-group", type=click.Choice(_RATE_GROUPS), help="Only functions of this rate.")
@_method
@_seed
def sample(
    source: str, target: str, functions: int, cov_class: str | None, rate_group: str | None, method: str, seed: int
) -> None:
    """Draw functions of SOURCE and write them as TARGET in our Parquet form."""
    from traces.errors import TraceError
    from traces.sampling import sample as draw

    loaded = _load(source)
    try:
        drawn = draw(loaded, functions, seed, cov_class, rate_group)
    except TraceError as error:
        _refuse(error)
    _write(_expanded(drawn, method, seed), target)


@trace.command()
@_source
@click.argument("folder", type=click.Path(file_okay=False, writable=True))
@click.option("--train", type=_FRACTION, default=0.5, show_default=True, help="Share of the training split.")
@click.option("--validation", type=_FRACTION, default=0.2, show_default=True, help="Share of the validation split.")
@click.option("--by-time", is_flag=True, help="Give each split its own share of the time as well.")
@_method
@_seed
def split(source: str, folder: str, train: float, validation: float, by_time: bool, method: str, seed: int) -> None:
    """Cut SOURCE into train, validation and test files in FOLDER that share no function; test gets the rest."""
    from pathlib import Path

    from traces.windows import Split, split_functions

    if train + validation >= 1.0:
        raise _Refused(
            f"--train {train:g} and --validation {validation:g} leave nothing to test, expected a sum below 1"
        )
    loaded = _expanded(_load(source), method, seed)
    bounds = (0.0, train, train + validation, 1.0)
    spans = dict(zip(("train", "validation", "test"), pairwise(bounds), strict=True))
    splits = {name: Split(functions=span, time=span if by_time else (0.0, 1.0)) for name, span in spans.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, functions in split_functions(range(len(loaded.names)), splits, seed).items():
        start_us, end_us = (round(fraction * loaded.end_us) for fraction in splits[name].time)
        part = loaded.select(sorted(functions)).between(start_us, end_us)
        _write(part, str(Path(folder) / f"{name}.parquet"))


@trace.command()
@_target
@click.option("-n", "--functions", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--minutes", type=click.IntRange(min=1), default=1440, show_default=True)
@_method
@_seed
def synthesize(target: str, functions: int, minutes: int, method: str, seed: int) -> None:
    """Make a synthetic trace and write it as TARGET in our Parquet form."""
    from traces.synthesis import SynthesisConfig
    from traces.synthesis import synthesize as make

    made = make(SynthesisConfig(functions=functions, minutes=minutes, seed=seed))
    _write(_expanded(made, method, seed), target)


def _load(source: str) -> Counts | Trace:
    from traces.errors import TraceError
    from traces.files import load

    try:
        return load(source)
    except TraceError as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    raise _Refused(str(error)) from error


def _origin(loaded: Counts | Trace) -> dict[str, str]:
    from traces.counts import Counts

    if isinstance(loaded, Counts):
        return {
            "form": "counts per minute",
            "source": loaded.source,
            "licence": loaded.licence,
            "window": loaded.window,
        }
    about = loaded.metadata
    return {
        "form": "requests",
        "source": about.source,
        "licence": about.licence,
        "window": about.window,
        "expansion": about.expansion,
        "content_hash": about.content_hash,
    }


def _expanded(loaded: Counts | Trace, method: str, seed: int) -> Trace:
    from traces.counts import Counts
    from traces.expansion import METHODS, expand

    if isinstance(loaded, Counts):
        return expand(loaded, METHODS[_METHODS.index(method)], seed)
    return loaded


def _write(loaded: Trace, target: str) -> None:
    from traces.parquet import write_parquet

    write_parquet(loaded, target)
    click.echo(f"{target}: {len(loaded.names)} functions, {len(loaded.arrival_us)} requests")
