"""The observation: named columns with units and bounds, and the spaces they make.

An observation is a dictionary of float32 arrays in physical units.  Its tables are ``functions`` (F rows), ``nodes``
(N), ``gpus`` (G) and ``cluster`` (one row), each flattened row by row into one dimension, since stable-baselines3
takes anything else for an image; :func:`table` gives the rows back.  One mask a table has 1 where a row is real and 0
where it is padding.  The columns below are the one list of names: the compiled writer (``observe``), the reference
pages of the docs and the policies read them.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from traces.errors import did_you_mean

Observation = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an observation table.

    Attributes:
        name: of the column, with its unit as suffix where it has one.
        unit: "s", "1/s", "MB", "count", "probability", "s/MB", "code" or "ratio".
        high: upper bound; values are clipped to [0, high].
        meaning: one line.
    """

    name: str
    unit: str
    high: float
    meaning: str


_DAY_S = 86_400.0
_LONG_S = 50 * _DAY_S
_MB = 1e9
_COUNT = 1e6
_RATE = 1e6

FUNCTION_COLUMNS: tuple[Column, ...] = (
    Column("arrivals_count", "count", 1e9, "requests since the start of the warm-up"),
    Column("window_count", "count", 64, "requests in the sliding window, at most W"),
    Column("age_s", "s", _LONG_S, "time since the last request; the bound if there was none"),
    Column("window_age_s", "s", _LONG_S, "time since the first request of the window; the bound if there was none"),
    Column("mean_gap_s", "s", _LONG_S, "mean gap of the window, T_w / n (the prior after a single request)"),
    Column("window_rate_per_s", "1/s", _RATE, "lambda_W = n / T_w"),
    Column("censored_rate_per_s", "1/s", _RATE, "n / (now - first request of the window): falls in silence"),
    Column("rate_1min_per_s", "1/s", _RATE, "exponentially weighted rate, time constant 1 min"),
    Column("rate_10min_per_s", "1/s", _RATE, "exponentially weighted rate, time constant 10 min"),
    Column("rate_60min_per_s", "1/s", _RATE, "exponentially weighted rate, time constant 60 min"),
    Column("last_gap_s", "s", _LONG_S, "gap between the last two requests; 0 before the second"),
    Column("mean_gap_3_s", "s", _LONG_S, "mean of the last three gaps"),
    Column("gap_cov", "ratio", 100, "coefficient of variation of the last gaps, at most 32"),
    Column("hazard_10s", "probability", 1, "share of own gaps that end within 10 s, of those as long as the age"),
    Column("hazard_60s", "probability", 1, "the same within 60 s"),
    Column("survival", "probability", 1, "share of own gaps that lasted longer than the present age"),
    Column("poisson_60s", "probability", 1, "P(request within 60 s) of the Poisson window"),
    Column("censored_60s", "probability", 1, "P(request within 60 s) at the censored rate"),
    Column("histogram_60s", "probability", 1, "P(request within 1-2 min) from one-minute bins of own gaps"),
    Column("in_flight_count", "count", _COUNT, "requests arrived and not finished"),
    Column("queued_count", "count", _COUNT, "requests waiting for a node"),
    Column("running_count", "count", _COUNT, "containers that run it"),
    Column("owned_idle_count", "count", _COUNT, "idle containers that served it last"),
    Column("loading_count", "count", _COUNT, "copies that load now"),
    Column("held_count", "count", _COUNT, "copies held in container memory, not on a GPU"),
    Column("gpu_count", "count", _COUNT, "copies held on a GPU"),
    Column("decision", "code", 2, "decision in force: 0 leave, 1 hold, 2 off-load"),
    Column("priority", "probability", 1, "priority in force for container memory"),
    Column("hold_mb", "MB", _MB, "memory that one copy holds"),
    Column("peak_mb", "MB", _MB, "memory that one copy needs while it loads"),
    Column("gpu_mb", "MB", _MB, "GPU memory of one copy; 0: never on a GPU"),
    Column("saved_s", "s", _DAY_S, "latency that a held copy saves: library + model"),
    Column("transfer_s", "s", _DAY_S, "latency that a copy on a GPU saves on top"),
    Column("init_s", "s", _DAY_S, "container initialisation"),
    Column("inference_s", "s", _DAY_S, "one inference on the CPU"),
    Column("group_nodes", "count", _COUNT, "nodes in its routing group"),
)
NODE_COLUMNS: tuple[Column, ...] = (
    Column("memory_mb", "MB", _MB, "memory of the node"),
    Column("free_mb", "MB", _MB, "memory in no container"),
    Column("busy_mb", "MB", _MB, "memory of busy and starting containers"),
    Column("idle_mb", "MB", _MB, "memory of idle containers"),
    Column("preload_mb", "MB", _MB, "what functions reserve in idle containers"),
    Column("queue_count", "count", _COUNT, "requests waiting here"),
)
GPU_COLUMNS: tuple[Column, ...] = (
    Column("memory_mb", "MB", _MB, "memory of the GPU"),
    Column("free_mb", "MB", _MB, "memory not reserved"),
    Column("containers_count", "count", _COUNT, "containers bound to it"),
    Column("node", "code", _COUNT, "node it belongs to"),
)
CLUSTER_COLUMNS: tuple[Column, ...] = (
    Column("elapsed_s", "s", _LONG_S, "time since the start of the warm-up"),
    Column("time_of_day_s", "s", _DAY_S, "time of the trace's day (UTC; counted from its start where it has none)"),
    Column("memory_mb", "MB", _MB, "memory of all nodes"),
    Column("busy_mb", "MB", _MB, "memory of busy and starting containers"),
    Column("idle_mb", "MB", _MB, "memory of idle containers: what pre-loading can use"),
    Column("preload_mb", "MB", _MB, "what functions reserve in idle containers"),
    Column("demand_mb", "MB", _MB, "memory to hold every function once"),
    Column("pressure", "ratio", 1e6, "idle memory / memory to hold every function once; below 1 it is scarce"),
    Column("gpu_memory_mb", "MB", _MB, "memory of all GPUs"),
    Column("gpu_free_mb", "MB", _MB, "GPU memory not reserved"),
    Column("in_flight_count", "count", _COUNT, "requests arrived and not finished"),
    Column("queued_count", "count", _COUNT, "requests waiting for a node"),
    Column("loading_count", "count", _COUNT, "loads in progress"),
    Column("price_s_per_mb", "s/MB", 1e6, "greatest density that waits for memory: what the next MB is worth"),
)
TABLES: dict[str, tuple[Column, ...]] = {
    "functions": FUNCTION_COLUMNS,
    "nodes": NODE_COLUMNS,
    "gpus": GPU_COLUMNS,
    "cluster": CLUSTER_COLUMNS,
}


