"""Write the README's table of policies anew: realistic mode, OpenWhisk keep-alive, the first twelve test windows.

.venv/bin/python benchmarks/scenario_table.py            needs GenTD26 (TYCHE_TRACES); --print writes nothing
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents.evidence.evaluation import evaluate
from agents.evidence.pages import fill
from agents.evidence.plan import Plan
from agents.evidence.tables import amount, ms
from agents.playing.spread import ALL_CORES, Spread
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario

README = Path(__file__).resolve().parent.parent / "README.md"
SCENARIOS = ("small", "azure-8h", "azure-day", "alibaba-gentd26")
POLICIES = ("none", "lru", "tyche", "censored", "oracle")
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


def row(scenario: str, entries: Sequence[dict[str, Any]]) -> str:
    """A row of the table."""
    cells = [" / ".join(form(entry[metric]["mean"]) for metric, form in CELL) for entry in entries]
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
            text = table([row(name, measure(name, Path(folder))) for name in SCENARIOS])
        print(text)
        if not options.only:
            fill(README, {"policies": text})
    except UserError as error:
        print(f"scenario_table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
