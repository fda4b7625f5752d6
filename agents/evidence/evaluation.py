"""Evaluation: the same windows and seeds for every policy, pre-warming policy and mode.

:func:`evaluate` runs the cells of a plan, several at a time, into a run folder, goes on where an earlier run of the
same plan stopped, and ends with means, intervals and paired comparisons.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from agents.evidence.bound import bound
from agents.evidence.kept import kept_of
from agents.evidence.looks import note_folder
from agents.evidence.plan import Cell, Plan, policy_name
from agents.evidence.rates import by_rate
from agents.evidence.run_folder import RequestsWriter, RunFolder, plan_hash, write_requests
from agents.evidence.statistics import conclusions
from agents.playing.play import opened, sampled
from agents.playing.runs import EvaluationError
from agents.playing.scene import WindowScene, play_in
from agents.playing.spread import ALL_CORES, ALONE, Progress, Spread, crew, play_each
from agents.policies.loading import BOUND, load
from agents.policies.policy import Policy
from traces.output import holds
from tyche_env.metrics import METRIC_KEYS, Metrics, summarize
from tyche_env.played import Played
from tyche_env.world import World

STREAM_ABOVE = 1 << 20
"""Requests above which a run's log is written while it goes on; percentiles are then within 1 %."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        folder: the run folder.
        rows: one a run, in the plan's order.
        aggregates: one a policy, pre-warming policy and mode.
        comparisons: of each policy with the first.
    """

    folder: RunFolder
    rows: list[dict[str, Any]]
    aggregates: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]


@holds("out")
def evaluate(
    plan: Plan,
    out: Path,
    *,
    spread: Spread = ALL_CORES,
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run a plan, or what is left of it, and write its run folder (all but the report).

    Args:
        plan: what to run.
        out: the run folder.
        spread: where; by default over as many processes as there are cores.
        command: the command line, for the manifest.
        progress: called with (finished, all) at the start and after each run.

    Raises:
        EvaluationError: the plan is wrong, or a process died.
        RunError: the folder belongs to another plan.
        OutputError: another process writes to the folder.
        UserCodeError: code of the user's own fails.
        KeyboardInterrupt: after the folder has been left consistent.
    """
    plan = plan.validated()
    if spread.on == "ray" and plan.backend != "simulated":
        raise EvaluationError(f"--on ray: backend {plan.backend} runs on one machine; leave it out")
    if (spread.jobs or 1) > 1 and plan.backend != "simulated":
        raise EvaluationError(f"--jobs: runs on backend {plan.backend} would disturb each other; leave it out")
    if plan.split == "test" and not (out / "manifest.json").exists():
        for source in plan.policies:
            note_folder(source, plan.scenario.name, command or "evaluate")
    folder = RunFolder.open(out, plan.identity(), plan.scenario.to_yaml(), command)
    before = folder.manifest
    cells = list(plan.cells())
    done = {_key(row) for row in folder.rows()}
    left = [cell for cell in cells if cell.key not in done]
    started = time.perf_counter()
    status = "interrupted"

    def told(done: int, _: int) -> None:
        if progress:
            progress(len(cells) - len(left) + done, len(cells))

    try:
        for row in _rows(plan, folder, left, spread, told):
            folder.append(row)
        if before["status"] != "finished":
            folder.merge_parts([cell.number for cell in cells])
        status = "finished"
    finally:
        outcome = _conclude(plan, folder, cells)
        folder.update_manifest(
            status=status,
            wall_s=before["wall_s"] + time.perf_counter() - started,
            cpu_s=sum(row["cpu_s"] for row in outcome.rows),
        )
    folder.remove_parts()
    return outcome


def _rows(
    plan: Plan, folder: RunFolder, cells: list[Cell], spread: Spread, progress: Progress
) -> Iterator[dict[str, Any]]:
    """The rows of the cells as they finish; their recorded requests are in ``folder`` by then."""
    if plan.backend != "simulated" or (len(cells) == 1 and spread.on == "processes"):
        # real containers are one machine's: two runs at a time would disturb each other
        spread = ALONE
    if spread.on == "processes" and plan.stays_here:
        spread = ALONE
    made = SentCellRun if spread.on == "ray" else CellRun
    runs = [made(plan, cell, folder.part(cell.number)) for cell in cells]
    parts = {run.key: run.part for run in runs}
    with crew(spread, folder.parts) as workers:
        for run, row in play_each(runs, workers, progress):
            if spread.on == "ray":
                row, requests = cast(Any, row)
                if requests is not None:
                    parts[run.key].parent.mkdir(parents=True, exist_ok=True)
                    parts[run.key].write_bytes(requests)
            yield row


@dataclass(frozen=True, slots=True)
class CellRun:
    """A cell that writes its recorded requests to a file.

    Attributes:
        plan: what the cell belongs to.
        cell: what is run.
        part: the file.
    """

    plan: Plan
    cell: Cell
    part: Path

    @property
    def key(self) -> tuple[Hashable, ...]:
        """The cell's."""
        return self.cell.key

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """Its scene's."""
        return self.plan.scene(self.cell).world_key

    def requests(self) -> World:
        """Its scene's."""
        return self.plan.scene(self.cell).requests()

    def row(self, requests: World) -> dict[str, Any]:
        """See :func:`run_cell`."""
        return run_cell(self.plan, self.cell, self.part, requests)


