"""The paper's experiments: which cases each runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from agents.experiments import checks, overhead, packing
from agents.experiments.draws import CLASSES, PAPER_BAND, Band, Draw, draws, merged
from agents.experiments.runs import Axis, Case
from agents.policies.loading import BOUND
from agents.policies.predictors import TABLES
from tyche_env.scenario import PREWARM, Mode, PrewarmName, Scenario
from tyche_env.world import Settings

PREWARMS: tuple[PrewarmName, ...] = ("openwhisk", "histogram", "pagurus", "faascache")

Rows = list[dict[str, Any]]
Columns = tuple[tuple[str, str], ...]
"""(heading, key of the row, dotted for a part of it)."""

LOADING: Columns = (
    ("warming+loading ms", "warming_loading_ms_mean"),
    ("95 %", "ci95"),
    ("pre-loaded", "preload_rate"),
    ("against none, ms", "difference_ms"),
    ("95 %", "difference_ci95"),
)
STAGES: Columns = tuple(
    (stage, f"stages_ms.{stage}")
    for stage in ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
)
LATENCY: Columns = tuple((f"p{percent} ms", f"latency_ms.p{percent}") for percent in (5, 25, 50, 75, 90, 95, 99))
MEMORY: Columns = (
    ("containers GB s", "container_gb_s"),
    ("idle GB s", "idle_gb_s"),
    ("pre-loaded GB s", "preload_gb_s"),
    ("GPU GB s", "gpu_gb_s"),
    ("loads", "loads"),
    ("wasted", "wasted_loads"),
    ("USD", "cost_usd"),
)
PAPER: Columns = (("paper: ms", "paper_warming_loading_ms"), ("paper: pre-loaded", "paper_preload_rate"))


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment of the paper.

    Attributes:
        name: as ``--experiment`` takes it.
        title: what it answers.
        cases: number of draws -> what is simulated.
        columns: what its table shows of each row.
        checks: what its rows are held against.
    """

    name: str
    title: str
    cases: Callable[[int], list[Case]]
    columns: Columns = LOADING
    checks: Callable[[Sequence[Mapping[str, Any]]], Iterable[dict[str, Any]]] = checks.none


