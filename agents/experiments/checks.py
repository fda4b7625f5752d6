"""What the results are held against, and the causes of what falls outside.

No setting is fitted to the paper's tables, so some cells stay outside; each is reported with what we know of the
reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.experiments import pooled
from agents.experiments.published import ABLATION_FACTORS, SENSITIVITY_MS
from agents.experiments.rows import Results
from agents.policies.builtin import POLICIES, RestorePolicy
from agents.policies.loading import BOUND

Row = Mapping[str, Any]

OPENWHISK_TOLERANCE = 0.30
LEAST_CUT = 0.75
RATE_TOLERANCE = 0.20

RESTORING = tuple(name for name, policy in POLICIES.items() if isinstance(policy, RestorePolicy))
"""Policies that do what the oracle cannot."""

_CAUSES = {
    "openwhisk": "the paper's cells lie further apart than one container start allows (530 ms between all cold and all "
    "warm), so no cold share gives them",
    "faascache": "the paper's Tyche + FaasCache is slower than with shorter keep-alives, which needs memory that is "
    "scarcer than the set-up it states",
    "bursty": "depends on where in the minute requests lie, which the trace does not say",
}


def check(what: str, holds: bool, detail: str, cause: str = "") -> dict[str, Any]:
    """One finding for ``checks``."""
    return {"check": what, "holds": holds, "detail": detail, "cause": "" if holds else cause}


def tables(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The checks of the single-node and multi-node tables."""
    cell = {(row["class"], row["prewarm"], row["policy"]): row for row in rows}
    for (name, prewarm, policy), row in cell.items():
        if policy == BOUND:
            continue
        where, ours = f"{name}, {prewarm}, {policy}", row["warming_loading_ms_mean"]
        base = cell[name, "openwhisk", "none"]["warming_loading_ms_mean"]
        if (prewarm, policy) == ("openwhisk", "none"):
            off = ours / row["paper_warming_loading_ms"] - 1
            yield check(
                f"{where}: within 30 % of the paper",
                abs(off) <= OPENWHISK_TOLERANCE,
                f"{ours:.0f} ms against {row['paper_warming_loading_ms']:.0f} ms ({100 * off:+.0f} %)",
                _CAUSES["openwhisk"],
            )
        if policy == "none" and prewarm != "openwhisk":
            yield check(
                f"{where}: not above OpenWhisk by more than noise",
                ours <= base or row["ci95"][0] <= base,
                f"{ours:.0f} ms against {base:.0f} ms",
            )
        if policy == "tyche":
            yield check(
                f"{where}: faster than {prewarm} alone, interval clear of 0",
                row["difference_ci95"] is not None and row["difference_ci95"][1] < 0,
                f"{row['difference_ms']:.0f} ms {row['difference_ci95']}",
            )
            if prewarm in ("pagurus", "histogram"):
                yield check(
                    f"{where}: cuts warming + loading by 75 % from OpenWhisk",
                    1 - ours / base >= LEAST_CUT,
                    f"{100 * (1 - ours / base):.0f} %",
                    _CAUSES["bursty"],
                )
        if row["paper_preload_rate"] is not None:
            off = row["preload_rate"] - row["paper_preload_rate"]
            cause = _CAUSES["bursty"] if name == "Bursty" else _CAUSES.get(prewarm, "")
            yield check(
                f"{where}: pre-loading rate within 20 points of the paper",
                abs(off) <= RATE_TOLERANCE,
                f"{100 * row['preload_rate']:.0f} % against {100 * row['paper_preload_rate']:.0f} %",
                cause,
            )


def oracle(grouped: Mapping[tuple[Any, ...], Results]) -> Iterator[dict[str, Any]]:
    """No policy is significantly better than the oracle; draws in which one is better are listed."""
    for key, own in grouped.items():
        axes = dict(key)
        best = grouped.get(tuple({**axes, "policy": "oracle"}.items()))
        if axes["policy"] in ("oracle", BOUND, "none", *RESTORING) or best is None:
            continue
        below = pooled.significantly_below(own, best)
        single = [
            each["draw"] for each, other in zip(own, best, strict=True) if _mean_ms(each) < _mean_ms(other) - 1e-6
        ]
        yield check(
            f"{', '.join(str(value) for value in axes.values())}: not significantly better than the oracle",
            not below,
            f"better by the mean per {' and '.join(below)}"
            if below
            else f"better in {len(single)} of {len(own)} draws",
        ) | {"draws": single}


