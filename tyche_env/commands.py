"""``tyche scenario`` and ``tyche profile``: what ships, and what it contains."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import click

from traces.options import Reading, reading_options, tell
from tyche_env.completion import catalogues, name_or_file, scenarios

if TYPE_CHECKING:
    from rich.table import Table

    from tyche_env.profiles import FunctionProfile
    from tyche_env.scenario import Scenario

_SHOWN = {
    "name": "profile",
    "library_ms": "library",
    "model_ms": "model",
    "transfer_ms": "transfer",
    "inference_ms": "infer",
    "gpu_inference_ms": "GPU infer",
    "hold_mb": "held",
    "gpu_mb": "on GPU",
    "sigma": "sigma",
}
"""Columns of the table of profiles and their headings."""

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def scenario() -> None:
    """List the shipped scenarios, show one in full, or make one of your own.

    \b
    Examples:
      tyche scenario list
      tyche scenario show small > mine.yaml
    """  # noqa: D301 (click wants the character)


@scenario.command("list")
@_AS_JSON
def list_scenarios(as_json: bool) -> None:
    """List the shipped scenarios.

    \b
    Example:
      tyche scenario list
    """  # noqa: D301 (click wants the character)
    from tyche_env.scenario import Scenario

    scenarios = [Scenario.load(name) for name in Scenario.names()]
    if as_json:
        click.echo(json.dumps([_overview(each) for each in scenarios], indent=2))
        return
    table = _table("scenario", "mode", "cluster", "title")
    for each in scenarios:
        nodes, memory_gb, gpus = (_overview(each)[key] for key in ("nodes", "memory_gb", "gpus"))
        table.add_row(each.name, each.mode, f"{nodes} nodes, {memory_gb} GB, {gpus} GPUs", each.title)
    _print(table)


def _overview(scenario: Scenario) -> dict[str, str | int]:
    nodes = scenario.cluster.nodes
    return {
        "name": scenario.name,
        "mode": scenario.mode,
        "trace": scenario.trace.family,
        "nodes": sum(group.count for group in nodes),
        "memory_gb": sum(group.count * group.memory_mb for group in nodes) // 1000,
        "gpus": sum(group.count * group.gpus for group in nodes),
        "functions_per_window": scenario.trace.group_size,
        "title": scenario.title,
    }


@scenario.command("show")
@click.argument("name", shell_complete=name_or_file(scenarios))
@_AS_JSON
def show_scenario(name: str, as_json: bool) -> None:
    """Print the scenario NAME (or a YAML file) with every default filled in.

    \b
    Example:
      tyche scenario show small > mine.yaml
    """  # noqa: D301 (click wants the character)
    from tyche_env.scenario import Scenario, ScenarioError, SplitName
    from tyche_env.sources import SourceError, repairs_of

    shown = Scenario.load(name)
    if as_json:
        click.echo(shown.model_dump_json(indent=2))
        return
    click.echo(f"# hash {shown.hash()}")
    try:
        tell(repairs_of(shown.trace))
    except SourceError as error:
        click.echo(f"# windows unknown: {error}")
    else:
        for split in get_args(SplitName):
            try:
                windows = shown.windows(split)
                groups = len({window.group for window in windows})
                click.echo(f"# {split}: {len(windows)} windows of {groups} function groups")
            except ScenarioError as error:
                click.echo(f"# {split}: cannot be used, {error}")
    click.echo(shown.to_yaml(), nl=False)


@scenario.command("new")
@click.argument("target", type=click.Path(dir_okay=False, writable=True))
@click.option("--trace", "trace_file", required=True, help="A trace file; tyche trace inspect says whether it is read.")
@reading_options()
@click.option("--profiles", "catalogue", default="paper", show_default=True, help="Name or CSV file of a catalogue.")
@click.option("--cluster", "cluster_file", required=True, help="YAML file with a list of nodes.")
def new_scenario(
    target: str,
    trace_file: str,
    reading: Reading,
    catalogue: str,
    cluster_file: str,
) -> None:
    """Write a scenario of your own as TARGET: trace, profiles and cluster, with windows and splits that fit.

    Says what the requests ask of the cluster, which windows are empty, and what can hardly be right.

    \b
    Example:
      tyche scenario new mine.yaml --trace mine.csv --column time=when --column function=model \\
          --profiles mine-profiles.csv --cluster mine-cluster.yaml
    """  # noqa: D301 (click wants the character)
    from pathlib import Path

    from traces.output import held
    from tyche_env.demand import demand_of
    from tyche_env.own_scenario import own_scenario, slug
    from tyche_env.scenario import load_cluster
    from tyche_env.sources import repairs_of

    made = own_scenario(
        slug(Path(target).stem), trace_file, catalogue, load_cluster(cluster_file), **reading.settings()
    )
    with held(Path(target), file=True) as file:
        file.write_text(made.to_yaml(), encoding="utf-8")
    told = f"profiles by {made.functions.assign}, run times of the {made.trace.durations}"
    click.echo(f"{target}: {made.title}, {told}, {len(made.windows())} test windows")
    tell(repairs_of(made.trace))
    for line in demand_of(made).lines():
        click.echo(line)


@click.group()
def profile() -> None:
    """List the profiles of ML functions: latencies, memory, sources."""


@profile.command("list")
@click.argument("catalogue", required=False, shell_complete=name_or_file(catalogues))
@_AS_JSON
def list_profiles(catalogue: str | None, as_json: bool) -> None:
    """List the profiles of CATALOGUE (a name or a CSV file), or of every shipped one; * marks assumed values.

    \b
    Examples:
      tyche profile list paper
      tyche profile list mine.csv --json
    """  # noqa: D301 (click wants the character)
    from tyche_env.profiles import catalogue_names, load_catalogue

    names = (catalogue,) if catalogue else catalogue_names()
    catalogues = {name: load_catalogue(name) for name in names}
    if as_json:
        rows = {name: [each.model_dump() for each in profiles] for name, profiles in catalogues.items()}
        click.echo(json.dumps(rows, indent=2))
        return
    for name, profiles in catalogues.items():
        table = _table(*_SHOWN.values(), title=f"{name}: latencies in ms, memory in MB, * assumed (--json: everything)")
        for each in profiles:
            table.add_row(*(_cell(each, column) for column in _SHOWN))
        _print(table)


def _cell(profile: FunctionProfile, column: str) -> str:
    value = getattr(profile, column)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text + "*" if column in profile.assumed else text


def _table(*columns: str, title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=column != "title")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # In a pipe a row stays one line, whatever its length.
    console.print(table, width=None if console.is_terminal else 400)
