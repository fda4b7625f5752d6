"""How far interval mode is from event mode: the table of ``docs/decision-modes.md``.

In event mode a policy's row kernel is asked about a function at that function's own requests and timers; in interval
mode it is asked about all functions every so many seconds, as every agent that sees the whole cluster must be.  The
script evaluates the same windows in event mode and at several intervals and prints, as Markdown, the paired
differences.  From the repository's root:

    .venv/bin/python benchmarks/decision_modes.py small
    TYCHE_TRACES=folder .venv/bin/python benchmarks/decision_modes.py azure-8h azure-day
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents import Plan, evaluate
from agents.evidence.comparison import compare_runs
from agents.evidence.pages import fill
from agents.evidence.run_folder import RunFolder
from agents.evidence.tables import evidence, interval, ms, percent
from agents.playing.spread import ALL_CORES, Spread
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario
from tyche_env.world import DecisionTimes

INTERVALS_S = (1.0, 10.0, 60.0)
POLICIES = ("tyche", "censored")
"""Not ``none``, which is never asked, nor ``oracle``, which keeps the best of several runs with hindsight."""
COLUMNS = (
    *("policy", "asked", "per function, ms", "difference", "per request, ms", "difference"),
    *("pre-loaded", "warm", "CPU ms"),
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "decision-modes.md"
PER_FUNCTION, PER_REQUEST = "warming_loading_ms_function_mean", "warming_loading_ms_mean"


def measure(
    scenario: str, policies: Sequence[str], windows: int, folder: Path, spread: Spread = ALL_CORES
) -> dict[DecisionTimes, RunFolder]:
    """Evaluate the same windows in event mode and at each interval.

    Args:
        scenario: name or file.
        policies: built-in ones.
        windows: number of test windows, from the first.
        folder: where the run folders go.
        spread: where the runs go.
    """
    decisions: tuple[DecisionTimes, ...] = ("event", *INTERVALS_S)
    runs: dict[DecisionTimes, RunFolder] = {}
    for decision in decisions:
        plan = Plan(Scenario.load(scenario), tuple(policies), windows=windows, decision=decision, record="none")
        runs[decision] = evaluate(
            plan, folder / f"{scenario}-{decision}", spread=spread, command=shlex.join(sys.argv)
        ).folder
    return runs


def markdown(runs: Mapping[DecisionTimes, RunFolder]) -> str:
    """One row a policy and decision mode: means, and paired differences from event mode."""
    event = runs["event"]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    means = {
        (decision, entry["policy"]): entry for decision, run in runs.items() for entry in run.summary["aggregates"]
    }
    differences: dict[tuple[DecisionTimes, str, str], dict[str, Any]] = {
        (decision, entry["policy"], entry["metric"]): entry
        for decision, run in runs.items()
        if decision != "event"
        for entry in compare_runs(event, run)
    }

    def difference(decision: DecisionTimes, policy: str, metric: str) -> str:
        entry = differences.get((decision, policy, metric))
        if entry is None:
            return ""
        return f"{interval(entry['difference'], signed_ms)}{'*' if entry['clear_of_zero'] else ''}"

    for policy in dict.fromkeys(policy for _, policy in means):
        for decision, run in runs.items():
            entry = means[decision, policy]
            cells = [
                policy,
                "at events" if decision == "event" else f"every {decision:g} s",
                ms(entry[PER_FUNCTION]["mean"]),
                difference(decision, policy, PER_FUNCTION),
                ms(entry[PER_REQUEST]["mean"]),
                difference(decision, policy, PER_REQUEST),
                percent(entry["preload_rate"]["mean"]),
                percent(entry["warm_rate"]["mean"]),
                f"{1e3 * sum(row['cpu_s'] for row in run.summary['rows'] if row['policy'] == policy):.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{evidence(event.summary)} * the interval is clear of 0."])


def signed_ms(value: float) -> str:
    """A difference in ms, with its sign."""
    return f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table a scenario; 0, or 2 after a user's error."""
    parser = argparse.ArgumentParser(description="Compare event mode with interval mode at 1, 10 and 60 s.")
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO")
    parser.add_argument("--policy", action="append", metavar="NAME", help=f"default: {', '.join(POLICIES)}")
    parser.add_argument("--write", action="store_true", help="write docs/decision-modes.md anew, too")
    parser.add_argument("--windows", type=int, default=12, help="test windows, from the first; default: 12")
    options: Any = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        for scenario in options.scenarios:
            try:
                runs = measure(scenario, options.policy or POLICIES, options.windows, Path(folder))
            except UserError as error:
                print(f"decision_modes: {error}", file=sys.stderr)
                return 2
            table = markdown(runs)
            print(f"### {scenario}\n\n{table}\n", flush=True)
            if options.write:
                fill(PAGE, {scenario: table})
    return 0


if __name__ == "__main__":
    sys.exit(main())