def bounded(grouped: Mapping[tuple[Any, ...], Results]) -> Iterator[dict[str, Any]]:
    """No draw of any policy is below the bound on queue + warming + loading."""
    for key, own in grouped.items():
        axes = dict(key)
        if axes["policy"] != BOUND:
            continue
        beaten, runs = [], 0
        for other, results in grouped.items():
            if other == key or dict(other)["policy"] in RESTORING or {**dict(other), "policy": BOUND} != axes:
                continue
            runs += len(results)
            beaten += [
                f"{dict(other)['policy']} {each['draw']}"
                for each, least in zip(results, own, strict=True)
                if _mean_ms(each) + _mean_ms(each, "queue_ms") < (least["bound_ms"] or 0.0) - 1e-3
            ]
        where = ", ".join(str(value) for name, value in axes.items() if name != "policy")
        yield check(f"{where}: the bound is never beaten", not beaten, f"{runs} runs; beaten by {beaten or 'none'}")


def _mean_ms(result: Row, of: str = "warming_loading_ms") -> float:
    table = result["by_function"]
    return float(sum(table[of]) / max(1.0, sum(table["requests"])))


def none(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Nothing is expected: the experiment only measures."""
    yield from ()


def nodes(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """From 4 to 16 nodes: Tyche's rate falls little, InstaInfer's much, and Tyche is faster at 16.

    Both readings of InstaInfer's scan are held against it: ties along the function's own walk, or to the first node.
    """
    cell = {(row["functions"], row["nodes"], row["policy"]): row for row in rows}
    causes = {
        "instainfer": "ties spread over the nodes leave idle containers on all of them, and room for a copy on each; "
        "the paper's loss needs containers to crowd on few nodes, as when ties go to the first",
        "instainfer-first": "with so few functions even a crowded node has idle containers for a copy of each; the "
        "paper's loss needs more functions",
    }
    for functions in sorted({row["functions"] for row in rows}):
        fall, at_16 = {}, {}
        for name in ("tyche", *causes):
            few, many = cell[functions, 4, name], cell[functions, 16, name]
            fall[name] = 100 * (few["preload_rate"] - many["preload_rate"])
            at_16[name] = many["warming_loading_ms_mean"]
        yield check(
            f"{functions} functions: Tyche's pre-loading rate falls by at most 8 points from 4 to 16 nodes",
            fall["tyche"] <= 8,
            f"{fall['tyche']:.1f} points",
        )
        for name, cause in causes.items():
            yield check(
                f"{functions} functions: that of {name} falls by at least 15 points",
                fall[name] >= 15,
                f"{fall[name]:.1f} points",
                cause,
            )
            factor = at_16[name] / at_16["tyche"]
            yield check(
                f"{functions} functions: Tyche is at least 1.4 times faster than {name} at 16 nodes",
                factor >= 1.4,
                f"{factor:.2f} times",
                cause,
            )


def ablation(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The full system beats each ablation where memory is scarce."""
    cell = {(row["functions"], row["pool_gb"], row["policy"]): row for row in rows}
    for functions, pool_gb in dict.fromkeys((row["functions"], row["pool_gb"]) for row in rows):
        full = cell[functions, pool_gb, "tyche"]
        for name, (low, high) in ABLATION_FACTORS.items():
            factor = cell[functions, pool_gb, name]["warming_loading_ms_mean"] / full["warming_loading_ms_mean"]
            separate = cell[functions, pool_gb, name]["from_tyche_ci95"]
            yield check(
                f"{functions} functions on {pool_gb} GB: full Tyche significantly faster than {name}",
                separate is not None and separate[0] > 0,
                f"{factor:.2f} times ({low} to {high} in the paper)",
                "memory is ample: a function that is never off-loaded is never missed"
                if name == "tyche-np"
                else "memory is ample: every function keeps a container of its own",
            )


def sensitivity(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The paper's end-to-end latency is best at P_load 0.06 and within 16 % of that from 0.02 to 0.10."""
    for functions in dict.fromkeys(row["functions"] for row in rows):
        own = {
            row["value"]: row["end_to_end_ms_mean"]
            for row in rows
            if (row["functions"], row["setting"]) == (functions, "p_load")
        }
        best = min(own, key=lambda value: float(own[value]))
        spread = max(own.values()) / min(own.values()) - 1
        paper = max(SENSITIVITY_MS.values()) / min(SENSITIVITY_MS.values()) - 1
        yield check(
            f"{functions} functions: P_load between 0.02 and 0.10 moves end-to-end latency no more than in the paper",
            spread <= paper,
            f"by {100 * spread:.0f} %, best at {best} (paper {100 * paper:.0f} %, best at 0.06)",
            "while memory is free, loading earlier costs nothing",
        )
