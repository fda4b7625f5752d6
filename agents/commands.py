"""``tyche evaluate``, ``reproduce``, ``policy``, ``report`` and ``compare``."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tyche_env.completion import name_or_file, prewarm_policies, scenarios
from tyche_env.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from agents.evaluation import Decision, Outcome, Plan, Progress
    from agents.runs import RunFolder
    from tyche_env.scenario import Scenario

_DEFAULT_POLICIES = ("none", "lru", "tyche", "oracle")
BOTH = "both"
"""The backend that is two: real runs, and simulated ones beside them."""


class _Decision(click.ParamType[Any]):
    """``event`` or a number of seconds."""

    name = "event|seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decision:
        if value == "event":
            return "event"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither 'event' nor a number of seconds", param, ctx)


def _policies() -> Iterable[str]:
    from agents.policy import BOUND, names

    return (*names(), BOUND)


@click.command()
@click.option(
    "--scenario",
    "scenario_name",
    required=True,
    metavar="NAME|FILE",
    shell_complete=name_or_file(scenarios),
    help="See tyche scenario list.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME|FILE.py",
    shell_complete=name_or_file(_policies),
    help="May be repeated; the others are compared with the first.  [default: none, lru, tyche, oracle]",
)
@click.option(
    "--prewarm",
    multiple=True,
    metavar="NAME|FILE.py",
    shell_complete=name_or_file(prewarm_policies),
    help="Of the platform: openwhisk, histogram, faascache, pagurus, always-on, rainbowcake, icebreaker or your own; "
    "may be repeated.  [default: the scenario's]",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice(["paper", "realistic"]),
    help="Whether a process ends with its run (paper) or survives; may be repeated.  [default: the scenario's]",
)
@click.option("--windows", type=click.IntRange(min=1), help="From the first.  [default: 12; 1 in real time]")
@click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Expansions a window.")
@click.option(
    "--decision",
    type=_Decision(),
    default="event",
    show_default=True,
    help="When policies decide: at each event, or every so many seconds.",
)
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="A trace file of any known form instead.")
@click.option(
    "--backend",
    default="simulated",
    show_default=True,
    help="Or openwhisk: real containers; openwhisk-native: OpenWhisk's own routing and keep-alive; both: simulated and "
    "openwhisk, one beside the other.",
)
@click.option("--repetitions", type=click.IntRange(min=1), help="Of the real runs of --backend both.  [default: 1]")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/SCENARIO-TIME]")
@click.option(
    "--record",
    type=click.Choice(["all", "sample", "none"]),
    default="sample",
    show_default=True,
    help="Which requests requests.parquet keeps; a sample is one in 16.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--engine",
    type=click.Choice(["compiled", "reference", "ray"]),
    default="compiled",
    show_default=True,
    help="ray: the compiled engine on the machines of a Ray cluster (RAY_ADDRESS), with the same results.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    scenario_name: str,
    policies: tuple[str, ...],
    prewarm: tuple[str, ...],
    modes: tuple[str, ...],
    windows: int | None,
    split: str,
    seeds: int,
    decision: Any,
    trace_file: Path | None,
    backend: str,
    repetitions: int | None,
    out: Path | None,
    record: str,
    jobs: int | None,
    as_json: bool,
    engine: str,
    quiet: bool,
) -> None:
    """Compare policies on the same windows of a scenario, with 95 % intervals.

    Results go to a run folder: summary.json, requests.parquet, report.html.  The same command with the same --out goes
    on where it was interrupted.

    \b
    Examples:
      tyche evaluate --scenario small
      tyche evaluate --scenario small --prewarm openwhisk --prewarm histogram --mode paper --mode realistic
      tyche evaluate --scenario azure-8h --policy none --policy tyche --policy oracle --windows 12 --out runs/azure
      tyche evaluate --scenario small --policy tyche --policy my_policy.py --decision 10
      tyche evaluate --scenario small --policy none --policy tyche --policy bound --json
      tyche evaluate --scenario azure-day --policy none --policy tyche --windows 40 --engine ray
      tyche evaluate --scenario real-small --policy none --policy tyche --backend both --repetitions 3
    """  # noqa: D301 (click wants the character)
    from agents.evaluation import Plan
    from agents.evaluation import evaluate as run

    scenario = _scenario(scenario_name, trace_file)
    plan = Plan(
        scenario=scenario,
        policies=policies or _DEFAULT_POLICIES,
        prewarm=cast(Any, prewarm),
        modes=cast(Any, modes),
        windows=1 if windows is None and backend == BOTH else windows,
        split=cast(Any, split),
        seeds=seeds,
        decision=decision,
        record=cast(Any, record),
        engine=cast(Any, "compiled" if engine == "ray" else engine),
        backend="simulated" if backend == BOTH else backend,
    ).validated()
    out = out or Path("runs") / f"{scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if backend == BOTH:
        _both(plan, repetitions or 1, out, quiet, as_json)
        return
    if repetitions is not None:
        raise UserError(f"--repetitions: is for --backend {BOTH}; --seeds repeats with other requests")
    with _bar(scenario.name, show=not (quiet or as_json)) as progress:
        try:
            outcome = run(
                plan,
                out,
                jobs=jobs,
                fan_out="ray" if engine == "ray" else "processes",
                command=_command_line(),
                progress=progress,
            )
        except KeyboardInterrupt:
            if out.exists():
                click.echo(f"\nstopped; finished runs are kept, the same command with --out {out} goes on", err=True)
            raise click.Abort from None
    report_path = _report_if_possible(outcome.folder, quiet)
    if as_json:
        click.echo(json.dumps(outcome.folder.summary, indent=1))
    elif not quiet:
        _show(outcome, report_path)


def _both(plan: Plan, repetitions: int, out: Path, quiet: bool, as_json: bool) -> None:
    """Real and simulated runs beside each other."""
    from agents.fidelity import Study, study
    from agents.fidelity_report import show as show_fidelity
    from agents.fidelity_report import write

    with _bar(plan.scenario.name, show=not (quiet or as_json)) as progress:
        found = study(Study(plan, repetitions), out, command=_command_line(), progress=progress)
    page = write(found, out)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        show_fidelity(_console(), found)
        _console().print(f"Report: {page}", soft_wrap=True, highlight=False)


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
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--list", "show_names", is_flag=True, help="List the experiments.")
def paper(names: tuple[str, ...], draws: int, out: Path, jobs: int | None, as_json: bool, show_names: bool) -> None:
    """Run the Tyche paper's experiments on draws from the Azure trace (TYCHE_TRACES; docs/reproduction.md).

    The same command with the same --out goes on where it was interrupted.

    \b
    Examples:
      tyche reproduce paper --experiment single-node
      tyche reproduce paper --experiment nodes --experiment ablation --draws 10 --json
    """  # noqa: D301 (click wants the character)
    from agents.experiments.paper import EXPERIMENTS
    from agents.experiments.reproduce import reproduce as run
    from agents.experiments.tables import show_experiment

    if show_names:
        for each in EXPERIMENTS.values():
            click.echo(f"{each.name:14} {each.title}")
        return
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"--experiment: there is no {name!r}; there are {', '.join(EXPERIMENTS)}")
    summaries = []
    for name in names or tuple(EXPERIMENTS):
        with _bar(name, show=not as_json) as progress:
            summaries.append(run(name, draws, out / name, jobs=jobs, command=_command_line(), progress=progress))
        if not as_json:
            show_experiment(_console(), summaries[-1])
    if as_json:
        click.echo(
            json.dumps({key: [each for summary in summaries for each in summary[key]] for key in ("rows", "checks")})
        )
    else:
        click.echo(f"Everything: {out}")


@reproduce.command()
@click.option("--draws", type=click.IntRange(min=1), default=5, show_default=True, help="Draws of functions a corner.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/regime"), show_default=True, help="Folder.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def regime(draws: int, out: Path, jobs: int | None, as_json: bool) -> None:
    """Map when pre-loading pays: pool memory, functions, burstiness and mode (docs/regime.md).

    \b
    Example:
      tyche reproduce regime --out runs/regime
    """  # noqa: D301 (click wants the character)
    from agents.experiments.regime import draw_map
    from agents.experiments.regime import reproduce as run
    from agents.experiments.tables import show_experiment

    with _bar("regime", show=not as_json) as progress:
        summary = run(draws, out, jobs=jobs, command=_command_line(), progress=progress)
    if as_json:
        click.echo(json.dumps({"rows": summary["rows"]}))
        return
    show_experiment(_console(), summary)
    try:
        for path in draw_map(summary, out):
            click.echo(str(path))
    except ModuleNotFoundError as error:
        click.echo(f"no heat map: pip install 'tyche-env[report]' brings {error.name}", err=True)


@click.group()
def policy() -> None:
    """List the built-in policies.

    \b
    Example:
      tyche policy list
    """  # noqa: D301 (click wants the character)


@policy.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_policies(as_json: bool) -> None:
    """List the built-in policies; your own is a Python file (docs/policies.md).

    \b
    Examples:
      tyche policy list
      tyche policy list --json
    """  # noqa: D301 (click wants the character)
    from agents.policy import POLICIES
    from tyche_env import extensions

    if as_json:
        entries = [
            {"name": each.name, "privileged": each.privileged, "summary": each.summary} for each in POLICIES.values()
        ]
        click.echo(json.dumps(entries, indent=2))
        return
    for each in POLICIES.values():
        mark = "  (privileged: no fair rival)" if each.privileged else ""
        click.echo(f"{each.name:16} {each.summary}{mark}")
    click.echo(f"{'bound':16} no policy: a lower limit that none can beat (tyche evaluate only)")
    for kind in ("policy", "predictor"):
        for name in extensions.names(kind):
            click.echo(f"{name:16} installed: {extensions.digest(kind, name)}")
    click.echo(f"{'FILE.py':16} your own: an object with predict(), see docs/policies.md")


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
    from agents.report import watch, write_report
    from agents.runs import RunFolder

    folder = RunFolder.read(run)
    click.echo(str(write_report(folder)))
    if chrome_trace is None:
        return
    from agents.chrome_trace import chrome_trace as events_of

    replays = watch(folder)
    if not replays:
        raise UserError(
            f"--chrome-trace: {run} cannot be watched again; that needs a built-in policy deciding at events, "
            "the simulated backend, and the trace"
        )
    chrome_trace.write_text(json.dumps(events_of(replays), separators=(",", ":")), encoding="utf-8")
    click.echo(str(chrome_trace))


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two run folders: paired differences SECOND - FIRST on the windows and seeds that both have.

    Policies of the same name are paired; where each folder has only one policy, those two are.

    \b
    Example:
      tyche compare runs/before runs/after
    """  # noqa: D301 (click wants the character)
    from agents.comparison import compare_runs
    from agents.runs import RunFolder

    entries = compare_runs(RunFolder.read(first), RunFolder.read(second))
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    from rich import box
    from rich.table import Table

    from agents.tables import interval, ms, percent, relative

    table = Table(box=box.SIMPLE)
    for heading in ("policy", "pre-warming", "mode", "metric", "difference", "relative", "windows"):
        table.add_column(heading, justify="left" if heading in ("policy", "pre-warming", "mode", "metric") else "right")
    for entry in entries:
        form = percent if entry["metric"].endswith("rate") else ms
        table.add_row(
            entry["policy"],
            entry["prewarm"],
            entry["mode"],
            entry["metric"],
            interval(entry["difference"], form),
            relative(entry),
            str(entry["windows"]),
        )
    console = _console()
    console.print(table)
    console.print("* the 95 % interval of the paired difference is clear of 0", style="dim")


