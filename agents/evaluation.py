"""Evaluation: the same windows and seeds for every policy, pre-warming policy and mode.

A :class:`Plan` says what is run; :func:`evaluate` runs its cells, several at a time, into a run folder, goes on
where an earlier run of the same plan stopped, and ends with means, intervals and paired comparisons.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from numpy.typing import NDArray

from agents.bound import bound
from agents.fan_out import EvaluationError as EvaluationError
from agents.fan_out import FanOut, Spread, Task, crew, shareable
from agents.learned.looks import is_agent, note_look
from agents.policy import BOUND, POLICIES, ForecastPolicy, KernelPolicy, Policy, load
from agents.rates import by_rate
from agents.runs import RequestsWriter, RunFolder, plan_hash, sampled, write_requests
from agents.statistics import aggregate, compare
from tyche_env import extensions
from tyche_env.metrics import METRIC_KEYS, Metrics, summarize
from tyche_env.scenario import Mode, PrewarmName, Scenario, SplitName
from tyche_env.world import Kernel, World

if TYPE_CHECKING:
    from tyche_env.simulate import Result

Record = Literal["all", "sample", "none"]
Engine = Literal["compiled", "reference"]
Decision = Literal["event"] | float

Progress = Callable[[int, int], None]

STREAM_ABOVE = 1 << 20
"""Requests above which a run's log is written while it goes on; percentiles are then within 1 %."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a policy on a window."""

    number: int
    source: str
    prewarm: PrewarmName
    mode: Mode
    window: int
    seed: int
    group: str

    @property
    def policy(self) -> str:
        """The policy's name."""
        return _policy_name(self.source)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What identifies its row."""
        return (self.policy, self.prewarm, self.mode, self.window, self.seed)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an evaluation runs: policies x pre-warming x modes x windows x seeds.

    Attributes:
        scenario: the scenario; its pre-warming policy and mode are the defaults.
        policies: names, or paths of Python files (``agents.policy.load``); ``bound`` for the lower bound.
        prewarm: pre-warming policies; empty: the scenario's.
        modes: modes; empty: the scenario's.
        windows: number of windows, the first ones of the split.
        split: which split.
        seeds: number of seeds, 0, 1, ...
        decision: ``event``, or seconds between decisions.  Policies that can only predict follow the scenario's
            interval in event mode.
        record: which requests are kept.
        engine: which engine runs.
        backend: where it runs; on any but ``simulated``, one run after the other and in real time.
    """

    scenario: Scenario
    policies: tuple[str, ...]
    prewarm: tuple[PrewarmName, ...] = ()
    modes: tuple[Mode, ...] = ()
    windows: int | None = None
    split: SplitName = "test"
    seeds: int = 1
    decision: Decision = "event"
    record: Record = "sample"
    engine: Engine = "compiled"
    backend: str = "simulated"

    def validated(self) -> Plan:
        """The plan with its defaults filled in.

        Raises:
            EvaluationError: an option is out of range.
            PolicyError: a policy cannot be loaded.
            BackendError: there is no such backend, or the scenario needs what it cannot do.
        """
        names = [_policy_name(source) for source in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise EvaluationError(f"--policy: {name} is given twice")
        loaded = [load(source) for source in self.policies if source != BOUND]
        if self.backend != "simulated" and BOUND in names:
            raise EvaluationError(f"--policy: {BOUND} is computed, not run; leave it out with --backend {self.backend}")
        if not self.policies:
            raise EvaluationError("--policy: needs at least one policy")
        available = len(self.scenario.windows(self.split))
        usual = 12 if self.backend == "simulated" else 1
        windows = min(usual, available) if self.windows is None else self.windows
        if not 1 <= windows <= available:
            raise EvaluationError(
                f"--windows: scenario {self.scenario.name} has {available} {self.split} windows, asked for {windows}"
            )
        if self.seeds < 1:
            raise EvaluationError(f"--seeds: needs at least 1, got {self.seeds}")
        for prewarm in self.prewarm:
            self.scenario.with_(**{"prewarm.policy": prewarm})
        if self.decision != "event" and not self.decision > 0:
            raise EvaluationError(f"--decision: needs 'event' or seconds above 0, got {self.decision}")
        plan = replace(
            self,
            windows=windows,
            prewarm=self.prewarm or (self.scenario.prewarm.policy,),
            modes=self.modes or (self.scenario.mode,),
        )
        forecasters = [policy.name for policy in loaded if isinstance(policy, ForecastPolicy)]
        if forecasters and "icebreaker" in plan.prewarm:
            raise EvaluationError(
                f"--prewarm: icebreaker reads the table of forecasts that policy {forecasters[0]} fills; use another"
            )
        if plan.backend != "simulated":
            plan._require_backend(names)
        return plan

    def _require_backend(self, names: list[str]) -> None:
        """Ask the backend before anything is written; making one starts nothing."""
        from tyche_env.backend import make_backend

        backend = make_backend(self.backend)
        try:
            other = next((name for name in names if name != "none"), None)
            if other is not None and not backend.capabilities.preloads:
                raise EvaluationError(
                    f"--policy: backend {self.backend} holds nothing ahead of requests, so only none works there, "
                    f"got {other}"
                )
            for prewarm in self.prewarm:
                backend.capabilities.require(self.scenario.world(self.split, prewarm=prewarm))
        finally:
            backend.close()

    def cells(self) -> Iterator[Cell]:
        """All runs; those that are compared with each other come together."""
        axes = product(range(self.seeds), range(self.windows or 0), self.modes, self.prewarm, self.policies)
        planned = self.scenario.windows(self.split)
        for number, (seed, window, mode, prewarm, policy) in enumerate(axes):
            yield Cell(number, policy, prewarm, mode, window, seed, planned[window].group)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the results, as JSON: the hash of the scenario, of policy files, and the options."""
        return {
            "scenario": self.scenario.name,
            "scenario_hash": self.scenario.hash(),
            "policies": {_policy_name(source): _policy_hash(source) for source in self.policies},
            "prewarm": list(self.prewarm),
            "modes": list(self.modes),
            "windows": self.windows,
            "split": self.split,
            "seeds": self.seeds,
            "decision": self.decision,
            "record": self.record,
            "engine": self.engine,
            **({} if self.backend == "simulated" else {"backend": self.backend}),
        }


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


def evaluate(
    plan: Plan,
    out: Path,
    *,
    jobs: int | None = None,
    fan_out: FanOut = "processes",
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run a plan, or what is left of it, and write its run folder (all but the report).

    Args:
        plan: what to run.
        out: the run folder.
        jobs: processes; None: as many as there are cores, at most one a cell.
        fan_out: over processes of this machine, or over a Ray cluster, which decides itself how many run at once.
        command: the command line, for the manifest.
        progress: called with (finished, all) at the start and after each run.

    Raises:
        EvaluationError: the plan or ``jobs`` is wrong, a process died, or there is no Ray.
        RunError: the folder belongs to another plan.
        KeyboardInterrupt: after the folder has been left consistent.
    """
    plan = plan.validated()
    if fan_out == "ray" and plan.backend != "simulated":
        raise EvaluationError(f"--engine ray: backend {plan.backend} runs on one machine; leave it out")
    spread = Spread(jobs, fan_out)
    if plan.split == "test" and not (out / "manifest.json").exists():
        for source in plan.policies:
            if is_agent(source):
                note_look(Path(source), plan.scenario.name)
    folder = RunFolder.open(out, plan.identity(), plan.scenario.to_yaml(), command)
    before = folder.manifest
    cells = list(plan.cells())
    done = {_key(row) for row in folder.rows()}
    left = [cell for cell in cells if cell.key not in done]
    started = time.perf_counter()
    status = "interrupted"
    try:
        if progress:
            progress(len(cells) - len(left), len(cells))
        for count, row in enumerate(_run(plan, folder, left, _processes(plan, spread), fan_out), start=1):
            folder.append(row)
            if progress:
                progress(len(cells) - len(left) + count, len(cells))
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


def _processes(plan: Plan, spread: Spread) -> int:
    """Real containers are one machine's: two runs at a time would disturb each other."""
    return 1 if plan.backend != "simulated" else spread.processes


def run_cell(plan: Plan, cell: Cell, part: Path, world: World | None = None) -> dict[str, Any]:
    """Run one cell and return its row.

    Args:
        plan: what the cell belongs to.
        cell: what to run.
        part: file for its requests, if they are recorded.
        world: of the cell's window and seed under any policy; None: read the trace.
    """
    group = cell.group
    labels = {
        "policy": cell.policy,
        "prewarm": cell.prewarm,
        "mode": cell.mode,
        "window": cell.window,
        "seed": cell.seed,
    }
    met: dict[str, Any] | None = None
    if cell.policy == BOUND:
        decision, privileged, metrics, cpu_s = None, True, *_bound_metrics(plan, cell, world)
        rates = []
    else:
        policy = load(cell.source)
        decision, privileged = _decision(plan, policy), policy.privileged
        result, decision_us_mean, met = _run_policy(plan, cell, policy, world, part, labels | {"group": group})
        cpu_s = result.cpu_s
        rates = by_rate(result.world, result.totals)
        if plan.record != "none" and result.log is not None:
            log = result.log if plan.record == "all" else sampled(result.log)
            write_requests(part, log, result.world.names, labels | {"group": group})
        metrics = summarize(
            result.totals,
            result.end_to_end_percentiles_us,
            result.counters,
            result.integrals_mb_us,
            prices=plan.scenario.prices,
            invocations=len(result.world.arrival_us),
            cpu_s=cpu_s,
            decision_us_mean=decision_us_mean,
        )
    return {
        "scenario": plan.scenario.name,
        "policy": cell.policy,
        "prewarm": cell.prewarm,
        "mode": cell.mode,
        "backend": plan.backend,
        "decision": decision,
        "window": cell.window,
        "seed": cell.seed,
        **metrics,
        "group": group,
        "privileged": privileged,
        "bound": cell.policy == BOUND,
        "cpu_s": cpu_s,
        "by_rate": rates,
        **(met or {}),
    }


def _world(plan: Plan, cell: Cell, world: World | None) -> World:
    """The cell's world; its kernel is still to come."""
    event_mode = plan.decision == "event"
    if world is None:
        return plan.scenario.world(plan.split, cell.window, cell.seed, Kernel.NONE, event_mode, cell.prewarm, cell.mode)
    return plan.scenario.under(world, cell.seed, Kernel.NONE, event_mode, cell.prewarm, cell.mode)


def _bound_metrics(plan: Plan, cell: Cell, world: World | None) -> tuple[Metrics, float]:
    """The two means that the bound bounds and nothing else, and the CPU seconds it took."""
    started = time.process_time()
    world = _world(plan, cell, world)
    found = bound(world)
    metrics: Metrics = dict.fromkeys(METRIC_KEYS)
    metrics["requests"] = int((world.arrival_us >= world.score_from_us).sum())
    for key, value in (
        ("warming_loading_ms_mean", found.request_mean_us),
        ("warming_loading_ms_function_mean", found.function_mean_us),
    ):
        metrics[key] = None if value is None else value / 1e3
    return metrics, time.process_time() - started


def _decision(plan: Plan, policy: Policy) -> Decision:
    """``event`` or the seconds between decisions: what can only predict cannot be asked at events."""
    return plan.scenario.decision_interval_s if policy.kernel is None and plan.decision == "event" else plan.decision


def _run_policy(
    plan: Plan, cell: Cell, policy: Policy, world: World | None, part: Path, labels: dict[str, Any]
) -> tuple[Result, float | None, dict[str, Any] | None]:
    """The result, the mean time of one answer in us where a policy in Python was asked, and what the backend met.

    The log of a run of more than :data:`STREAM_ABOVE` requests is not in the result: it goes to ``part`` meanwhile.
    """
    from agents.hindsight import run_policy
    from agents.playing import play_on

    if not isinstance(policy, KernelPolicy):
        return _ask_each_interval(plan, cell, policy)
    world = policy.equip(_world(plan, cell, world))
    if isinstance(policy, ForecastPolicy):
        from agents.predictors import histories_of

        window = plan.scenario.windows(plan.split)[cell.window]
        world = policy.foresee(world, histories_of(plan.scenario, window, cell.seed))
    if plan.backend != "simulated":
        world = world.validate()
        result, met = play_on(plan.backend, world, plan.decision)
        return result, None, met
    if (
        plan.record != "none"
        and plan.engine == "compiled"
        and not policy.hindsight
        and len(world.arrival_us) > STREAM_ABOVE
    ):
        with RequestsWriter(part, world.names, labels) as writer:

            def keep(log: NDArray[Any]) -> None:
                writer.write(log if plan.record == "all" else sampled(log))

            return run_policy(world, policy, decision=plan.decision, record=keep), None, None
    record: Literal["all", "none"] = "none" if plan.record == "none" else "all"
    return run_policy(world, policy, decision=plan.decision, record=record, engine=plan.engine), None, None


def _ask_each_interval(plan: Plan, cell: Cell, policy: Policy) -> tuple[Result, float, dict[str, Any] | None]:
    """Ask a policy once an interval through the environment."""
    import gymnasium as gym

    from agents.playing import health_of

    decision_s = _decision(plan, policy)
    env = gym.make(
        "tyche_env:tyche/Preload-v0",
        disable_env_checker=True,
        scenario=plan.scenario,
        backend=plan.backend,
        split=plan.split,
        prewarm=cell.prewarm,
        mode=cell.mode,
        decision_interval_s=decision_s,
    )
    try:
        observation, _ = env.reset(seed=cell.seed, options={"window": cell.window})
        state: Any = None
        first, over, asked, spent_s = True, False, 0, 0.0
        while not over:
            started = time.perf_counter()
            action, state = policy.predict(observation, state, first, True)
            spent_s += time.perf_counter() - started
            asked += 1
            observation, _, terminated, truncated, _ = env.step(action)
            first, over = False, terminated or truncated
        played = cast(Any, env.unwrapped)
        return played.result(), 1e6 * spent_s / asked, health_of(played.backend)
    finally:
        env.close()


def _run(plan: Plan, folder: RunFolder, cells: list[Cell], jobs: int, fan_out: FanOut) -> Iterator[dict[str, Any]]:
    """The rows of the cells as they finish."""
    if fan_out == "ray" and cells:
        yield from _run_on_ray(plan, folder, cells)
        return
    jobs = min(jobs, len(cells))
    if jobs <= 1:
        for cell in cells:
            yield run_cell(plan, cell, folder.part(cell.number))
        return
    tasks = [Task((plan, cell, folder.part(cell.number)), (cell.window, cell.seed)) for cell in cells]
    with crew(Spread(jobs), folder.parts) as processes:
        for _, row in processes.do(run_cell, tasks, partial(shared_world, plan)):
            yield row


def _run_on_ray(plan: Plan, folder: RunFolder, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """The rows of the cells as they finish; their recorded requests are in ``folder`` by then."""
    tasks = [Task((plan, cell), (cell.window, cell.seed)) for cell in cells]
    with crew(Spread(engine="ray")) as cluster:
        for place, (row, requests) in cluster.do(_run_apart, tasks, partial(shared_world, plan)):
            if requests is not None:
                part = folder.part(cells[place].number)
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(requests)
            yield row


def _run_apart(plan: Plan, cell: Cell, world: World) -> tuple[dict[str, Any], bytes | None]:
    """The row of a cell and the file of its recorded requests, if there is one."""
    with tempfile.TemporaryDirectory() as name:
        part = Path(name) / "part.parquet"
        row = run_cell(plan, cell, part, world)
        return row, part.read_bytes() if part.exists() else None


def shared_world(plan: Plan, key: tuple[int, int]) -> World:
    """The world that all cells of a window and seed can be given; it can be written and sent anywhere."""
    window, seed = key
    return shareable(plan.scenario.world(plan.split, window, seed))


def _conclude(plan: Plan, folder: RunFolder, cells: list[Cell]) -> Outcome:
    order = {cell.key: cell.number for cell in cells}
    rows = sorted(folder.rows(), key=lambda row: order[_key(row)])
    first = _policy_name(plan.policies[0])
    outcome = Outcome(folder, rows, aggregate(rows), compare(rows, first))
    folder.write_json(
        "summary.json",
        {
            "plan_hash": plan_hash(plan.identity()),
            "first": first,
            "rows": outcome.rows,
            "aggregates": outcome.aggregates,
            "comparisons": outcome.comparisons,
            "oracle_comparisons": compare(rows, "oracle", oracle=None),
        },
    )
    return outcome


def _key(row: dict[str, Any]) -> tuple[str, str, str, int, int]:
    return (row["policy"], row["prewarm"], row["mode"], row["window"], row["seed"])


def _policy_name(source: str) -> str:
    return Path(source).stem if source.endswith(".py") else source


def _policy_hash(source: str) -> str:
    """A built-in policy is its name; a file is its content, a package its version, a trained agent its weights."""
    if source == BOUND or source in POLICIES:
        return "built-in"
    for kind in ("policy", "predictor"):
        found = extensions.digest(kind, source)
        if found is not None:
            return found
    return getattr(load(source), "digest", "built-in")
