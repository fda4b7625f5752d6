"""``tyche evaluate``."""

from __future__ import annotations

import json
import os
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from agents.cli.options import on_trace, spread_options, trace_options
from agents.cli.terminal import command_line, console
from tyche_env.completion import name_or_file, prewarm_policies, scenarios
from tyche_env.errors import UserError
from tyche_env.options import renamed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agents.evidence.evaluation import Outcome
    from agents.evidence.plan import Plan
    from agents.evidence.run_folder import RunFolder
    from agents.playing.spread import On
    from traces.options import Reading
    from tyche_env.scenario import Scenario
    from tyche_env.world import DecisionTimes

_DEFAULT_POLICIES = ("none", "lru", "tyche", "oracle")
BOTH = "both"
"""The backend that is two: real runs, and simulated ones beside them."""


class _Decision(click.ParamType[Any]):
    """``event`` or a number of seconds."""

    name = "event|seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> DecisionTimes:
        if value == "event":
            return "event"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither 'event' nor a number of seconds", param, ctx)


def _policies() -> Iterable[str]:
    from agents.policies.loading import BOUND, names

    return (*names(), BOUND)


@click.command()
@click.option(
    "--scenario",
    "scenario_name",
    metavar="NAME|FILE",
    shell_complete=name_or_file(scenarios),
    help="See tyche scenario list.  [default: one that fits --trace, as tyche scenario new makes]",
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
@trace_options
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
@spread_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@renamed("--engine", "--on", when=["ray"])
@click.option(
    "--engine",
    type=click.Choice(["compiled", "reference"]),
    default="compiled",
    show_default=True,
    help="Of the simulator; the plain-Python reference is a hundred times slower, with the same results.",
)
@click.option(
    "--no-preflight",
    is_flag=True,
    help="On real containers, begin without trying each function once (TYCHE_PREFLIGHT=0).",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if more than 1 % of a policy's requests were not served.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    scenario_name: str | None,
    policies: tuple[str, ...],
    prewarm: tuple[str, ...],
    modes: tuple[str, ...],
    windows: int | None,
    split: str,
    seeds: int,
    decision: Any,
    trace: Path | None,
    reading: Reading,
    backend: str,
    repetitions: int | None,
    out: Path | None,
    record: str,
    jobs: int | None,
    on: On,
    as_json: bool,
    engine: str,
    no_preflight: bool,
    strict: bool,
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
      tyche evaluate --trace BurstGPT_1.csv
      tyche evaluate --scenario small --trace mine.csv --column time=when --column function=model
      tyche evaluate --scenario small --policy none --policy tyche --policy bound --json
      tyche evaluate --scenario azure-day --policy none --policy tyche --windows 40 --on ray
      tyche evaluate --scenario real-small --policy none --policy tyche --backend both --repetitions 3
    """  # noqa: D301 (click wants the character)
    from agents.evidence.evaluation import evaluate as run
    from agents.evidence.plan import Plan
    from agents.evidence.tables import unserved
    from agents.playing.progress import bar
    from agents.playing.spread import Spread
    from tyche_env.scenario import Scenario

    if no_preflight:
        if backend == "simulated":
            raise UserError("--no-preflight: is for real containers; nothing is tried before a simulated run")
        os.environ["TYCHE_PREFLIGHT"] = "0"
    scenario = (
        _fitting(trace, reading) if scenario_name is None else on_trace(Scenario.load(scenario_name), trace, reading)
    )
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
        engine=cast(Any, engine),
        backend="simulated" if backend == BOTH else backend,
    ).validated()
    out = out or Path("runs") / f"{scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if backend == BOTH:
        if on == "ray" or jobs is not None:
            raise UserError(
                f"--on, --jobs: with --backend {BOTH} runs follow each other on this machine; leave them out"
            )
        warning = _both(plan, repetitions or 1, out, quiet, as_json)
        if warning and strict:
            click.get_current_context().exit(1)
        return
    if repetitions is not None:
        raise UserError(f"--repetitions: is for --backend {BOTH}; --seeds repeats with other requests")
    with bar(not (quiet or as_json)) as show:
        try:
            outcome = run(
                plan,
                out,
                spread=Spread(jobs, on),
                command=command_line(),
                progress=partial(show, f"{scenario.name}: runs"),
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
    if strict and unserved(outcome.folder.summary):
        click.get_current_context().exit(1)


def _both(plan: Plan, repetitions: int, out: Path, quiet: bool, as_json: bool) -> str:
    """Real and simulated runs beside each other; returns which left many requests unserved, in words."""
    from agents.experiments.fidelity import Study, study
    from agents.experiments.fidelity_report import much_unserved, write
    from agents.experiments.fidelity_report import show as show_fidelity
    from agents.playing.progress import bar

    with bar(not (quiet or as_json)) as show:
        progress = partial(show, f"{plan.scenario.name}: runs")
        found = study(Study(plan, repetitions), out, command=command_line(), progress=progress)
    page = write(found, out)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        show_fidelity(console(), found)
        console().print(f"Report: {page}", soft_wrap=True, highlight=False)
    warning = much_unserved(found)
    if warning and not (quiet or as_json):
        console().print(warning, style="bold", highlight=False, soft_wrap=True)
    return warning


def _fitting(trace: Path | None, reading: Reading) -> Scenario:
    """A scenario that fits a trace file, on the cluster of ``small`` and with the profiles of ``paper``."""
    from traces.options import tell, warn
    from tyche_env.demand import demand_of
    from tyche_env.own_scenario import own_scenario, slug
    from tyche_env.scenario import Scenario
    from tyche_env.sources import repairs_of

    if trace is None:
        raise click.UsageError("Missing option '--scenario'.", click.get_current_context(silent=True))
    cluster = Scenario.load("small").cluster
    name = slug(trace.name.partition(".")[0])
    made = own_scenario(name, str(trace), "paper", cluster, **reading.settings())
    tell(repairs_of(made.trace))
    warn(demand_of(made).findings)
    return made


def _report_if_possible(folder: RunFolder, quiet: bool) -> Path | None:
    """The report, unless what draws it is not installed: results must not depend on that."""
    from agents.evidence.report import write_report
    from traces.output import held

    try:
        with held(folder.path):
            return write_report(folder)
    except ModuleNotFoundError as error:
        if not quiet:
            click.echo(f"no report.html: pip install 'tyche-env[report]' brings {error.name}", err=True)
        return None


def _show(outcome: Outcome, report_path: Path | None) -> None:
    from agents.evidence.tables import failing_loads, lost_containers, show, unserved

    terminal = console()
    show(terminal, outcome.folder.summary)
    terminal.print(f"Everything: {outcome.folder.path}", soft_wrap=True, highlight=False)
    if report_path is not None:
        terminal.print(f"Report:     {report_path}", soft_wrap=True, highlight=False)
    # last, so that nobody overlooks it
    rows = outcome.folder.summary["rows"]
    for warning in (lost_containers(rows), failing_loads(rows), unserved(outcome.folder.summary)):
        if warning:
            terminal.print(warning, style="bold", soft_wrap=True, highlight=False)
