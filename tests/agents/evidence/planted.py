"""Rows of runs with planted sums, and run folders of such rows, so that the right figures are known beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from agents.evidence import kept
from agents.evidence.run_folder import RunFolder
from agents.evidence.statistics import conclusions
from tyche_env.metrics import (
    FUNCTION_MEANS,
    METRIC_KEYS,
    RATIOS,
    TOTALS_DTYPE,
    function_mean,
    latency_bins,
    ratio_of,
    sums_of,
)

Functions = dict[int, tuple[int, float]]
"""Requests of a function, and the mean warming and loading of each in ms."""
Cell = list[tuple[str, str]]
"""Texts of a cell of a table, each with the class of the element that it stands in."""


class _Free:
    container_usd_per_gb_s, gpu_usd_per_gb_s, request_usd = 0.0, 0.0, 0.0


def a_row(
    policy: str, group: str, window: int, functions: Functions, seed: int = 0, /, **sums: float
) -> dict[str, Any]:
    """A row of one run, as ``kept_of`` and ``summarize`` would make it; end to end is 100 ms longer.

    Args:
        policy: its name.
        group: of functions.
        window: its number.
        functions: what they were asked and paid.
        seed: of the window.
        sums: other sums of the run.
    """
    totals = np.zeros(10, TOTALS_DTYPE)
    for function, (requests, mean_ms) in functions.items():
        totals[function]["requests"] = requests
        totals[function]["warming_loading_us"] = round(1e3 * requests * mean_ms)
        totals[function]["end_to_end_us"] = round(1e3 * requests * (mean_ms + 100))
    counters = {"loads": 0, "wasted_loads": 0, "load_us": 0, "wasted_load_us": 0}
    integrals = {kind: np.zeros(1, np.int64) for kind in ("busy", "idle", "preload", "gpu")}
    all_sums = sums_of(totals, counters, integrals, _Free()) | sums
    called = np.flatnonzero(totals["requests"])
    each_us = np.repeat(totals["end_to_end_us"][called] // totals["requests"][called], totals["requests"][called])
    bins = latency_bins(each_us)
    places = np.flatnonzero(bins)
    metrics: dict[str, Any] = dict.fromkeys(METRIC_KEYS)
    metrics |= {metric: ratio_of(metric, all_sums) for metric in RATIOS}
    metrics |= {metric: function_mean(metric, totals) for metric in FUNCTION_MEANS}
    return {
        "scenario": "planted",
        "policy": policy,
        "prewarm": "openwhisk",
        "mode": "realistic",
        "backend": "simulated",
        "decision": "event",
        "bound": False,
        "privileged": policy == "oracle",
        "window": window,
        "seed": seed,
        "group": group,
        **metrics,
        "requests": int(all_sums["requests"]),
        "sums": all_sums,
        "functions": {
            "function": called.tolist(),
            **{name: totals[name][called].tolist() for name in kept.BY_FUNCTION},
        },
        "histograms": {"end_to_end": [places.tolist(), bins[places].tolist()]},
    }


def a_folder(path: Path, rows: Sequence[dict[str, Any]]) -> RunFolder:
    """A finished run folder of some rows, which nobody can play again."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    plan = {
        "scenario": "planted",
        "scenario_hash": "0" * 16,
        "policies": dict.fromkeys(policies, "built-in"),
        "prewarm": ["openwhisk"],
        "modes": ["realistic"],
        "windows": len({row["window"] for row in rows}),
        "split": "test",
        "seeds": 1,
        "decision": "event",
        "record": "none",
        "engine": "compiled",
        "backend": "elsewhere",
    }
    folder = RunFolder.open(path, plan, "title: Planted\n", "tyche evaluate")
    for row in rows:
        folder.append(row)
    folder.write_json("summary.json", conclusions(rows, policies[0]))
    folder.update_manifest(status="finished")
    return folder


def tables_of(page: str) -> list[list[list[Cell]]]:
    """The tables of a page as rows of cells."""
    parser = _Tables()
    parser.feed(page)
    return parser.tables


def rows_of(folder: RunFolder) -> list[dict[str, Any]]:
    """What lies in the file of rows, whatever reads it otherwise."""
    return [json.loads(line) for line in (folder.path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[Cell]]] = []
        self._classes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables:
            self.tables[-1][-1].append([])
        if tag in ("span", "td", "th"):
            self._classes.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("span", "td", "th"):
            self._classes.pop()

    def handle_data(self, data: str) -> None:
        if self._classes and self.tables and self.tables[-1] and self.tables[-1][-1] and data.strip():
            self.tables[-1][-1][-1].append((data.strip(), self._classes[-1]))
