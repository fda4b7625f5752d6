"""``tyche simulate``: one policy on one window, however long it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from agents.cli.options import on_trace, trace_options
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from agents.policies.policy import Policy
    from traces.options import Reading
    from tyche_env.played import Played, Watcher
    from tyche_env.world import World

_SHOWN = (
    *("requests", "warming_loading_ms_mean", "warming_loading_ms_function_mean", "end_to_end_ms_p50"),
    *("end_to_end_ms_p95", "end_to_end_ms_p99", "preload_rate", "cold_rate", "loads", "invocations_per_cpu_s"),
)


@click.command()
@click.option("--scenario", "scenario_name", metavar="NAME|FILE", help="See tyche scenario list.")
@click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True)
@click.option("--window", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@trace_options
@click.option(
    "--world",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Instead of a scenario: a folder that --save has written; its requests are mapped, not read.",
)
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write the world there and run nothing.")
@click.option(
    "--policy",
    "source",
    default="none",
    show_default=True,
    help="See tyche policy list; what can only predict decides at the scenario's interval.",
)
@click.option(
    "--log", "log_path", type=click.Path(path_type=Path, dir_okay=False), help="Parquet file that gets every request."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    scenario_name: str | None,
    split: str,
    window: int,
    seed: int,
    trace: Path | None,
    reading: Reading,
    folder: Path | None,
    save: Path | None,
    source: str,
    log_path: Path | None,
    as_json: bool,
) -> None:
    """Run one policy on one window; the log is written while it runs, so memory does not grow with its length.

    \b
    Examples:
      tyche simulate --scenario small --policy tyche --log requests.parquet
      tyche simulate --scenario small --trace mine.csv --column time=when --column function=model
      tyche simulate --scenario azure-day --save large
      tyche simulate --world large --policy tyche --log requests.parquet
    """  # noqa: D301 (click wants the character)
    from agents.playing.progress import bar
    from agents.policies.history import history_of, history_within
    from agents.policies.loading import load
    from traces.output import held, is_empty
    from tyche_env.played import Shares
    from tyche_env.scenario import Scenario
    from tyche_env.stored import is_world, read_world, write_world

    if (scenario_name is None) == (folder is None):
        raise UserError("needs either --scenario or --world")
    of_scenario, of_run = ("split", "window", "seed", "trace", *_READING), ("source", "log_path", "as_json")
    for names, with_option in ((of_scenario, folder and "--world"), (of_run, save and "--save")):
        for given in (name for name in names if with_option and not _is_default(name)):
            raise UserError(f"{_OPTIONS.get(given, f'--{given}')}: decides nothing with {with_option}; leave it out")
    if save is not None and save.is_dir() and not is_empty(save) and not is_world(save):
        raise UserError(f"--save: {save} holds something else than a world; name another folder")
    if folder is not None:
        world = read_world(folder)
        history = history_within(world)
    else:
        scenario = on_trace(Scenario.load(str(scenario_name)), trace, reading)
        world = scenario.world(cast(Any, split), window, seed)
        history = history_of(scenario, scenario.windows(cast(Any, split))[window], seed, world)
    if save is not None:
        with held(save):
            write_world(world, save)
        click.echo(f"{save}: {len(world.arrival_us)} requests to {world.function_count} functions")
        return
    policy = load(source).prepare(history)
    with bar(not as_json) as show:
        played = simulate_to(log_path, world, policy, Shares(lambda share: show(policy.name, share, 1)))
    metrics = _metrics(played)
    if as_json:
        click.echo(json.dumps(metrics, indent=1))
        return
    for name in _SHOWN:
        value = metrics[name]
        click.echo(f"{name:34} {'-' if value is None else f'{value:,.6g}'}")
    if log_path is not None:
        click.echo(f"{'log':34} {log_path}")


_READING = ("columns", "tz", "durations", "memory", "bad_rows")
_OPTIONS = {
    "source": "--policy",
    "log_path": "--log",
    "as_json": "--json",
    "columns": "--column",
    "bad_rows": "--bad-rows",
}
"""Options that are called otherwise than their parameters."""


def _is_default(parameter: str) -> bool:
    """Whether an option of the present command was left out."""
    return click.get_current_context().get_parameter_source(parameter) == ParameterSource.DEFAULT


def simulate_to(log_path: Path | None, world: World, policy: Policy, watch: Watcher | None = None) -> Played:
    """Play a world; the requests go to a file while it runs, if to any."""
    from agents.evidence.run_folder import RequestsWriter
    from agents.playing.play import play
    from traces.output import held

    if log_path is None:
        return play(world, policy, record="none", watch=watch)
    labels = {"policy": policy.name, "prewarm": world.settings.prewarm.name.lower(), "seed": world.settings.seed}
    with held(log_path, file=True), RequestsWriter(log_path, world.names, labels) as writer:
        return play(world, policy, record=writer.write, watch=watch)


def _metrics(played: Played) -> dict[str, Any]:
    """The metrics that need no prices."""
    from tyche_env.metrics import summarize, sums_of

    metrics: dict[str, Any] = dict(
        summarize(
            played.totals,
            played.end_to_end_percentiles_us,
            sums_of(played.totals, played.counters, played.integrals_mb_us, _NoPrices()),
            invocations=len(played.world.arrival_us),
            cpu_s=played.cpu_s,
        )
    )
    del metrics["cost_usd"], metrics["decision_us_mean"]
    return metrics | {"cpu_s": played.cpu_s, "wall_s": played.wall_s}


class _NoPrices:
    """A world knows no prices."""

    container_usd_per_gb_s = gpu_usd_per_gb_s = request_usd = 0.0
