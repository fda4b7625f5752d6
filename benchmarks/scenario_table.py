"""Write the README's table of policies anew: realistic mode, OpenWhisk keep-alive, the first twelve test windows.

.venv/bin/python benchmarks/scenario_table.py            needs GenTD26 (TYCHE_TRACES); --print writes nothing
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents.evidence.evaluation import evaluate
from agents.evidence.looks import note_look
from agents.evidence.pages import fill
from agents.evidence.plan import Plan
from agents.evidence.tables import amount, ms
from agents.playing.spread import ALL_CORES, Spread
from agents.policies.bundle import SHIPPED, load_bundle
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario, SplitName
from tyche_env.sources import trace_files

README = Path(__file__).resolve().parent.parent / "README.md"
SCENARIOS = ("small", "azure-8h", "azure-day", "alibaba-gentd26")
LEARNED = "learned"
POLICIES = ("none", "lru", "tyche", "censored", LEARNED, "oracle")
WINDOWS = 12
CELL = (
    ("warming_loading_ms_function_mean", ms),
    ("warming_loading_ms_mean", ms),
    ("preload_gb_s", amount),
)
"""What a cell holds, apart by slashes."""


def measure(scenario: str, folder: Path, spread: Spread = ALL_CORES) -> list[dict[str, Any]]:
    """The pooled figures of every policy in a scenario.

    Args:
        scenario: its name.
        folder: where the run folder goes.
        spread: where the runs go.
    """
    plan = Plan(Scenario.load(scenario), POLICIES, modes=("realistic",), windows=WINDOWS, record="none")
    return evaluate(plan, folder / scenario, spread=spread, command=shlex.join(sys.argv)).aggregates


def seen_share(scenario: Scenario, recipe: Mapping[str, Any]) -> float:
    """Which share of the functions of a table's windows an agent was trained or chosen on; 0 on another trace."""
    names = {*recipe.get("scenarios", ()), *recipe.get("choice", {}).get("scenarios", ())}
    files = trace_files(scenario.trace)
    trained = [each for each in map(Scenario.load, sorted(names)) if trace_files(each.trace) == files]
    splits: tuple[SplitName, ...] = ("train", "validation")
    seen = {f for each in trained for split in splits for window in each.windows(split) for f in window.functions}
    tested = {f for window in scenario.windows("test")[:WINDOWS] for f in window.functions}
    return len(tested & seen) / len(tested) if files else 0.0


def row(scenario: str, entries: Sequence[dict[str, Any]], seen: float = 0.0) -> str:
    """A row of the table.

    Args:
        scenario: its name.
        entries: the figures of each policy, in the order of ``POLICIES``.
        seen: which share of the functions the learned agent knew before.
    """
    cells = [" / ".join(form(entry[metric]["mean"]) for metric, form in CELL) for entry in entries]
    if seen:
        cells[POLICIES.index(LEARNED)] += f" (knows {seen:.0%} of the functions)"
    about = f"{entries[0]['windows']} of {entries[0]['groups']}"
    return f"| {' | '.join([scenario, about, *cells])} |"


def table(rows: Sequence[str]) -> str:
    """The table of some rows."""
    head = f"| {' | '.join(['scenario', 'windows of groups', *POLICIES])} |"
    return "\n".join([head, "|---" * (2 + len(POLICIES)) + "|", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0, or 2 after a user's error."""
    parser = argparse.ArgumentParser(description="Write the README's table of policies anew.")
    parser.add_argument("--print", action="store_true", dest="only", help="print it, and write nothing")
    options = parser.parse_args(arguments)
    try:
        with TemporaryDirectory() as folder:
            bundle = load_bundle(SHIPPED / LEARNED)
            shares = {name: seen_share(Scenario.load(name), bundle.recipe.model_dump()) for name in SCENARIOS}
            text = table([row(name, measure(name, Path(folder)), shares[name]) for name in SCENARIOS])
        for name in SCENARIOS:
            note_look(name, LEARNED, [bundle], "the README's table")
        print(text)
        if not options.only:
            fill(README, {"policies": text})
    except UserError as error:
        print(f"scenario_table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