def column(table: str, name: str) -> int:
    """Index of a column by its name.

    Raises:
        KeyError: there is no such table or column; the message names the one that was meant, or all.
    """
    names = [c.name for c in TABLES[table]]
    if name not in names:
        raise KeyError(f"{table} has no column {name!r}; {did_you_mean(name, names)}")
    return names.index(name)


def positions(table: str) -> Any:
    """The index of every column of a table, as an attribute of its name: constants in compiled code."""
    names = [c.name for c in TABLES[table]]
    return namedtuple(f"{table.capitalize()}Positions", names)(*range(len(names)))


def highs(table: str) -> NDArray[np.float32]:
    """Upper bounds of a table's columns, float32."""
    return np.array([c.high for c in TABLES[table]], np.float32)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each table, and each mask, lies in one flat observation.

    Attributes:
        rows: rows of each table, padding included.
        parts: slice of each table.
        masks: slice of each table's mask.
        size: length of the whole.
        named: name in an observation, and slice, of each table and mask.
    """

    rows: dict[str, int]
    parts: dict[str, slice]
    masks: dict[str, slice]
    size: int
    named: tuple[tuple[str, slice], ...]

    @classmethod
    def of(cls, functions: int, nodes: int, gpus: int) -> Layout:
        """The layout for that many rows; the tables come in the order in which ``observe`` writes them."""
        rows = {"functions": functions, "nodes": nodes, "gpus": max(1, gpus), "cluster": 1}
        parts, masks, size = {}, {}, 0
        for name, count in rows.items():
            parts[name] = slice(size, size + count * len(TABLES[name]))
            size = parts[name].stop
        for name in ("functions", "nodes", "gpus"):
            masks[name] = slice(size, size + rows[name])
            size = masks[name].stop
        named = *parts.items(), *((f"{name}_mask", part) for name, part in masks.items())
        return cls(rows, parts, masks, size, tuple(named))

    def blank(self, functions: int, nodes: int, gpus: int) -> NDArray[np.float32]:
        """An observation with nothing in it but the masks of that many real rows, (size,) float32."""
        flat = np.zeros(self.size, np.float32)
        for name, count in (("functions", functions), ("nodes", nodes), ("gpus", gpus)):
            flat[self.masks[name].start : self.masks[name].start + count] = 1.0
        return flat

    def split(self, flat: NDArray[np.float32]) -> Observation:
        """Views of the tables and masks; dimensions before the last are kept."""
        if flat.ndim == 1:  # for the environment, whose steps take as long as twenty views of the other kind
            return {name: flat[part] for name, part in self.named}
        return {name: flat[..., part] for name, part in self.named}


def observation_space(functions: int, nodes: int, gpus: int) -> spaces.Dict:
    """The space of observations with that many rows; a table without a row gets one of padding."""
    boxes: dict[str, spaces.Space[NDArray[np.float32]]] = {}
    for name, rows in (("functions", functions), ("nodes", nodes), ("gpus", max(1, gpus)), ("cluster", 1)):
        high = np.tile(highs(name), rows)
        boxes[name] = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        if name != "cluster":
            boxes[f"{name}_mask"] = spaces.Box(0.0, 1.0, (rows,), np.float32)
    return spaces.Dict(boxes)


def table(observation: Observation, name: str) -> NDArray[np.float32]:
    """A table of an observation as rows and columns: a view of shape (rows, K), padding included."""
    return observation[name].reshape(-1, len(TABLES[name]))


def action_space(functions: int) -> spaces.Box:
    """For each function: container memory and GPU.  Negative: off-load; within the dead zone: leave; above: hold."""
    return spaces.Box(-1.0, 1.0, (functions, 2), np.float32)


def as_markdown(table: str) -> str:
    """A table's columns as a table in Markdown, for the reference page (``python -m tyche_env.spaces`` prints all)."""
    lines = ["| column | unit | highest | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.unit} | {c.high:.10g} | {c.meaning} |" for c in TABLES[table]]
    return "\n".join(lines)


if __name__ == "__main__":
    for _name in TABLES:
        print(f"### {_name}\n\n{as_markdown(_name)}\n")
