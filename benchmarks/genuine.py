"""What a genuine Apache OpenWhisk measured, and what the simulator predicts for the same requests.

    .venv/bin/python benchmarks/genuine.py            writes docs/fidelity.md and README.md; --print writes nothing

The measurements are in ``benchmarks/results/openwhisk``; its README says how they were made.  Profiles and delays are
fitted to one run (none, in slots, paper mode, window 0), as ``tyche profile calibrate`` does; everything else is
predicted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from agents.evidence.looks import note_look
from agents.evidence.pages import fill
from agents.evidence.tables import ms
from agents.experiments.beside import DRAWS, Row, figures_of, misses, pair, simulated, table
from agents.policies.bundle import SHIPPED, load_bundle
from real_backend.calibration import fit
from tyche_env.errors import UserError
from tyche_env.profiles import write_catalogue
from tyche_env.scenario import Scenario

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "openwhisk"
CALIBRATED_ON = "slots-paper-none"


def calibrated(folder: Path) -> Scenario:
    """The scenario with profiles and delays fitted to one run.

    Args:
        folder: where the catalogue of the profiles goes.
    """
    calls = pd.read_parquet(MEASURED / "invocations.parquet")
    own = calls[calls["run"] == CALIBRATED_ON].drop(columns="run")
    (run,) = [each for each in runs() if each["run"] == CALIBRATED_ON]
    invocations = {"columns": list(own.columns), "rows": own.astype(object).values.tolist()}
    row = {"window": run["window"], "seed": run["seed"], "invocations": invocations}
    found = fit(Scenario.load(run["scenario"]), "test", [row], f"fitted to {CALIBRATED_ON} of {MEASURED.name}")
    write_catalogue(folder / "calibrated.csv", found.profiles)
    return found.applied(folder / "calibrated.csv")


def runs() -> list[dict[str, Any]]:
    """The runs that were measured."""
    content: dict[str, list[dict[str, Any]]] = json.loads((MEASURED / "runs.json").read_text(encoding="utf-8"))
    return content["runs"]


def _predicted(scenario: Scenario, run: Mapping[str, Any], draws: int) -> pd.DataFrame:
    conditions = {key: run[key] for key in ("window", "seed", "prewarm", "mode")}
    return simulated(scenario, run["policy"], split="test", draws=draws, **conditions)


def predictions(scenario: Scenario, draws: int = DRAWS) -> list[Row]:
    """Every run in slots without logs beside its prediction; where there are several windows, all of them together."""
    requests = pd.read_parquet(MEASURED / "requests.parquet")
    chosen = [run for run in runs() if run["routing"] == "slots" and run["logs_mb"] == 0]
    drawn = {run["run"]: _predicted(scenario, run, draws) for run in chosen}
    found = []
    for mode in ("paper", "realistic"):
        windows = sorted({run["window"] for run in chosen if run["mode"] == mode})
        parts = [(f"{mode}, window {window}", [window]) for window in windows]
        for name, of_part in [*parts, (f"{mode}, all", windows)][: len(windows) + (len(windows) > 1)]:
            for policy in ("none", "tyche", "learned"):
                own = [r for r in chosen if (r["mode"], r["policy"]) == (mode, policy) and r["window"] in of_part]
                names = [run["run"] for run in own]
                found.append(
                    Row(
                        name,
                        policy,
                        figures_of(requests[requests["run"].isin(names)]),
                        figures_of(pd.concat([drawn[each] for each in names])),
                        sum(run["health"]["lost_containers"] for run in own),
                    )
                )
    return found


def others() -> list[Row]:
    """The runs that are not predicted: OpenWhisk's own routing, and slots whose logs are read."""
    requests = pd.read_parquet(MEASURED / "requests.parquet")
    found = []
    for run in runs():
        if run["routing"] == "native" or run["logs_mb"]:
            how = "one action a function" if run["routing"] == "native" else f"slots, logs limit {run['logs_mb']} MB"
            own = figures_of(requests[requests["run"] == run["run"]])
            lost = run["health"]["lost_containers"]
            found.append(Row(f"{run['mode']}, window {run['window']}, {how}", run["policy"], own, None, lost))
    return found


def plain(rows: Sequence[Row]) -> str:
    """Measured alone."""
    head = ("mode, window, actions", "policy", "requests", "measured, ms", "scheduling, ms", "lost containers")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        own = row.measured
        cells = (row.name, row.policy, str(own.requests), pair(own), ms(own.stages["scheduling"]), str(row.lost))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(rows: Sequence[Row]) -> str:
    """What the README shows: all windows of each policy."""
    lines = ["| mode | none | tyche | learned |", "|---|---|---|---|"]
    for mode in ("paper", "realistic"):
        own = [row for row in rows if row.name.startswith(mode)][-3:]
        assert all(row.simulated is not None for row in own)
        cells = [f"{ms(row.measured.loading)} ({ms(row.simulated.loading)})" for row in own if row.simulated]
        lines.append(f"| {mode}, {own[0].measured.requests} requests | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, print and write; 0, or 2 after a user's error."""
    parser = argparse.ArgumentParser(description="Set what a genuine OpenWhisk measured beside the simulator.")
    parser.add_argument("--print", action="store_true", dest="only", help="print the tables, and write nothing")
    options = parser.parse_args(arguments)
    try:
        with TemporaryDirectory() as folder:
            rows = predictions(calibrated(Path(folder)))
        blocks = {"genuine": table(rows), "genuine-misses": misses(rows), "genuine-others": plain(others())}
        print("\n\n".join([*blocks.values(), short(rows)]))
        if not options.only:
            note_look("real-azure", "learned", [load_bundle(SHIPPED / "learned")], "replays on a genuine OpenWhisk")
            fill(ROOT / "docs" / "fidelity.md", blocks)
            fill(ROOT / "README.md", {"genuine": short(rows)})
    except UserError as error:
        print(f"genuine: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