def _scenario(name: str, trace_file: Path | None) -> Scenario:
    from tyche_env.scenario import Scenario

    scenario = Scenario.load(name)
    return scenario if trace_file is None else scenario.on_file(trace_file)


def _command_line() -> str:
    return shlex.join(["tyche", *sys.argv[1:]])


@contextmanager
def _bar(title: str, show: bool) -> Iterator[Progress | None]:
    """A progress bar on stderr, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not show or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tyche_env.simulator import warm_up

    warm_up()  # it may have to say that it compiles, which would tear the bar
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"{title}: runs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report_if_possible(folder: RunFolder, quiet: bool) -> Path | None:
    """The report, unless what draws it is not installed: results must not depend on that."""
    from agents.report import write_report

    try:
        return write_report(folder)
    except ModuleNotFoundError as error:
        if not quiet:
            click.echo(f"no report.html: pip install 'tyche-env[report]' brings {error.name}", err=True)
        return None


def _show(outcome: Outcome, report_path: Path | None) -> None:
    from agents.tables import show

    console = _console()
    show(console, outcome.folder.summary)
    console.print(f"Everything: {outcome.folder.path}", soft_wrap=True, highlight=False)
    if report_path is not None:
        console.print(f"Report:     {report_path}", soft_wrap=True, highlight=False)


def _console() -> Console:
    """The terminal; in a pipe a row stays one line, whatever its length."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=400)
