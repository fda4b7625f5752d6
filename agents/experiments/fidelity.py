"""How far the simulator is from real containers: the same window on both, and the stages side by side.

Real runs are repeated, because two of them differ; the simulator is run with several keys for its latencies, on the
same arrivals.  Requests of all repetitions, and of all draws, are pooled.  An error counts as small where it is within
a tolerance, or no larger than the distance of a single real repetition from all of them together.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Cell, Plan
from agents.evidence.run_folder import RunError, RunFolder
from agents.playing.play import play
from agents.playing.runs import EvaluationError
from agents.playing.spread import Progress, play_all
from agents.policies.loading import load
from traces.output import holds
from tyche_env.metrics import STAGES
from tyche_env.world import StartType, World

BACKEND = "openwhisk"
DRAWS = 20
"""Simulated runs of a window, each with latencies of its own."""

COUNTED = ("warming_loading", "end_to_end")
"""Times of all requests: one that was not served counts as its wait, at least its function's time limit."""
SERVED = ("served_warming_loading", *STAGES, "served_end_to_end")
"""Times of the requests that were served."""
TIMES = (*COUNTED, *SERVED)
"""What is compared, in us; ``warming_loading`` is the sum of warming, library, model and transfer."""

TOLERANCES = {"mean": 0.10, "p95": 0.20}
"""Relative error of the time for warming and loading that is small."""

SHARE_TOLERANCE = 0.05
"""Difference of the share of a start type that is small."""

Condition = tuple[str, str, str]
"""Policy, pre-warming policy, mode."""

Requests = dict[str, NDArray[Any]]
"""Columns: the times, and ``start_type`` of those that were served (indices of ``StartType``)."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is run.

    Attributes:
        plan: policies and windows; its backend does not matter.
        repetitions: of the real runs.
        draws: of the simulated ones.
    """

    plan: Plan
    repetitions: int = 1
    draws: int = DRAWS

    def validated(self) -> Study:
        """The study with its defaults filled in.

        Raises:
            EvaluationError: an option is out of range, or there is nothing to run.
        """
        if self.repetitions < 1:
            raise EvaluationError(f"--repetitions: needs at least 1, got {self.repetitions}")
        return replace(self, plan=replace(self.plan, backend=BACKEND, record="all").validated())


