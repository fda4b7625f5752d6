"""``tyche leaderboard``: measure agents on test windows, keep results with their weights, write the page, replay it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import on_trace, spread_options, trace_options
from agents.cli.terminal import command_line
from tyche_env.errors import UserError
from tyche_env.options import renamed

if TYPE_CHECKING:
    from agents.playing.spread import On
    from traces.options import Reading

FOLDER, PAGE = Path("docs/leaderboard"), Path("docs/leaderboard.md")
_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Of the boards."
)


@click.group()
def leaderboard() -> None:
    """Measure trained agents on unseen windows; write and replay the leaderboard.

    \b
    Examples:
      tyche leaderboard measure runs/hazard --out runs/trained
      tyche leaderboard verify --windows 1
    """  # noqa: D301 (click wants the character)


@leaderboard.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--scenario", "names", multiple=True, default=("train-10", "train-25", "train-50"), show_default=True)
@trace_options
@click.option("--expansions", type=click.IntRange(min=1), default=2, show_default=True, help="Of each window's counts.")
@click.option("--against", metavar="AGENT", help="Compare with this agent instead of the best heuristic.")
@click.option("--purpose", default="", help="Why, for the ledger of looks at test windows; else the command line.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The result folder.")
@spread_options
@renamed("--engine", "--on")
def measure(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    trace: Path | None,
    reading: Reading,
    expansions: int,
    against: str | None,
    purpose: str,
    out: Path,
    jobs: int | None,
    on: On,
) -> None:
    """Compare the agents in FOLDERS with every heuristic on all test windows.

    An agent is a folder that tyche train made: all its training seeds count as one agent.  The result folder gets
    results.json, table.md, table.json and report.html.  The first time that weights meet test windows is entered in the
    ledger of looks (docs/learning.md).

    \b
    Examples:
      tyche leaderboard measure runs/hazard runs/priced-ppo --out runs/trained
      tyche leaderboard measure runs/hazard --out runs/trained --jobs 2
      tyche leaderboard measure runs/hazard --out runs/trained --on ray
    """  # noqa: D301 (click wants the character)
    from agents.evidence.results import measure_agents
    from agents.playing.progress import bar
    from agents.playing.spread import Spread
    from tyche_env.scenario import Scenario

    scenarios = [on_trace(Scenario.load(name), trace, reading) for name in names]
    with bar() as show:
        content = measure_agents(
            folders,
            scenarios,
            out,
            expansions=expansions,
            against=against,
            command=command_line(),
            purpose=purpose,
            bar=show,
            spread=Spread(jobs, on),
        )
    click.echo((out / "table.md").read_text(encoding="utf-8"))
    try:
        from agents.evidence.board_report import write_report

        click.echo(f"Report: {write_report(content, folders, out)}")
    except ModuleNotFoundError as error:
        click.echo(f"no report.html: pip install 'tyche-env[report]' brings {error.name}", err=True)


@leaderboard.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.argument("name")
@_folder
def add(results: Path, name: str, folder: Path) -> None:
    """Keep the result folder RESULTS with its weights as the board NAME.

    \b
    Example:
      tyche leaderboard add runs/trained azure
    """  # noqa: D301 (click wants the character)
    from agents.evidence.board import add_board

    bare = add_board(results, folder / name)
    click.echo(str(folder / name))
    if bare:
        click.echo(f"without weights, which their data's licence does not let us pass on: {', '.join(bare)}")


@leaderboard.command()
@_folder
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, show_default=True, help="Markdown page.")
def write(folder: Path, page: Path) -> None:
    """Write the tables of all boards into the page.

    \b
    Example:
      tyche leaderboard write
    """  # noqa: D301 (click wants the character)
    from agents.evidence.board import write_page

    write_page(folder, page)
    click.echo(str(page))


@leaderboard.command()
@_folder
@click.option("--board", "names", multiple=True, metavar="NAME", help="May be repeated.  [default: all]")
@click.option("--windows", type=click.IntRange(min=1), help="Of each scenario, from the first.  [default: all]")
@click.option("--strict", is_flag=True, help="Fail, too, if a board cannot be replayed because its traces are missing.")
def verify(folder: Path, names: tuple[str, ...], windows: int | None, strict: bool) -> None:
    """Run every entry again and compare; exit status 2 if a number differs.

    A board whose traces are not there is named and left out.

    \b
    Examples:
      tyche leaderboard verify
      tyche leaderboard verify --board azure --windows 1
    """  # noqa: D301 (click wants the character)
    from agents.evidence.board import boards_in, summary
    from agents.evidence.board import verify as replay
    from agents.playing.progress import bar

    boards = [board for board in boards_in(folder) if not names or board.name in names]
    if not boards:
        raise UserError(f"--board: there is none of {', '.join(names)} in {folder}")
    verdicts = []
    for board in boards:
        with bar() as show:
            verdicts.append(replay(board, windows=windows, progress=partial(show, board.name)))
        for line in verdicts[-1].wrong:
            click.echo(f"{board.name}: {line}", err=True)
        if verdicts[-1].absent:
            click.echo(f"{board.name}: left out, {verdicts[-1].absent}", err=True)
    click.echo(summary(verdicts))
    if any(each.wrong for each in verdicts):
        raise UserError("the leaderboard does not hold: see the differences above")
    if strict and any(each.absent for each in verdicts):
        raise UserError("--strict: boards were left out: see above")
