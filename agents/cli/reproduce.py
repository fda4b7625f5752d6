"""``tyche reproduce``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import spread_options
from agents.cli.terminal import command_line, console
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from agents.playing.spread import On


@click.group()
def reproduce() -> None:
    """Run the papers' experiments and set their numbers beside ours.

    \b
    Examples:
      tyche reproduce paper --list
      tyche reproduce paper --experiment single-node
    """  # noqa: D301 (click wants the character)


@reproduce.command()
@click.option(
    "--experiment", "names", multiple=True, metavar="NAME", help="May be repeated; --list names them.  [default: all]"
)
@click.option("--draws", type=click.IntRange(min=1), default=30, show_default=True, help="Draws of functions a class.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True, help="A folder each."
)
@spread_options
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Markdown page whose tables are written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--list", "show_names", is_flag=True, help="List the experiments.")
def paper(
    names: tuple[str, ...],
    draws: int,
    out: Path,
    jobs: int | None,
    on: On,
    page: Path | None,
    as_json: bool,
    show_names: bool,
) -> None:
    """Run the Tyche paper's experiments on draws from the Azure trace (TYCHE_TRACES; docs/reproduction.md).

    The same command with the same --out goes on where it was interrupted.

    \b
    Examples:
      tyche reproduce paper --experiment single-node
      tyche reproduce paper --experiment nodes --experiment ablation --draws 10 --json
    """  # noqa: D301 (click wants the character)
    from agents.evidence.pages import fill
    from agents.experiments.paper import EXPERIMENTS
    from agents.experiments.reproduce import reproduce as run
    from agents.experiments.tables import markdown, show_experiment
    from agents.playing.progress import bar
    from agents.playing.spread import Spread

    if show_names:
        for each in EXPERIMENTS.values():
            click.echo(f"{each.name:14} {each.title}")
        return
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"--experiment: there is no {name!r}; there are {', '.join(EXPERIMENTS)}")
    summaries = []
    for name in names or tuple(EXPERIMENTS):
        with bar(not as_json) as show:
            progress = partial(show, f"{name}: runs")
            spread = Spread(jobs, on)
            summaries.append(run(name, draws, out / name, spread=spread, command=command_line(), progress=progress))
        if not as_json:
            show_experiment(console(), summaries[-1])
        if page is not None:
            fill(page, {name: markdown(summaries[-1])})
    if as_json:
        click.echo(
            json.dumps({key: [each for summary in summaries for each in summary[key]] for key in ("rows", "checks")})
        )
    else:
        click.echo(f"Everything: {out}")


@reproduce.command()
@click.option(
    "--map",
    "which",
    type=click.Choice(["synthetic", "paper"]),
    default="synthetic",
    show_default=True,
    help="synthetic: memory and rate, on a trace that is made; paper: pool memory, functions, burstiness and mode, on "
    "draws from the Azure trace (TYCHE_TRACES).",
)
@click.option("--draws", type=click.IntRange(min=1), help="Draws of functions a corner of --map paper.  [default: 5]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: runs/regime-MAP]")
@spread_options
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Markdown page whose table is written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def regime(
    which: str, draws: int | None, out: Path | None, jobs: int | None, on: On, page: Path | None, as_json: bool
) -> None:
    """Map when pre-loading pays (docs/when-it-pays.md).

    \b
    Examples:
      tyche reproduce regime
      tyche reproduce regime --map paper --out runs/regime
    """  # noqa: D301 (click wants the character)
    from agents.evidence.pages import fill
    from agents.experiments import regime, regime_synthetic
    from agents.experiments.tables import markdown, show_experiment
    from agents.playing.progress import bar
    from agents.playing.spread import Spread

    if draws is not None and which != "paper":
        raise UserError("--draws: is for --map paper")
    out = out or Path(f"runs/regime-{which}")
    with bar(not as_json) as show:
        progress = partial(show, "regime: runs")
        if which == "paper":
            summary = regime.reproduce(
                draws or 5, out, spread=Spread(jobs, on), command=command_line(), progress=progress
            )
        else:
            summary = regime_synthetic.reproduce(
                out, spread=Spread(jobs or 1, on), command=command_line(), progress=progress
            )
    if page is not None:
        fill(page, {f"regime-{which}": markdown(summary)})
    if as_json:
        click.echo(json.dumps({"rows": summary["rows"]}))
        return
    show_experiment(console(), summary)
    draw_map = regime.draw_map if which == "paper" else regime_synthetic.draw_map
    try:
        for path in draw_map(summary, out):
            click.echo(str(path))
    except ModuleNotFoundError as error:
        click.echo(f"no heat map: pip install 'tyche-env[report]' brings {error.name}", err=True)
