"""``tyche report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tyche_env.errors import UserError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--chrome-trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Also write the window that the timeline shows, as events for ui.perfetto.dev or chrome://tracing.",
)
def report(run: Path, chrome_trace: Path | None) -> None:
    """Write report.html and figures/ of the run folder RUN anew.

    \b
    Example:
      tyche report runs/azure --chrome-trace runs/azure/window.json
    """  # noqa: D301 (click wants the character)
    from agents.evidence.report import watch, write_report
    from agents.evidence.run_folder import RunFolder
    from traces.output import held

    folder = RunFolder.read(run)
    with held(run):
        click.echo(str(write_report(folder)))
    if chrome_trace is None:
        return
    from agents.evidence.chrome_trace import chrome_trace as events_of

    replays = watch(folder)
    if not replays:
        raise UserError(
            f"--chrome-trace: {run} cannot be watched again; that needs a built-in policy deciding at events, "
            "the simulated backend, and the trace"
        )
    with held(chrome_trace, file=True):
        chrome_trace.write_text(json.dumps(events_of(replays), separators=(",", ":")), encoding="utf-8")
    click.echo(str(chrome_trace))
