"""What a row keeps of its run, so that every table can be written anew without playing it again.

``sums`` are what can be added up over runs, ``functions`` the sums of each function that was called, ``histograms``
the latencies.  All of it is exact, whichever requests were recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.metrics import LATENCY_BINS, RATIOS, Prices, sums_of
from tyche_env.played import Played

KEPT = ("sums", "functions", "histograms")
"""Keys of a row that hold it."""

BY_FUNCTION = ("requests", "gpu", "memory", "warming_loading_us", "end_to_end_us")
"""Sums that are kept of each function."""

Row = Mapping[str, Any]


def kept_of(played: Played, prices: Prices) -> dict[str, Any]:
    """What is kept of one run, as JSON.

    Args:
        played: the run.
        prices: of its scenario.
    """
    called = np.flatnonzero(played.totals["requests"])
    return {
        "sums": sums_of(played.totals, played.counters, played.integrals_mb_us, prices),
        "functions": {
            "function": called.tolist(),
            **{name: played.totals[name][called].tolist() for name in BY_FUNCTION},
        },
        "histograms": {name: _sparse(bins) for name, bins in played.histograms.items()},
    }


def with_sums(row: Row) -> Row:
    """A row of an earlier version, which kept no sums: those that follow of its means.

    Means over functions and percentiles cannot be pooled from it.
    """
    if "sums" in row:
        return row
    requests = row["requests"]
    sums: dict[str, float] = {"runs": 1, "requests": requests}
    for metric, (part, whole, factor) in RATIOS.items():
        if whole in sums and row.get(metric) is not None:
            sums[part] = row[metric] / factor * sums[whole]
    return {**row, "sums": sums}


def without_kept(row: Row) -> dict[str, Any]:
    """A row with its figures alone."""
    return {key: value for key, value in row.items() if key not in KEPT}


def added(rows: Iterable[Row]) -> dict[str, float]:
    """The sums of several runs; of a sum that a run does not have, none."""
    found = [row["sums"] for row in rows]
    names = [name for name in found[0] if all(name in each for each in found)] if found else []
    return {name: sum(each[name] for each in found) for name in names}


def merged(rows: Iterable[Row], name: str) -> NDArray[np.int64]:
    """The histogram of several runs together, (LATENCY_BINS,).

    Args:
        rows: of the runs.
        name: one of ``metrics.HISTOGRAMS``.
    """
    bins = np.zeros(LATENCY_BINS, np.int64)
    for row in rows:
        if name in row["histograms"]:
            places, counts = row["histograms"][name]
            bins[places] += np.array(counts, np.int64)
    return bins


def by_function(rows: Iterable[Row]) -> dict[str, NDArray[np.int64]]:
    """The sums of each function over several runs of one group, by name; (called functions,) each, in their order."""
    tables = [row["functions"] for row in rows]
    functions, place = np.unique(np.concatenate([table["function"] for table in tables]), return_inverse=True)
    found: dict[str, NDArray[np.int64]] = {"function": functions.astype(np.int64)}
    for name in (name for name in tables[0] if name != "function"):
        found[name] = np.zeros(len(functions), np.int64)
        np.add.at(found[name], place, np.concatenate([table[name] for table in tables]).astype(np.int64))
    return found


def _sparse(bins: NDArray[np.int64]) -> list[list[int]]:
    """The bins in use, and their counts."""
    places = np.flatnonzero(bins)
    return [places.tolist(), bins[places].tolist()]
