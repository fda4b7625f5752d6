"""Write the measured tables of README.md and of pages in docs anew from ``benchmarks/results``.

``make results`` measures everything and runs this; ``python benchmarks/pages.py`` by itself only writes.  A table is
between ``<!-- NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_MEASURED = ("performance", "carries", "bring-your-own")
PAGES = tuple(ROOT / name for name in ("README.md", *(f"docs/{page}.md" for page in _MEASURED)))
PLAN_FUNCTIONS, PLAN_INVOCATIONS, PLAN_SHARDS = 1_000_000, 10_000_000_000, 10


HEADLINE = {
    "fixed_keep_alive_invocations_per_cpu_s": "fixed keep-alive, no pre-loading, 200 functions on 16 nodes",
    "full_model_invocations_per_cpu_s": "Tyche in event mode, Histogram pre-warming, GPUs, log; 64 nodes",
    "full_model_starved_invocations_per_cpu_s": "the same with 16 nodes: memory is starved",
    "full_model_5000_busy_functions_invocations_per_cpu_s": "the same with 5,000 functions on 200 nodes",
    "full_model_5000_functions_invocations_per_cpu_s": "the same, functions that are requested every seven minutes",
    "contention_invocations_per_cpu_s": "fixed keep-alive under contention, four cores a node",
    "env_step_per_s": "`env.step` at 10 s, 200 functions, 16 nodes, random actions",
    "vector_env_steps_per_core_s": "`PreloadVectorEnv`, 64 clusters of 25 functions",
    "memory_10_million_invocations_mb": "most memory above the imports, 10^7 invocations, log streamed to Parquet",
}
"""Figures of ``tyche bench`` that the README shows, and what they are of."""


def main() -> None:
    """Write."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), results()), encoding="utf-8")


def results() -> dict[str, Any]:
    """What was measured, by file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def filled(text: str, found: Mapping[str, Any]) -> str:
    """A page with all its tables as the results have them."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        # another command writes the other tables
        return f"<!-- {name} -->\n{TABLES[name](found)}\n<!-- end -->" if name in TABLES else match[0]

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def headline(found: Mapping[str, Any]) -> str:
    """The figures that the README shows."""
    rows = ["| what | figure |", "|---|---|"]
    by_name = {row["name"]: row for row in found["speed"]["results"]}
    for name, label in HEADLINE.items():
        rows.append(f"| {label} | {number(by_name[name]['value'])} {by_name[name]['unit']} |")
    return "\n".join([*rows, "", measured(found["speed"])])


def speed(found: Mapping[str, Any]) -> str:
    """Every figure of ``tyche bench``."""
    rows = ["| figure | value | promise | beside it | of what |", "|---|---|---|---|---|"]
    for row in found["speed"]["results"]:
        limit = "-" if row["goal"] is None else f"{'<=' if row['at_most'] else '>='} {number(row['goal'])}"
        missed = "" if row["met"] else " **missed**"
        rows.append(
            f"| `{row['name']}` | {number(row['value'])} {row['unit']} | {limit}{missed} "
            f"| {number(row['ratio'])} x {row['reference']} | {row['note']} |"
        )
    return "\n".join([*rows, "", measured(found["speed"])])


def profile(found: Mapping[str, Any]) -> str:
    """Where the time goes, by rule."""
    shares = found["profile"]["shares"]
    rules = {rule for case in shares.values() for rule in case}
    rows = [f"| | {' | '.join(shares)} |", "|---" * (1 + len(shares)) + "|"]
    for rule in sorted(rules, key=lambda rule: -sum(case.get(rule, 0.0) for case in shares.values())):
        cells = (f"{100 * case[rule]:.0f} %" if case.get(rule, 0.0) > 0.005 else "-" for case in shares.values())
        rows.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", measured(found["profile"])])


def limits(found: Mapping[str, Any]) -> str:
    """What single steps cost."""
    rows = ["| step | ns |", "|---|---|"]
    rows += [f"| {row['step']} | {row['ns']:.0f} |" for row in found["limits"]["steps"]]
    return "\n".join([*rows, "", measured(found["limits"])])


def peers(found: Mapping[str, Any]) -> str:
    """Other simulators under the same rule."""
    rows = ["| simulator | requests | requests a CPU-second | the engine | ratio | cold starts, theirs and ours |"]
    rows.append("|---|---|---|---|---|---|")
    for row in found["peers"]["results"]:
        rows.append(
            f"| {row['name']} | {number(row['requests'])} | {number(row['requests_per_cpu_s'])} "
            f"| {number(row['engine_requests_per_cpu_s'])} | {number(row['ratio'])} x "
            f"| {number(row['cold_starts'])}, {number(row['engine_cold_starts'])} |"
        )
    return "\n".join([*rows, "", measured(found["peers"])])