@dataclass(frozen=True, slots=True)
class Measurement:
    """An experiment that needs no replay.

    Attributes:
        name: as ``--experiment`` takes it.
        title: what it answers.
        axes: what its rows are filed under.
        measure: number of draws -> rows.
        columns: what its table shows of each row.
        checks: what its rows are held against.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    measure: Callable[[int], Rows]
    columns: Columns
    checks: Callable[[Sequence[Mapping[str, Any]]], Iterable[dict[str, Any]]]


def one_node(memory_gb: int) -> Scenario:
    """The single-node set-up with another pool memory."""
    return _paper("paper-single-node").with_(**{"cluster.nodes": [{"count": 1, "memory_mb": memory_gb * 1000}]})


def _paper(name: str) -> Scenario:
    return Scenario.load(name)


def _single_node(count: int) -> list[Case]:
    policies = ("none", "tyche", "oracle", BOUND)
    return list(_by_class(_paper("paper-single-node"), count, PREWARMS, policies))


def _multi_node(count: int) -> list[Case]:
    policies = ("none", "instainfer", "tyche", "oracle", BOUND)
    return list(_by_class(_paper("paper-multi-node"), count, PREWARMS, policies))


def _gpu_node(count: int) -> list[Case]:
    node = {"count": 1, "memory_mb": 196_000, "gpus": 4, "gpu_memory_mb": 24_000}
    scenario = _paper("paper-single-node").with_(**{"cluster.nodes": [node]})
    return list(_by_class(scenario, count, PREWARMS, ("none", "tyche", "oracle")))


def _nodes(count: int) -> list[Case]:
    """256 cores, 1024 GB and 16 GPUs, cut into 4, 8 or 16 nodes; InstaInfer comes with FaasCache, so all do."""
    cases: list[Case] = []
    for functions, nodes in product((8, 100, 400), (4, 8, 16)):
        group = {"count": nodes, "memory_mb": 1_024_000 // nodes, "gpus": 16 // nodes, "gpu_memory_mb": 24_000}
        scenario = _paper("paper-multi-node").with_(**{"cluster.nodes": [group]})
        drawn = draws(scenario.trace, "all", _fewer(count, functions), functions)
        policies = ("none", "instainfer", "instainfer-first", "tyche")
        cases += _crossed(scenario, drawn, "all", ("faascache",), policies, functions=functions, nodes=nodes)
    return cases


def _ablation(count: int) -> list[Case]:
    """From more memory than the functions need down to a third of it."""
    cases: list[Case] = []
    policies = ("none", "tyche", "tyche-np", "tyche-ns", "tyche-nps", "tyche-strict", "tyche-worst-fit", "oracle")
    for functions, memory_gb in ((40, 64), (40, 32), (40, 24), (40, 16), (200, 64)):
        scenario = one_node(memory_gb)
        drawn = draws(scenario.trace, "all", _fewer(count, functions), functions)
        cases += _crossed(
            scenario, drawn, "all", ("pagurus",), (*policies, BOUND), functions=functions, pool_gb=memory_gb
        )
    return cases


def _large_scale(count: int) -> list[Case]:
    """1000 functions: 50 frequent, 150 at about one request a minute, 800 rare, as many of each model."""
    scenario = _paper("paper-multi-node").with_(
        **{"cluster.nodes": [{"count": 16, "memory_mb": 64_000, "gpus": 1, "gpu_memory_mb": 24_000}]}
    )
    groups = ((50, Band(1 / 20, 1 / 5)), (150, Band(0.5, 2.0)), (800, Band(80.0, 240.0, 1)))
    parts = [draws(scenario.trace, "all", _fewer(count, 1000), size, band) for size, band in groups]
    drawn = [merged(each) for each in zip(*parts, strict=True)]
    return list(_crossed(scenario, drawn, "all", PREWARMS, ("none", "instainfer", "tyche")))


def _sensitivity(count: int) -> list[Case]:
    """One setting at a time, with ample memory (eight functions on 256 GB) and with little (40 on 16 GB)."""
    values: dict[str, tuple[float, ...]] = {
        "p_load": (0.02, 0.04, 0.06, 0.08, 0.10),
        "p_offload": (0.80, 0.90, 0.94, 0.96, 0.98),
        "window": (5, 10, 20, 30),
    }
    cases: list[Case] = []
    for functions, memory_gb in ((8, 256), (40, 16)):
        scenario = one_node(memory_gb)
        drawn = draws(scenario.trace, "all", count, functions)
        for name, settings in values.items():
            for value in settings:
                changed = _controller(scenario.with_(**{f"controller.{name}": value}), drawn[0])
                cases += _crossed(
                    scenario,
                    drawn,
                    "all",
                    ("pagurus",),
                    ("tyche",),
                    settings=changed,
                    functions=functions,
                    pool_gb=memory_gb,
                    setting=name,
                    value=value,
                )
    return cases


def _controller(scenario: Scenario, draw: Draw) -> dict[str, Any]:
    """The settings that a controller's parameters come to."""
    from agents.experiments.draws import world_of

    settings: Settings = world_of(scenario, draw).settings
    return {name: getattr(settings, name) for name in ("load_ppm", "offload_ppm", "window")}


def _systems(count: int) -> list[Case]:
    """Systems that the paper only cites, beside those of its tables: with ample memory and with little."""
    cases: list[Case] = []
    for functions, memory_gb in ((8, 256), (40, 32)):
        scenario = one_node(memory_gb)
        drawn = draws(scenario.trace, "all", count, functions)
        axes: dict[str, Any] = {"functions": functions, "pool_gb": memory_gb}
        cases += _crossed(scenario, drawn, "all", tuple(PREWARM), ("none", "tyche"), **axes)
        cases += _crossed(scenario, drawn, "all", ("openwhisk",), ("lru", "greedy-dual", "reap", "oracle"), **axes)
    return cases


def _load(count: int) -> list[Case]:
    """40 functions on 64 GB, with 10 to 180 requests a minute between them."""
    cases: list[Case] = []
    scenario = one_node(64)
    for per_min in (10, 30, 60, 120, 180):
        drawn = draws(scenario.trace, "all", count, 40, _around(40 / per_min))
        cases += _crossed(scenario, drawn, "all", ("pagurus",), ("none", "tyche", "oracle"), requests_per_min=per_min)
    return cases


def _functions(count: int) -> list[Case]:
    """10 to 1000 functions with 60 requests a minute between them on 64 GB."""
    cases: list[Case] = []
    scenario = one_node(64)
    for functions in (10, 30, 100, 300, 1000):
        drawn = draws(scenario.trace, "all", _fewer(count, functions), functions, _around(functions / 60))
        cases += _crossed(scenario, drawn, "all", ("pagurus",), ("none", "tyche"), functions=functions)
    return cases


def _around(gap_min: float) -> Band:
    """Functions whose mean gap is within a factor of two of this one."""
    return Band(gap_min / 2, gap_min * 2, 2)