@dataclass(frozen=True, slots=True)
class SentCellRun(CellRun):
    """A cell that runs where the run folder is not: its recorded requests come back with its row."""

    def row(self, requests: World) -> Any:
        """The row, and the file of the requests, if there is one."""
        with tempfile.TemporaryDirectory() as name:
            part = Path(name) / "part.parquet"
            row = run_cell(self.plan, self.cell, part, requests)
            return row, part.read_bytes() if part.exists() else None


def run_cell(plan: Plan, cell: Cell, part: Path, requests: World | None = None) -> dict[str, Any]:
    """Run one cell and return its row.

    Args:
        plan: what the cell belongs to.
        cell: what to run.
        part: file for its requests, if they are recorded.
        requests: those of its scene; None: read the trace.
    """
    scene = plan.scene(cell)
    requests = scene.requests() if requests is None else requests
    about = {"policy": cell.policy, "prewarm": cell.prewarm, "mode": cell.mode}
    where = {"window": cell.window, "seed": cell.seed}
    met: dict[str, Any] = {}
    rates: list[list[int]] = []
    if cell.policy == BOUND:
        decision, privileged = None, True
        metrics, cpu_s = _bound_metrics(scene.world(requests))
        kept = _kept_of_bound(metrics)
    else:
        policy = load(cell.source)
        played = _play(plan, scene, policy, requests, part, about | where | {"group": cell.group})
        decision, privileged, cpu_s = played.world.decision, policy.privileged, played.cpu_s
        rates = by_rate(played.world, played.totals)
        if played.health is not None:
            met = {"health": played.health, "invocations": played.invocations}
        kept = kept_of(played, plan.scenario.prices)
        metrics = summarize(
            played.totals,
            played.end_to_end_percentiles_us,
            kept["sums"],
            invocations=len(played.world.arrival_us),
            cpu_s=cpu_s,
            decision_us_mean=played.decision_us_mean,
        )
    return {
        "scenario": plan.scenario.name,
        **about,
        "backend": plan.backend,
        "decision": decision,
        **where,
        **metrics,
        "group": cell.group,
        "privileged": privileged,
        "bound": cell.policy == BOUND,
        "cpu_s": cpu_s,
        "by_rate": rates,
        **met,
        **kept,
    }


def _kept_of_bound(metrics: Metrics) -> dict[str, Any]:
    """The bound on the mean over requests can be pooled; that over functions holds for a window alone."""
    requests, mean_ms = metrics["requests"] or 0, metrics["warming_loading_ms_mean"] or 0.0
    return {"sums": {"runs": 1, "requests": requests, "warming_loading_us": mean_ms * 1e3 * requests}}


def _bound_metrics(world: World) -> tuple[Metrics, float]:
    """The two means that the bound bounds and nothing else, and the CPU seconds it took."""
    started = time.process_time()
    found = bound(world)
    metrics: Metrics = dict.fromkeys(METRIC_KEYS)
    metrics["requests"] = int((world.arrival_us >= world.score_from_us).sum())
    for key, value in (
        ("warming_loading_ms_mean", found.request_mean_us),
        ("warming_loading_ms_function_mean", found.function_mean_us),
    ):
        metrics[key] = None if value is None else value / 1e3
    return metrics, time.process_time() - started


def _play(
    plan: Plan, scene: WindowScene, policy: Policy, requests: World, part: Path, labels: dict[str, Any]
) -> Played:
    """Play a cell, and write what is recorded of its requests to ``part``.

    The log of a run of more than :data:`STREAM_ABOVE` requests is never in memory as a whole.
    """
    with ExitStack() as stack:
        backend = None if plan.backend == "simulated" else stack.enter_context(opened(plan.backend))
        if plan.record == "none":
            return play_in(scene, policy, requests, engine=plan.engine, backend=backend, record="none")
        if len(requests.arrival_us) <= STREAM_ABOVE or plan.engine == "reference" or backend is not None:
            played = play_in(scene, policy, requests, engine=plan.engine, backend=backend, record=plan.record)
            if played.log is not None:
                write_requests(part, played.log, requests.names, labels)
            return played
        writer = stack.enter_context(RequestsWriter(part, requests.names, labels))

        def keep(log: NDArray[Any]) -> None:
            writer.write(log if plan.record == "all" else sampled(log))

        return play_in(scene, policy, requests, record=keep)


def _conclude(plan: Plan, folder: RunFolder, cells: list[Cell]) -> Outcome:
    order = {cell.key: cell.number for cell in cells}
    rows = sorted(folder.rows(), key=lambda row: order[_key(row)])
    first = policy_name(plan.policies[0])
    found = conclusions(rows, first)
    folder.write_json("summary.json", {"plan_hash": plan_hash(plan.identity())} | found)
    return Outcome(folder, rows, found["aggregates"], found["comparisons"])


def _key(row: dict[str, Any]) -> tuple[str, str, str, int, int]:
    return (row["policy"], row["prewarm"], row["mode"], row["window"], row["seed"])
