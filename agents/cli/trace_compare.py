"""``tyche trace compare``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from agents.cli.terminal import console

if TYPE_CHECKING:
    from traces.repairs import BadRows

_EXISTING = click.Path(exists=True, dir_okay=False)
_SHOWN = {
    "cold_starts": "cold starts",
    "cold_start_rate": "of the requests",
    "new_instances": "instances that begin",
    "instances_mean": "instances at once, mean",
    "instances_peak": "instances at once, most",
    "requests_at_once_in_an_instance": "requests at once in one, most",
}
"""What is shown of each side, and what it is called."""


@click.command()
@click.argument("requests", type=_EXISTING)
@click.option("--cold-starts", type=_EXISTING, help="Huawei 2025: the table of cold starts of the same region and day.")
@click.option(
    "--keep-alive-s",
    type=click.FloatRange(min=0),
    multiple=True,
    help="Of the simulator; may be repeated.  [default: the platform's own: Huawei 60]",
)
@click.option(
    "--cold-start-ms",
    type=click.FloatRange(min=0),
    default=1000.0,
    show_default=True,
    help="How long one takes in the simulator, if none is recorded.",
)
@click.option(
    "--warm-up-s",
    type=click.FloatRange(min=0),
    help="What comes before is served, and not counted.  [default: the longest keep-alive]",
)
@click.option(
    "--bad-rows",
    type=click.Choice(("fail", "repair")),
    default="fail",
    show_default=True,
    help="Chutes: refuse empty cells, or mend and count them.",
)
@click.option("--functions", type=click.IntRange(min=0), default=5, show_default=True, help="How many are shown.")
@click.option("--json", "as_json", is_flag=True, help="For machines; all functions.")
def compare(
    requests: str,
    cold_starts: str | None,
    keep_alive_s: tuple[float, ...],
    cold_start_ms: float,
    warm_up_s: float | None,
    bad_rows: BadRows,
    functions: int,
    as_json: bool,
) -> None:
    """Set the simulator's cold starts and instances beside those that a trace records.

    REQUESTS is a table of requests of Huawei 2025, or a file of Chutes.  The simulator serves the same requests without
    a pre-loader on a cluster that is large enough.  A recorded instance lives from its first request until the
    platform's keep-alive after its last.

    \b
    Examples:
      tyche trace compare R5_00000.csv --cold-starts day_30.csv
      tyche trace compare R5_00000.csv --cold-starts day_30.csv --keep-alive-s 60 --keep-alive-s 600
    """  # noqa: D301 (click wants the character)
    from agents.experiments.production import compare as run
    from traces.witness import read_witness

    witness = read_witness(requests, cold_starts, bad_rows=bad_rows)
    found = run(witness, keep_alive_s, cold_start_ms, warm_up_s)
    if as_json:
        click.echo(json.dumps(found | {"repairs": [str(repair) for repair in witness.trace.repairs]}))
        return
    for repair in witness.trace.repairs:
        click.echo(f"{repair.word}: {repair}", err=True)
    counted = (
        f"{found['requests']:,} requests to {found['functions']} functions in {found['scored_s'] / 60:.1f} minutes"
    )
    takes = f"a cold start takes {found['cold_start_ms']:,.0f} ms in the simulator"
    click.echo(f"{counted}, after a warm-up of {found['warm_up_s']:g} s; {takes}")
    if found["recorded_stages_ms"]:
        stages = ", ".join(f"{stage} {ms:,.0f}" for stage, ms in found["recorded_stages_ms"].items())
        click.echo(f"a recorded cold start in the mean, in ms: {stages}")
    _print(found, functions)
    if found["cold_starts_of_other_functions"]:
        click.echo(f"{found['cold_starts_of_other_functions']:,} cold starts are of functions that are not among these")


def _print(found: dict[str, Any], functions: int) -> None:
    from rich import box
    from rich.table import Table

    sides = [row["side"] for row in found["sides"]]
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for side in sides:
        table.add_column(side, justify="right")
    for key, name in _SHOWN.items():
        table.add_row(name, *(_cell(row[key], key) for row in found["sides"]))
    for row in found["by_function"][:functions]:
        told = f"cold starts of {row['function']}, {row['requests']:,} requests"
        table.add_row(told, *(_cell(row["cold_starts"][side], "") for side in sides))
    console().print(table, highlight=False)


def _cell(value: float | None, key: str) -> str:
    if value is None:
        return "-"
    if key == "cold_start_rate":
        return f"{100 * value:.3g} %"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
