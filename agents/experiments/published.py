"""Numbers of the Tyche paper (IEEE TPDS 37(2), 2026, DOI 10.1109/TPDS.2025.3638428) that experiments are set beside."""

from __future__ import annotations

from dataclasses import dataclass

from agents.experiments.draws import CLASSES


@dataclass(frozen=True, slots=True)
class Published:
    """One cell of a table.

    Attributes:
        warming_loading_ms: time before inference runs.
        preload_rate: share of requests that found their function pre-loaded; None without a pre-loader.
    """

    warming_loading_ms: float
    preload_rate: float | None


def _table(
    rows: dict[tuple[str, str], tuple[tuple[float, float, float], tuple[float, float, float] | None]],
) -> dict[tuple[str, str, str], Published]:
    return {
        (name, prewarm, policy): Published(times[column], None if rates is None else rates[column] / 100)
        for (prewarm, policy), (times, rates) in rows.items()
        for column, name in enumerate(CLASSES)
    }


TABLES: dict[str, dict[tuple[str, str, str], Published]] = {
    "single-node": _table(
        {
            ("openwhisk", "none"): ((2767, 3059, 3025), None),
            ("histogram", "none"): ((2397, 2409, 2387), None),
            ("pagurus", "none"): ((2304, 2771, 2382), None),
            ("faascache", "none"): ((2292, 2469, 2445), None),
            ("histogram", "tyche"): ((295, 462, 567), (79, 66, 48)),
            ("pagurus", "tyche"): ((223, 309, 376), (85, 78, 71)),
            ("faascache", "tyche"): ((581, 709, 917), (63, 51, 45)),
        }
    ),
    "multi-node": _table(
        {
            ("openwhisk", "none"): ((2879, 3247, 3216), None),
            ("histogram", "none"): ((2452, 2480, 2614), None),
            ("pagurus", "none"): ((2203, 2663, 2377), None),
            ("faascache", "none"): ((2289, 2508, 2476), None),
            ("faascache", "instainfer"): ((576, 725, 811), (61, 46, 42)),
            ("histogram", "tyche"): ((302, 429, 558), (80, 67, 53)),
            ("pagurus", "tyche"): ((186, 266, 326), (84, 81, 72)),
            ("faascache", "tyche"): ((506, 616, 722), (62, 48, 43)),
        }
    ),
}
"""{experiment: {(class, pre-warming, policy): cell}}; the paper does not say what pre-warms under InstaInfer."""

SENSITIVITY_MS = {0.02: 637, 0.04: 626, 0.06: 592, 0.08: 605, 0.10: 684}
"""End-to-end latency by P_load, read off a figure."""

ABLATION_FACTORS = {"tyche-np": (1.16, 1.28), "tyche-ns": (1.21, 1.49), "tyche-nps": (1.48, 1.73)}
"""How many times slower than the full system, from - to."""

ILP_LOSS = 0.014
"""Value that the greedy packing loses against the optimum, 1000 functions on 100 containers."""
