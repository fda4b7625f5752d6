"""Run experiments of the paper into a folder, resumably, and set the results beside the paper's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agents.evidence.run_folder import RunFolder
from agents.experiments import checks
from agents.experiments.paper import EXPERIMENTS, Experiment, Measurement
from agents.experiments.rows import conditions, rows_of
from agents.experiments.runs import open_folder, run_all
from agents.experiments.tables import markdown
from agents.playing.spread import ALL_CORES, Progress, Spread
from traces.output import holds


@holds("out")
def reproduce(
    name: str, draws: int, out: Path, *, spread: Spread = ALL_CORES, command: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Run one experiment, or what is left of it.

    Args:
        name: one of ``paper.EXPERIMENTS``.
        draws: draws a class.
        out: folder of the experiment; ``summary.json`` is written there.
        spread: where the runs go.
        command: the command line, for the manifest.
        progress: called with (finished runs, all).

    Returns:
        ``rows``, one a condition, and ``checks``.

    Raises:
        RunError: the folder holds something else.
        SourceError: the trace is missing.
    """
    started_s = time.perf_counter()
    experiment = EXPERIMENTS[name]
    if isinstance(experiment, Measurement):
        return _measure(experiment, draws, out, command, started_s)
    cases = experiment.cases(draws)
    plan = {"experiment": name, "draws": draws}
    folder = open_folder(out, plan, [case.scenario for case in cases], command)
    before_s = folder.manifest["wall_s"]
    results = run_all(cases, folder, spread, progress)
    rows = rows_of(name, cases, results)
    grouped = conditions(cases, results)
    found = [*experiment.checks(rows), *checks.oracle(grouped), *checks.bounded(grouped)]
    summary = _summary(experiment, draws, list(cases[0].axes), rows, found)
    folder.write_json("summary.json", summary)
    (folder.path / "table.md").write_text(markdown(summary), encoding="utf-8")
    folder.update_manifest(
        status="finished",
        wall_s=before_s + time.perf_counter() - started_s,
        cpu_s=sum(result.get("cpu_s", 0.0) for result in results),
    )
    return summary


def _measure(experiment: Measurement, draws: int, out: Path, command: str, started_s: float) -> dict[str, Any]:
    """Measure anew, unless the folder has it."""
    folder = RunFolder.open(out, {"experiment": experiment.name, "draws": draws}, "", command)
    rows = folder.rows()
    if not rows:
        rows = experiment.measure(draws)
        for row in rows:
            folder.append(row)
    summary = _summary(experiment, draws, list(experiment.axes), rows, list(experiment.checks(rows)))
    folder.write_json("summary.json", summary)
    (folder.path / "table.md").write_text(markdown(summary), encoding="utf-8")
    folder.update_manifest(status="finished", wall_s=folder.manifest["wall_s"] + time.perf_counter() - started_s)
    return summary


def _summary(
    experiment: Experiment | Measurement, draws: int, axes: list[str], rows: list[Any], found: list[Any]
) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "draws": draws,
        "axes": axes,
        "columns": experiment.columns,
        "rows": rows,
        "checks": found,
    }