@holds("out")
def study(wanted: Study, out: Path, *, command: str = "", progress: Progress | None = None) -> dict[str, Any]:
    """Run a study, or what is left of it, into ``out``/real-1, real-2, ... and fidelity.json.

    Args:
        wanted: what to run.
        out: folder of the study.
        command: the command line, for the manifests.
        progress: called with (finished, all) real runs.

    Returns:
        What fidelity.json holds, see :func:`compare`.
    """
    wanted = wanted.validated()
    cells = list(wanted.plan.cells())
    folders = []
    for repetition in range(wanted.repetitions):

        def told(done: int, _: int, before: int = repetition * len(cells)) -> None:
            if progress:
                progress(before + done, wanted.repetitions * len(cells))

        path = out / f"real-{repetition + 1}"
        folders.append(evaluate(wanted.plan, path, command=command, progress=told).folder)
    found = compare(folders, wanted.plan, wanted.draws)
    (out / "fidelity.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return found


def compare(folders: Sequence[RunFolder], plan: Plan, draws: int = DRAWS) -> dict[str, Any]:
    """Set real runs beside simulated ones of the same windows.

    Args:
        folders: real runs of one plan, with all their requests.
        plan: the plan; its scenario may have other profiles and delays than the one that was run for real.
        draws: simulated runs of each cell.

    Returns:
        ``scenario``, ``repetitions``, ``draws``, ``tolerances``, ``machine``, and ``conditions``: for each policy,
        pre-warming policy and mode the ``times`` and ``start_types`` of both, their errors, and which are small.
    """
    limits_us = unserved_us(plan)
    real = [_real(folder, limits_us) for folder in folders]
    drawn = [DrawnRun(plan, cell, draw) for cell in plan.cells() for draw in range(draws)]
    simulated: dict[Condition, list[Requests]] = {}
    for run, requests in zip(drawn, play_all(drawn), strict=True):
        simulated.setdefault((run.cell.policy, run.cell.prewarm, run.cell.mode), []).append(requests)
    rows = [row for folder in folders for row in folder.rows()]
    conditions = []
    for condition, runs in simulated.items():
        missing = [str(folder.path) for folder, each in zip(folders, real, strict=True) if condition not in each]
        if missing:
            raise RunError(f"{missing[0]}: has no requests of {', '.join(condition)}")
        policy, prewarm, mode = condition
        own = [row for row in rows if (row["policy"], row["prewarm"], row["mode"]) == condition]
        statuses: dict[str, int] = {}
        for row in own:
            for name, count in row["health"]["statuses"].items():
                statuses[name] = statuses.get(name, 0) + count
        conditions.append(
            {"policy": policy, "prewarm": prewarm, "mode": mode, "statuses": statuses}
            | _against([each[condition] for each in real], _pooled(runs))
        )
    return {
        "scenario": plan.scenario.name,
        "split": plan.split,
        "windows": plan.windows,
        "repetitions": len(folders),
        "draws": draws,
        "tolerances": {**TOLERANCES, "share": SHARE_TOLERANCE},
        "machine": sorted({row["health"]["where"] for row in rows}),
        "load_average": [row["health"]["load_average"] for row in rows],
        "conditions": conditions,
    }


def unserved_us(plan: Plan) -> dict[tuple[int, str], int]:
    """What a request that was not served counts as, at least, by window and name of its function."""
    found = {}
    for cell in {cell.window: cell for cell in plan.cells()}.values():
        world = plan.scene(cell).requests()
        for name, limit_us in zip(world.names, world.functions.unserved_us.tolist(), strict=True):
            found[cell.window, name] = limit_us
    return found


def _real(folder: RunFolder, limits_us: Mapping[tuple[int, str], int]) -> dict[Condition, Requests]:
    """Requests of a real run by condition."""
    import pyarrow.parquet as pq

    plan = folder.manifest["plan"]
    if plan.get("backend", "simulated") == "simulated" or plan["record"] != "all":
        raise RunError(f"{folder.path}: needs a real run with --record all")
    table = pq.read_table(folder.requests)
    columns = {name: table[name].to_numpy() for name in table.column_names if name.endswith("_us") or name == "status"}
    met = np.array([StartType[name.upper()] for name in table["start_type"].to_pylist()], np.int64)
    functions = zip(table["window"].to_pylist(), table["function"].to_pylist(), strict=True)
    limit_us = np.array([limits_us[function] for function in functions], np.int64)
    keys = list(zip(*(table[name].to_pylist() for name in ("policy", "prewarm", "mode")), strict=True))
    found = {}
    for condition in dict.fromkeys(keys):
        chosen = np.array([key == condition for key in keys])
        own = {name: values[chosen] for name, values in columns.items()}
        found[cast(Condition, condition)] = _times(own, met[chosen], limit_us[chosen])
    return found


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """A simulated run of a cell: its arrivals, and latencies of a draw.

    Attributes:
        plan: of the cell.
        cell: what is run.
        draw: key of the latencies.
    """

    plan: Plan
    cell: Cell
    draw: int

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Cell and draw."""
        return (*self.cell.key, self.draw)

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """That of the cell's scene."""
        return self.plan.scene(self.cell).world_key

    def requests(self) -> World:
        """Those of the cell's scene."""
        return self.plan.scene(self.cell).requests()

    def row(self, requests: World) -> Requests:
        """Its requests."""
        scene = self.plan.scene(self.cell)
        world = scene.world(requests)
        policy = load(self.cell.source).prepare(scene.history(world))
        log = play(world.with_settings(seed=self.draw), policy).log
        assert log is not None
        return _times(log, log["start_type"], world.functions.unserved_us[log["function"]])


def _times(columns: Mapping[str, Any] | NDArray[Any], met: NDArray[Any], limit_us: NDArray[np.int64]) -> Requests:
    served = columns["status"] == 0
    found = {stage: columns[f"{stage}_us"][served].astype(np.float64) for stage in STAGES}
    stages_us = [columns[f"{stage}_us"] for stage in ("warming", "library", "model", "transfer")]
    loading_us = np.sum(stages_us, axis=0).astype(np.float64)
    took_us = (columns["end_us"] - columns["arrival_us"]).astype(np.float64)
    for name, values_us in (("warming_loading", loading_us), ("end_to_end", took_us)):
        found[name] = np.where(served, values_us, np.maximum(took_us, limit_us))
        found[f"served_{name}"] = values_us[served]
    return found | {"start_type": met[served].astype(np.int64)}


def _pooled(runs: Sequence[Requests]) -> Requests:
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def _against(real: Sequence[Requests], simulated: Requests) -> dict[str, Any]:
    """Real repetitions against simulated requests."""
    pooled = _pooled(real)
    times: dict[str, dict[str, dict[str, Any]]] = {}
    for name in TIMES:
        own, each, other = _figures(pooled[name]), [_figures(run[name]) for run in real], _figures(simulated[name])
        errors = {key: (other[key] - own[key]) / own[key] if own[key] > 0 else None for key in own}
        spread = {key: max(abs(run[key] - own[key]) for run in each) for key in own}
        times[name] = {"real": own, "simulated": other, "error": errors, "spread": spread}
    shares = {}
    for start in StartType:
        own_share, *rest = (_share(run, start) for run in (pooled, *real))
        shares[start.name.lower()] = {
            "real": own_share,
            "simulated": _share(simulated, start),
            "spread": max(abs(share - own_share) for share in rest),
        }
    loading = times["warming_loading"]
    small = {
        f"warming_loading_{key}": _is_small(loading, key, tolerance * loading["real"][key])
        for key, tolerance in TOLERANCES.items()
    }
    small["start_types"] = all(
        abs(each["simulated"] - each["real"]) <= max(SHARE_TOLERANCE, each["spread"]) for each in shares.values()
    )
    served = len(pooled["start_type"])
    return {
        "requests": len(pooled["end_to_end"]),
        "unserved": len(pooled["end_to_end"]) - served,
        "times": times,
        "start_types": shares,
        "small": small,
    }


def _share(requests: Requests, start: StartType) -> float:
    """Share of a start type among all requests, whether served or not."""
    return float((requests["start_type"] == start).sum() / max(1, len(requests["end_to_end"])))


def _figures(values: NDArray[Any]) -> dict[str, float]:
    """Mean, median and 95th percentile, in ms; zeros of nothing."""
    if len(values) == 0:
        return {"mean": 0.0, "p50": 0.0, "p95": 0.0}
    p50, p95 = np.percentile(values, (50, 95)) / 1e3
    return {"mean": float(values.mean()) / 1e3, "p50": float(p50), "p95": float(p95)}


def _is_small(entry: Mapping[str, Any], key: str, tolerance_ms: float) -> bool:
    error_ms = abs(entry["simulated"][key] - entry["real"][key])
    return bool(error_ms <= max(tolerance_ms, entry["spread"][key]))
