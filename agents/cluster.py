"""Evaluations over a Ray cluster: the cells of a plan as tasks, their rows those of a serial run.

The cluster is the one that the environment variable RAY_ADDRESS names, else one that runs on this machine, else one of
this machine alone, for the time of the run.  Requests of a window go into Ray's object store once, from where the tasks
of a machine map them; rows and recorded requests come back as values, so the machines need no common file system.
They need this package, Python and Ray in the same versions, and the files that policies of one's own consist of.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from agents.evaluation import Cell, EvaluationError, Plan, run_cell, shared_world
from agents.runs import RunFolder
from tyche_env.world import World


def run_on_ray(plan: Plan, folder: RunFolder, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """The rows of the cells as they finish; their recorded requests are in ``folder`` by then.

    Args:
        plan: what the cells belong to.
        folder: of the run.
        cells: what to run, those of a window one after the other.

    Raises:
        EvaluationError: the cluster lost a task more often than Ray repeats it.
    """
    ray: Any = import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        run = ray.remote(_run_apart)
        worlds: dict[tuple[int, int], Any] = {}
        waiting = {}
        for cell in cells:
            key = (cell.window, cell.seed)
            if key not in worlds:
                worlds[key] = ray.put(shared_world(plan, cell))
            waiting[run.remote(plan, cell, worlds[key])] = cell
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            cell = waiting.pop(done)
            row, requests = ray.get(done)
            if requests is not None:
                part = folder.part(cell.number)
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(requests)
            yield row
    except ray.exceptions.WorkerCrashedError as error:
        raise EvaluationError(f"--engine ray: a task died again and again ({error}); --jobs needs no cluster") from None
    finally:
        if ours:
            ray.shutdown()


def _run_apart(plan: Plan, cell: Cell, world: World) -> tuple[dict[str, Any], bytes | None]:
    """The row of a cell and the file of its recorded requests, if there is one."""
    with tempfile.TemporaryDirectory() as name:
        part = Path(name) / "part.parquet"
        row = run_cell(plan, cell, part, world)
        return row, part.read_bytes() if part.exists() else None
