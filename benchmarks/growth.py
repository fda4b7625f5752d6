"""How cost and memory grow: CPU time an invocation and an event against functions, nodes, containers, rate and length.

``python benchmarks/growth.py`` varies one thing at a time and writes ``growth.csv``, ``growth.json`` (machine, date,
fitted exponents) and the figure of ``docs/carries.md``.  A cost that follows n ** e has exponent e; log n shows as a
small one.

``python benchmarks/growth.py --day`` runs one simulated day of 100,000 functions on 10,000 nodes instead and says how
long each part takes.

Worlds are made here, since no shipped scenario spans these sizes: requests are Poisson, rates log-uniform over a factor
of 100 around their mean, profiles those of the catalogue ``paper``; everything runs through ``tyche_env.simulate``.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.bench.memory import peak_mb
from tyche_env.bench.engine import events_of
from tyche_env.bench.measurement import machine, today
from tyche_env.profiles import load_catalogue
from tyche_env.simulate import simulate
from tyche_env.state import new_state
from tyche_env.world import AfterRun, FunctionTable, Kernel, Prewarm, Routing, Settings, World

RESULTS = Path(__file__).with_name("results")
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "growth.svg"
POLICIES: dict[str, dict[str, Any]] = {
    "fixed keep-alive": {"kernel": Kernel.NONE, "prewarm": Prewarm.KEEP_ALIVE},
    "tyche, histogram": {"kernel": Kernel.TYCHE, "prewarm": Prewarm.HISTOGRAM},
}
EVICTING: dict[str, dict[str, Any]] = {"faascache": {"kernel": Kernel.NONE, "prewarm": Prewarm.FAASCACHE}}
"""Keeps every container as long as there is memory, so that a new one costs a choice among all of a node."""
COLOURS = dict(zip((*POLICIES, *EVICTING), ("#1b6ca8", "#c8553d", "#5b8c5a"), strict=True))
ARRIVALS = {"arrival_us", "arrival_function", "arrival_duration_us", "own_arrival_us", "log"}
"""Tables that follow the requests, not what is alive."""
SPREAD = 100.0
NODE_MB = 6_144
"""Of each of up to 10,000 nodes: all that may live at once, containers and residents, has 17 bits in an event key."""
LONGEST_S = 40 * 86_400
"""Below the 50 days that an event key can name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a made-up world.

    Attributes:
        functions: how many.
        nodes: how many.
        node_mb: memory of each; a container takes 2048 MB.
        gap_s: mean over functions of the time between requests (harmonic: that of the mean rate).
        requests: in all.
    """

    functions: int = 1_000
    nodes: int = 100
    node_mb: int = 16_384
    gap_s: float = 600.0
    requests: int = 300_000


# one thing varies at a time; per node and per function everything stays as it is where the cluster grows
AXES: dict[str, list[tuple[int, Shape]]] = {
    "functions": [(n, Shape(functions=n, gap_s=0.6 * n)) for n in (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)],
    "nodes": [(n, Shape(10 * n, n, NODE_MB)) for n in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)],
    "containers": [(8 * n, Shape(nodes=10, node_mb=2_048 * 8 * n // 10)) for n in (10, 30, 100, 300, 1_000, 3_000)],
    "requests a minute": [(round(60_000 / gap), Shape(gap_s=gap)) for gap in (3_600, 1_200, 400, 120, 40, 20)],
    "requests": [(n, Shape(requests=n)) for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)],
    # two containers a node, and more requests than they can serve: nearly all wait
    "nodes, all full": [(n, Shape(10 * n, n, 4_096, 5.0)) for n in (10, 30, 100, 300, 1_000, 3_000, 10_000)],
    # five times as many functions as containers fit
    "containers to evict": [(8 * n, Shape(40 * n, 10, 2_048 * 8 * n // 10)) for n in (10, 30, 100, 300, 1_000, 3_000)],
}


def policies_of(axis: str) -> dict[str, dict[str, Any]]:
    """Settings of what is measured along an axis, by name."""
    return EVICTING if axis == "containers to evict" else POLICIES


def world_of(shape: Shape, seed: int = 0) -> World:
    """A world of that size under ring routing, no GPUs, no noise; everything is scored."""
    draw = np.random.default_rng(seed)
    rate = np.exp(draw.uniform(-np.log(SPREAD) / 2, np.log(SPREAD) / 2, shape.functions))
    rate /= rate.mean() * shape.gap_s
    end_us = round(min(shape.requests / rate.sum(), LONGEST_S) * 1e6)
    arrival_us = np.sort(draw.integers(0, end_us, min(shape.requests, round(rate.sum() * LONGEST_S))))
    arrival_function = draw.choice(shape.functions, len(arrival_us), p=rate / rate.sum()).astype(np.int32)
    profiles = load_catalogue("paper")
    rows = [
        {
            "tenant": 0,
            "container_mb": profile.container_mb,
            "hold_mb": profile.hold_mb,
            "peak_mb": profile.peak_mb,
            "gpu_mb": 0,
            "init_us": round(profile.container_init_ms * 1000),
            "library_us": round(profile.library_ms * 1000),
            "model_us": round(profile.model_ms * 1000),
            "transfer_us": 0,
            "inference_us": round(profile.inference_ms * 1000),
            "gpu_inference_us": round(profile.inference_ms * 1000),
            "sigma_ppm": 0,
        }
        for profile in (profiles[function % len(profiles)] for function in range(shape.functions))
    ]
    return World(
        functions=FunctionTable.from_rows(rows),
        node_memory_mb=np.full(shape.nodes, shape.node_mb),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=arrival_us,
        arrival_function=arrival_function,
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=end_us,
        settings=Settings(
            routing=Routing.RING, after_run_platform=AfterRun.KEEP, busy_counts=True, displace_percent=10
        ),
    ).validate()


def measure(axis: str, value: int, shape: Shape, repeats: int) -> list[dict[str, Any]]:
    """One row a policy."""
    rows = []
    base = world_of(shape)
    for policy, settings in policies_of(axis).items():
        world = base.with_settings(**settings)
        events = events_of(world)
        results = [simulate(world, record="none") for _ in range(repeats)]
        cpu_s = statistics.median(result.cpu_s for result in results)
        tables = new_state(world, record=False)._asdict()
        state_bytes = sum(table.nbytes for name, table in tables.items() if name not in ARRIVALS)
        count = len(world.arrival_us)
        rows.append(
            {
                "axis": axis,
                "value": value,
                "policy": policy,
                **asdict(shape),
                "invocations": count,
                "events_each": events / count,
                "loads_each": results[0].counters["loads"] / count,
                "cold_each": float(results[0].totals["cold"].sum()) / count,
                "ns_an_invocation": 1e9 * cpu_s / count,
                "ns_an_event": 1e9 * cpu_s / events,
                "pool_slots": len(tables["containers"]) + len(tables["residents"]),
                "state_mb": state_bytes / 1e6,
                "state_bytes_an_object": state_bytes
                / (len(tables["containers"]) + len(tables["residents"]) + shape.functions + shape.nodes),
            }
        )
    return rows


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The slope of log cost over log size, of each axis and policy."""
    found = []
    for axis in AXES:
        for policy in policies_of(axis):
            chosen = [row for row in rows if (row["axis"], row["policy"]) == (axis, policy)]
            if len(chosen) < 2:
                continue
            size = np.log([row["value"] for row in chosen])
            slopes = {
                column: float(np.polyfit(size, np.log([row[column] for row in chosen]), 1)[0])
                for column in ("ns_an_invocation", "ns_an_event", "state_mb")
            }
            found.append({"axis": axis, "policy": policy, **slopes})
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel an axis: ns an event, and thin, ns an invocation."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "growth"
    rows_of_panels = 2
    columns = -(-len(AXES) // rows_of_panels)
    figure, panels = pyplot.subplots(
        rows_of_panels, columns, figsize=(3.0 * columns, 5.6), sharey=True, layout="constrained", squeeze=False
    )
    legend = {}
    for panel in panels.flat[len(AXES) :]:
        panel.set_axis_off()
    for panel, axis in zip(panels.flat, AXES, strict=False):
        for policy in policies_of(axis):
            chosen = [row for row in rows if (row["axis"], row["policy"]) == (axis, policy)]
            values = [row["value"] for row in chosen]
            for column, style in (("ns_an_event", "o-"), ("ns_an_invocation", ":")):
                label = f"{policy}, {column.replace('_', ' ')}"
                costs = [row[column] for row in chosen]
                (legend[label],) = panel.loglog(values, costs, style, color=COLOURS[policy], label=label, markersize=3)
        panel.set_xlabel(axis)
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("CPU ns")
    figure.legend(handles=list(legend.values()), loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def run_day(nodes: int, functions: int, gap_s: float, policy: str) -> dict[str, Any]:
    """A day of a large cluster: seconds and peak memory of each part."""
    parts = {}

    def timed(name: str, since: float) -> float:
        now = time.process_time()
        parts[name] = now - since
        return now

    at = time.process_time()
    shape = Shape(functions, nodes, NODE_MB, gap_s, round(86_400 * functions / gap_s))
    base = world_of(shape)
    at = timed("make and check the world", at)
    world = base.with_settings(**POLICIES[policy])
    state = new_state(world, record=False)
    at = timed("tables and walks of all functions", at)
    state_mb = sum(table.nbytes for name, table in state._asdict().items() if name not in ARRIVALS) / 1e6
    del state
    result = simulate(world, record="none")
    count = len(world.arrival_us)
    return {
        "policy": policy,
        "functions": functions,
        "nodes": nodes,
        "invocations": count,
        "simulated_h": world.end_us / 3.6e9,
        "cpu_s": {**parts, "the day": result.cpu_s},
        "wall_s_of_the_day": result.wall_s,
        "invocations_per_cpu_s": count / result.cpu_s,
        "loads_each": result.counters["loads"] / count,
        "cold_each": float(result.totals["cold"].sum()) / count,
        "state_mb": state_mb,
        "peak_mb": peak_mb(),
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", action="append", choices=list(AXES), help="may be repeated; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--day", action="store_true", help="the large day instead")
    parser.add_argument("--nodes", type=int, default=10_000, help="of the day")
    parser.add_argument("--functions", type=int, default=100_000, help="of the day")
    parser.add_argument(
        "--gap-s", type=float, default=600.0, help="mean time between a function's requests, of the day"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"date": today(), "machine": machine()}
    if options.day:
        days = [run_day(options.nodes, options.functions, options.gap_s, policy) for policy in POLICIES]
        text = json.dumps(about | {"days": days}, indent=1)
        (options.out / "day.json").write_text(text + "\n", encoding="utf-8")
        print(text)
        return
    rows = []
    for axis in options.axis or AXES:
        for value, shape in AXES[axis]:
            rows += measure(axis, value, shape, options.repeats)
            for row in rows[-len(policies_of(axis)) :]:
                print(
                    f"{axis:19s} {value:9d} {row['policy']:17s} {row['ns_an_invocation']:7.0f} ns an invocation, "
                    f"{row['ns_an_event']:5.0f} an event, {row['events_each']:5.2f} events, {row['state_mb']:7.1f} MB",
                    flush=True,
                )
    with (options.out / "growth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    fitted = exponents(rows)
    (options.out / "growth.json").write_text(
        json.dumps(about | {"exponents": fitted}, indent=1) + "\n", encoding="utf-8"
    )
    for row in fitted:
        print(
            f"{row['axis']:19s} {row['policy']:17s} exponents: {row['ns_an_invocation']:+.2f} an invocation, "
            f"{row['ns_an_event']:+.2f} an event, {row['state_mb']:+.2f} memory"
        )
    if not options.axis:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