def _pool(count: int) -> list[Case]:
    """200 functions on 300 down to 60 GB."""
    cases: list[Case] = []
    for memory_gb in (300, 240, 180, 120, 60):
        scenario = one_node(memory_gb)
        drawn = draws(scenario.trace, "all", _fewer(count, 200), 200)
        policies = ("none", "tyche")
        cases += _crossed(scenario, drawn, "all", ("openwhisk", "faascache"), policies, pool_gb=memory_gb)
    return cases


def _predictors(count: int) -> list[Case]:
    """40 functions on 24 GB, where what is kept decides; loads may displace, so that priorities matter."""
    scenario = one_node(24)
    predictors = ("tyche", "tyche-ewma", "tyche-histogram", "censored", "empirical", *TABLES)
    cases: list[Case] = []
    for name in CLASSES:
        drawn = draws(scenario.trace, name, count, 40)
        policies = ("none", *predictors, "minute-oracle", "oracle")
        cases += _crossed(scenario, drawn, name, ("pagurus",), policies, settings={"displace_percent": 10})
    return cases


def _fewer(count: int, functions: int) -> int:
    """Draws of many functions are alike, and each is a sample of nearly all that qualify: ten are enough."""
    return count if functions <= 100 else min(count, 10)


def _by_class(
    scenario: Scenario, count: int, prewarms: Sequence[PrewarmName], policies: Sequence[str]
) -> Iterator[Case]:
    for name in CLASSES:
        yield from _crossed(scenario, draws(scenario.trace, name, count, 8, PAPER_BAND), name, prewarms, policies)


def _crossed(
    scenario: Scenario,
    drawn: Sequence[Draw],
    cov_class: str,
    prewarms: Sequence[PrewarmName],
    policies: Sequence[str],
    mode: Mode = "paper",
    settings: Mapping[str, Any] | None = None,
    **axes: Axis,
) -> Iterator[Case]:
    """Every draw under every policy and pre-warming policy."""
    for draw, prewarm, policy in product(drawn, prewarms, policies):
        filed = {"class": cov_class, **axes, "prewarm": prewarm, "policy": policy}
        yield Case(filed, scenario, draw, policy, prewarm, mode, settings or {})


EXPERIMENTS: dict[str, Experiment | Measurement] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "single-node",
            "Warming and loading on one node of 256 GB, eight functions",
            _single_node,
            LOADING + PAPER,
            checks.tables,
        ),
        Experiment(
            "multi-node",
            "Warming and loading on four nodes of 128 GB, eight functions",
            _multi_node,
            LOADING + PAPER,
            checks.tables,
        ),
        Experiment("breakdown", "Stages of a request on one node with four GPUs, ms", _gpu_node, STAGES),
        Experiment("latency", "End-to-end latency on one node with four GPUs", _gpu_node, LATENCY),
        Experiment("memory", "Memory and money on one node with four GPUs, a window of 4 h", _gpu_node, MEMORY),
        Experiment("nodes", "4, 8 and 16 nodes with the same resources", _nodes, LOADING, checks.nodes),
        Experiment("ablation", "Without timers, without packing, without both", _ablation, LOADING, checks.ablation),
        Experiment(
            "large-scale", "1000 functions in three rate groups on 16 nodes", _large_scale, LOADING + STAGES[:1]
        ),
        Experiment(
            "sensitivity",
            "P_load, P_offload and W",
            _sensitivity,
            (*LOADING[:3], ("end to end ms", "end_to_end_ms_mean")),
            checks.sensitivity,
        ),
        Experiment("load", "10 to 180 requests a minute", _load),
        Experiment("functions", "10 to 1000 functions at one load and memory", _functions),
        Experiment("pool", "300 to 60 GB of pool memory for 200 functions", _pool),
        Experiment("predictors", "Predictors, 40 functions on 24 GB", _predictors),
        Experiment(
            "systems",
            "Systems that the paper cites, with ample memory and with little",
            _systems,
            (*LOADING, ("containers GB s", "container_gb_s"), ("USD", "cost_usd")),
        ),
        Measurement(
            "ilp",
            "Greedy packing against the optimum: 1000 functions, 100 containers",
            ("instance",),
            packing.measure,
            packing.COLUMNS,
            packing.checks,
        ),
        Measurement(
            "overhead",
            "What a decision costs",
            ("nodes", "policy"),
            overhead.measure,
            overhead.COLUMNS,
            checks.none,
        ),
    )
}
"""By name, in the order in which they are run."""