def growth(found: Mapping[str, Any]) -> str:
    """Fitted exponents."""
    rows = ["| grows | policy | cost of an invocation | cost of an event | memory |", "|---|---|---|---|---|"]
    for row in found["growth"]["exponents"]:
        costs = " | ".join(f"n^{row[column]:.2f}" for column in ("ns_an_invocation", "ns_an_event", "state_mb"))
        rows.append(f"| {row['axis']} | {row['policy']} | {costs} |")
    return "\n".join([*rows, "", measured(found["growth"])])


def day(found: Mapping[str, Any]) -> str:
    """The large day."""
    rows = ["| policy | requests | the day, CPU s | a second | before it, CPU s | tables | peak |"]
    rows.append("|---|---|---|---|---|---|---|")
    for row in found["day"]["days"]:
        before = sum(value for name, value in row["cpu_s"].items() if name != "the day")
        rows.append(
            f"| {row['policy']} | {number(row['invocations'])} | {row['cpu_s']['the day']:.0f} "
            f"| {number(row['invocations_per_cpu_s'])} | {before:.0f} | {row['state_mb']:.0f} MB "
            f"| {row['peak_mb'] / 1000:.1f} GB |"
        )
    return "\n".join([*rows, "", measured(found["day"])])


def plan(found: Mapping[str, Any]) -> str:
    """What a million functions and 10^10 invocations would take, from the large day."""
    rows = ["| policy | CPU hours in all | hours on ten cores | tables of a shard | arrivals of a shard, on disk |"]
    rows.append("|---|---|---|---|---|")
    for row in found["day"]["days"]:
        hours = PLAN_INVOCATIONS / row["invocations_per_cpu_s"] / 3600
        shard = row["state_mb"] * PLAN_FUNCTIONS / PLAN_SHARDS / row["functions"]
        rows.append(
            f"| {row['policy']} | {hours:.1f} | {hours / PLAN_SHARDS:.1f} | {shard:.0f} MB "
            f"| {PLAN_INVOCATIONS / PLAN_SHARDS * 12 / 1e9:.0f} GB |"
        )
    return "\n".join(rows)


def sharding(found: Mapping[str, Any]) -> str:
    """What cutting changes."""
    rows = [
        "| policy | cut by | shards | ms a request | ms a function | cold starts | loads | CPU s, sum | the longest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["sharding"]["rows"]:
        rows.append(
            f"| {row['policy']} | {row['by']} | {row['shards']} | {number(row['warming_loading_ms_mean'])} "
            f"| {number(row['warming_loading_ms_function_mean'])} | {100 * row['cold_rate']:.2f} % "
            f"| {number(row['loads'])} | {row['cpu_s']:.2f} | {row['longest_cpu_s']:.2f} |"
        )
    return "\n".join([*rows, "", measured(found["sharding"])])


def reading(found: Mapping[str, Any]) -> str:
    """Large trace files."""
    rows = ["| file | requests | CPU time | most memory of the process |", "|---|---|---|---|"]
    for row in found["reading"]["files"]:
        rows.append(
            f"| {row['form']}, {row['file_mb'] / 1000:.2f} GB | {row['requests'] / 1e6:.1f} million "
            f"| {row['cpu_s']:.0f} s | {row['peak_mb'] / 1000:.2f} GB |"
        )
    return "\n".join([*rows, "", measured(found["reading"])])


def measured(content: Mapping[str, Any]) -> str:
    """When and where."""
    about = content["machine"]
    load = about["load_average"][0]
    return (
        f"*Measured on {content['date']}: {about['processor']}, {about['cores']} cores, {about['memory_gib']:.0f} GiB, "
        f"Python {about['python']}, numba {about['numba']}; load average of the machine before the run {load:.1f}.*"
    )


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if abs(value) >= 999.5:
        digits = len(str(round(abs(value))))
        return f"{round(value, 3 - digits):,.0f}" if digits > 4 else f"{value:,.0f}"
    return f"{value:.3g}"


TABLES = {
    "headline": headline,
    "speed": speed,
    "limits": limits,
    "profile": profile,
    "peers": peers,
    "growth": growth,
    "day": day,
    "plan": plan,
    "sharding": sharding,
    "reading": reading,
}

if __name__ == "__main__":
    main()
