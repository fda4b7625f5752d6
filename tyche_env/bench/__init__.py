"""``tyche bench``: how fast the simulator and the environment are, each figure beside a reference of the same run.

CPU time of one process, the median of several runs, always through ``tyche_env.simulate`` or the public environments
with shipped scenarios; the decision core's own figures are of its functions on such a run's state.
"""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traces.blame import blaming, package_of
from traces.output import held
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Benchmark, Measurement

REPEATS = 5
_GROUP = "tyche_env.benchmarks"


def benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by its name: ours, then what other layers add by entry points of ``tyche_env.benchmarks``.

    Such an entry point names a function that returns a mapping like this one.
    """
    from tyche_env.bench import core, engine, environment

    found = engine.BENCHMARKS | environment.BENCHMARKS | core.BENCHMARKS
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        with blaming(f"benchmarks {entry.name}", package_of(entry.module)):
            found |= entry.load()()
    return found


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--repeats", type=click.IntRange(min=1), default=REPEATS, show_default=True, help="Counted runs of each.")
@click.option("--only", "parts", multiple=True, metavar="TEXT", help="Names that contain TEXT; may be repeated.")
@click.option("--list", "show_names", is_flag=True, help="List the names and measure nothing.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.json", help="Write the JSON there, too."
)
def bench(as_json: bool, repeats: int, parts: tuple[str, ...], show_names: bool, out: Path | None) -> None:
    """Measure the speed of the simulator and the environment.

    Every figure is CPU time of one process, the median of the repeats, and stands beside a named reference of the same
    run, since absolute figures change with the machine.

    \b
    Examples:
      tyche bench
      tyche bench --only env_step --repeats 9
      tyche bench --json --out benchmarks/results/speed.json
    """  # noqa: D301 (click wants the character)
    from tyche_env.bench.measurement import machine, today

    chosen = {name: run for name, run in benchmarks().items() if not parts or any(part in name for part in parts)}
    if not chosen:
        raise UserError(f"--only: no benchmark has {' or '.join(parts)} in its name; --list shows them")
    if show_names:
        for name in chosen:
            click.echo(name)
        return
    about = machine()  # before, so that the load is not our own
    results = []
    for name, run in chosen.items():
        try:
            result = run(repeats)
        except ModuleNotFoundError as error:
            click.echo(f"{name}: left out, it needs the package {error.name}", err=True)
            continue
        results.append(result)
        if not as_json:
            _show(result)
    text = json.dumps(
        {"date": today(), "machine": about, "repeats": repeats, "results": [result.as_json() for result in results]},
        indent=1,
    )
    if as_json:
        click.echo(text)
    if out is not None:
        with held(out, file=True):
            out.write_text(text + "\n", encoding="utf-8")


def _show(result: Measurement) -> None:
    limit = "at most" if result.at_most else "at least"
    goal = "" if result.goal is None else f"  ({'' if result.met else 'NOT '}{limit} {result.goal:,g})"
    click.echo(f"{result.name:55s} {_number(result.value):>12s} {result.unit}{goal}")
    click.echo(f"{'':55s} {_number(result.ratio):>12s} x {result.reference}")
    click.echo(f"{'':55s} {'':12s} {result.note}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
