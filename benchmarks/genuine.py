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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from agents.evidence.looks import note_look
from agents.evidence.pages import fill
from agents.evidence.tables import ms, percent
from agents.playing.play import play
from agents.playing.scene import WindowScene
from agents.policies.bundle import SHIPPED, load_bundle
from agents.policies.loading import load
from real_backend.calibration import fit
from tyche_env.errors import UserError
from tyche_env.profiles import write_catalogue
from tyche_env.scenario import Conditions, Scenario
from tyche_env.world import StartType

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "openwhisk"
CALIBRATED_ON = "slots-paper-none"
DRAWS = 20
"""Simulated runs of a window, each with latencies of its own."""
LOADING = ("warming", "library", "model", "transfer")
STAGES = ("queue", "scheduling", *LOADING, "inference")
OF_REQUEST, OF_FUNCTION, LEAST_MS = 0.10, 0.20, 5.0
"""Errors that are small: of the mean per request, of the mean per function, and of either in ms."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means in ms over the requests of some runs.

    Attributes:
        requests: how many.
        loading: of warming and loading.
        function: mean of the functions' means of it.
        stages: of each stage.
        starts: shares of the start types.
    """

    requests: int
    loading: float
    function: float
    stages: Mapping[str, float]
    starts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A run that was measured, or several windows of one policy and mode.

    Attributes:
        name: what it is called in the table.
        policy: the policy.
        measured: on OpenWhisk.
        simulated: of the same requests.
        lost: containers that were lost.
    """

    name: str
    policy: str
    measured: Figures
    simulated: Figures | None
    lost: int

    @property
    def close(self) -> bool:
        """Whether the simulator is as close as we want it."""
        if self.simulated is None:
            return True
        pairs = (
            (self.simulated.loading, self.measured.loading, OF_REQUEST),
            (self.simulated.function, self.measured.function, OF_FUNCTION),
        )
        return all(abs(ours - theirs) <= max(LEAST_MS, share * theirs) for ours, theirs, share in pairs)


def figures_of(requests: pd.DataFrame) -> Figures:
    """Figures of requests that were all served.

    Args:
        requests: a row each: ``window``, ``function``, ``start_type`` as text, ``*_us`` a stage.
    """
    loading_us = requests[[f"{stage}_us" for stage in LOADING]].sum(axis=1)
    functions = loading_us.groupby([requests["window"], requests["function"]], observed=True).mean()
    return Figures(
        requests=len(requests),
        loading=float(loading_us.mean()) / 1e3,
        function=float(functions.mean()) / 1e3,
        stages={stage: float(requests[f"{stage}_us"].mean()) / 1e3 for stage in STAGES},
        starts={str(name): float(share) for name, share in requests["start_type"].value_counts(normalize=True).items()},
    )


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


def simulated(scenario: Scenario, run: Mapping[str, Any], draws: int = DRAWS) -> pd.DataFrame:
    """The requests of a run, as the simulator plays them, all draws together.

    Args:
        scenario: calibrated.
        run: one of :func:`runs`.
        draws: how often.
    """
    scene = WindowScene(scenario, "test", run["window"], run["seed"], Conditions(run["prewarm"], run["mode"]))
    world = scene.world(scene.requests())
    policy = load(run["policy"]).prepare(scene.history(world))
    names = {int(start): start.name.lower() for start in StartType}
    found = []
    for draw in range(draws):
        log = play(world.with_settings(seed=draw), policy).log
        assert log is not None
        table = pd.DataFrame({f"{stage}_us": log[f"{stage}_us"] for stage in STAGES})
        starts = pd.Series(log["start_type"]).map(names)
        found.append(table.assign(window=run["window"], function=log["function"], start_type=starts))
    return pd.concat(found, ignore_index=True)


def predictions(scenario: Scenario, draws: int = DRAWS) -> list[Row]:
    """Every run in slots without logs beside its prediction; where there are several windows, all of them together."""
    requests = pd.read_parquet(MEASURED / "requests.parquet")
    chosen = [run for run in runs() if run["routing"] == "slots" and run["logs_mb"] == 0]
    drawn = {run["run"]: simulated(scenario, run, draws) for run in chosen}
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


def pair(figures: Figures) -> str:
    """Per request and per function, in ms."""
    return f"{ms(figures.loading)} / {ms(figures.function)}"


def ahead(figures: Figures) -> str:
    """The share of requests whose function was loaded before they came."""
    return percent(figures.starts.get("gpu", 0.0) + figures.starts.get("memory", 0.0))


def table(rows: Sequence[Row]) -> str:
    """Measured beside simulated."""
    head = (
        *("mode, window", "policy", "requests", "measured, ms", "simulated, ms", "error, per request / per function"),
        *("pre-loaded, measured", "simulated", "scheduling, ms", "lost containers"),
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        ours, theirs = row.simulated, row.measured
        assert ours is not None
        errors = (ours.loading / theirs.loading - 1, ours.function / theirs.function - 1)
        cells = (
            *(row.name, row.policy, str(theirs.requests), pair(theirs), pair(ours)),
            " / ".join(f"{100 * error:+.0f} %" for error in errors) + ("" if row.close else " **outside**"),
            *(ahead(theirs), ahead(ours), ms(theirs.stages["scheduling"]), str(row.lost)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plain(rows: Sequence[Row]) -> str:
    """Measured alone."""
    head = ("mode, window, actions", "policy", "requests", "measured, ms", "scheduling, ms", "lost containers")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        own = row.measured
        cells = (row.name, row.policy, str(own.requests), pair(own), ms(own.stages["scheduling"]), str(row.lost))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def misses(rows: Sequence[Row]) -> str:
    """Stage by stage, measured and simulated, where the simulator is not close enough."""
    head = ("mode, window", "policy", *LOADING[:3], "cold", "warm", "loading")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if row.simulated is not None and not row.close:
            stages = [f"{ms(row.measured.stages[each])} ({ms(row.simulated.stages[each])})" for each in LOADING[:3]]
            starts = [
                f"{percent(row.measured.starts.get(each, 0.0))} ({percent(row.simulated.starts.get(each, 0.0))})"
                for each in head[-3:]
            ]
            lines.append(f"| {' | '.join([row.name, row.policy, *stages, *starts])} |")
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
