"""The row of a condition, held against the requests of planted draws, counted one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agents.evidence.intervals import FEWEST_GROUPS, interval
from agents.experiments import paper, regime
from agents.experiments.draws import Draw
from agents.experiments.rows import rows_of
from agents.experiments.runs import BINS_PER_DECADE, Case
from agents.experiments.tables import grid, markdown
from tyche_env.metrics import STAGES
from tyche_env.scenario import Scenario

FUNCTIONS = FEWEST_GROUPS + 2
DRAWS = 2
CALLS = {0: [1, 1, 2, 3, 1, 2, 1, 1, 0, 4], 1: [9, 7, 0, 30, 12, 5, 21, 8, 40, 2]}
"""Requests of each function in each draw: the second draw has ten times as many."""
SLOWNESS = {"none": 1.0, "tyche": 0.25, "tyche-np": 0.5}
STAGE_MS = {stage: 10.0 * (place + 1) for place, stage in enumerate(STAGES)}
AMOUNTS = ("container_gb_s", "idle_gb_s", "preload_gb_s", "gpu_gb_s", "loads", "wasted_loads", "cost_usd")
SHARES = ("cold", "warm", "kept")


@dataclass(frozen=True)
class Request:
    draw: int
    function: int
    waited_ms: float
    queued_ms: float
    took_ms: float
    preloaded: bool
    met: str


def requests_under(policy: str) -> list[Request]:
    """What each request met: the functions of the second draw wait longer, and meet other containers."""
    found = []
    for draw, calls in CALLS.items():
        for function, count in enumerate(calls):
            for place in range(count):
                waited_ms = SLOWNESS[policy] * (100 + 10 * function + 300 * draw + place)
                queued_ms = 5.0 + function + 2 * draw
                met = SHARES[0] if draw == 0 else SHARES[1 + place % 2]
                found.append(
                    Request(
                        draw, function, waited_ms, queued_ms, waited_ms + 1000 * (1 + place % 7), place % 3 == draw, met
                    )
                )
    return found


def result_of(policy: str, draw: int) -> dict[str, Any]:
    """The result of a draw, as ``Case.row`` makes it."""
    own = [each for each in requests_under(policy) if each.draw == draw]
    called = sorted({each.function for each in own})

    def by_function(of: Callable[[list[Request]], float]) -> list[float]:
        return [of([each for each in own if each.function == function]) for function in called]

    bins = [int(np.floor(np.log10(each.took_ms) * BINS_PER_DECADE)) for each in own]
    return {
        "draw": f"d{draw}",
        "by_function": {
            "function": called,
            "requests": by_function(len),
            "warming_loading_ms": by_function(lambda each: sum(one.waited_ms for one in each)),
            "queue_ms": by_function(lambda each: sum(one.queued_ms for one in each)),
            "end_to_end_ms": by_function(lambda each: sum(one.took_ms for one in each)),
            "preloaded": by_function(lambda each: sum(one.preloaded for one in each)),
            "pieces": by_function(lambda each: 1),
            "piece_ms": by_function(lambda each: sum(one.waited_ms for one in each) / len(each)),
        },
        # each request of the second draw spends three times as long in each stage
        "stages_ms": {stage: ms * (1 + 2 * draw) * len(own) for stage, ms in STAGE_MS.items()},
        "latency": {str(each): bins.count(each) for each in set(bins)},
        "requests": len(own),
        **{name: 10.0 * place + draw for place, name in enumerate(AMOUNTS)},
        **{f"{name}_rate": sum(each.met == name for each in own) / len(own) for name in SHARES},
        "cpu_s": 1.0,
    }


def bound_of(draw: int) -> dict[str, Any]:
    return {"draw": f"d{draw}", "bound_ms": 4.0 + 6 * draw, "requests": sum(CALLS[draw])}


def case(axes: dict[str, Any], draw: int) -> Case:
    scenario = Scenario.load("small")
    return Case(axes, scenario, Draw(f"d{draw}", draw, (), ()), axes["policy"], axes["prewarm"])


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    cases, results = [], []
    for draw in range(DRAWS):
        for policy in (*SLOWNESS, "bound"):
            axes = {"class": "Bursty", "prewarm": "pagurus", "policy": policy}
            cases.append(case(axes, draw))
            results.append(bound_of(draw) if policy == "bound" else result_of(policy, draw))
    return {row["policy"]: row for row in rows_of("single-node", cases, results)}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def spread(parts: dict[int, float], wholes: dict[int, float]) -> Any:
    """The interval of a ratio of sums over functions, which test_intervals.py is about."""
    functions = sorted(parts)
    found = interval(np.array([parts[each] for each in functions]), np.array([wholes[each] for each in functions]))
    return pytest.approx(found, abs=6e-5)


def over_functions(policy: str, of: Callable[[Request], float]) -> dict[int, float]:
    found: dict[int, float] = {}
    for each in requests_under(policy):
        found[each.function] = found.get(each.function, 0.0) + of(each)
    return found


def pieces(policy: str) -> dict[tuple[int, int], float]:
    """The mean of each function in each draw that calls it."""
    waits: dict[tuple[int, int], list[float]] = {}
    for each in requests_under(policy):
        waits.setdefault((each.draw, each.function), []).append(each.waited_ms)
    return {key: mean(values) for key, values in waits.items()}


def test_means_are_over_the_requests_of_all_draws_together(rows: dict[str, dict[str, Any]]) -> None:
    for policy in SLOWNESS:
        row, own = rows[policy], requests_under(policy)
        assert row["requests"] == len(own)
        assert (row["draws"], row["distinct_functions"]) == (DRAWS, FUNCTIONS)
        assert row["warming_loading_ms_mean"] == pytest.approx(mean([each.waited_ms for each in own]))
        assert row["end_to_end_ms_mean"] == pytest.approx(mean([each.took_ms for each in own]))
        assert row["queue_ms_mean"] == pytest.approx(mean([each.queued_ms for each in own]))
        assert row["preload_rate"] == pytest.approx(mean([each.preloaded for each in own]))
        for name in SHARES:
            assert row[f"{name}_rate"] == pytest.approx(mean([each.met == name for each in own])), name
        for stage, ms in STAGE_MS.items():
            assert row["stages_ms"][stage] == pytest.approx(mean([ms * (1 + 2 * each.draw) for each in own])), stage
        # amounts are of a window, so each draw counts alike
        assert [row[name] for name in AMOUNTS] == [10 * place + 0.5 for place in range(len(AMOUNTS))]
    assert rows["bound"]["bound_ms_mean"] == pytest.approx(
        mean([4.0 + 6 * each.draw for each in requests_under("none")])
    )
    assert rows["bound"]["draws"] == DRAWS


def test_the_mean_over_functions_is_over_their_pieces(rows: dict[str, dict[str, Any]]) -> None:
    for policy in SLOWNESS:
        assert rows[policy]["warming_loading_ms_function_mean"] == pytest.approx(mean(list(pieces(policy).values())))


def test_each_interval_is_that_of_its_own_mean(rows: dict[str, dict[str, Any]]) -> None:
    row, one = rows["tyche"], over_functions("tyche", lambda each: 1)
    assert row["ci95"] == spread(over_functions("tyche", lambda each: each.waited_ms), one)
    assert row["preload_rate_ci95"] == spread(over_functions("tyche", lambda each: each.preloaded), one)
    sums: dict[int, float] = {}
    counts: dict[int, float] = {}
    for (_, function), mean_ms in pieces("tyche").items():
        sums[function], counts[function] = sums.get(function, 0.0) + mean_ms, counts.get(function, 0.0) + 1
    assert row["function_mean_ci95"] == spread(sums, counts)


def test_differences_are_from_no_pre_loading_and_of_an_ablation_from_tyche(rows: dict[str, dict[str, Any]]) -> None:
    waits = {policy: over_functions(policy, lambda each: each.waited_ms) for policy in SLOWNESS}
    one = over_functions("none", lambda each: 1)
    for policy in ("tyche", "tyche-np"):
        row = rows[policy]
        gap = {each: waits[policy][each] - waits["none"][each] for each in one}
        assert row["difference_ms"] == pytest.approx(sum(gap.values()) / sum(one.values()))
        assert row["difference_ci95"] == spread(gap, one)
        assert row["clear_of_zero"]
        assert row["speed_up"] == pytest.approx(1 / SLOWNESS[policy])
        assert row["speed_up_ci95"] == pytest.approx([1 / SLOWNESS[policy]] * 2)
    gap = {each: waits["tyche-np"][each] - waits["tyche"][each] for each in one}
    assert rows["tyche-np"]["from_tyche_ms"] == pytest.approx(sum(gap.values()) / sum(one.values()))
    assert rows["tyche-np"]["from_tyche_ci95"] == spread(gap, one)
    assert "from_tyche_ms" not in rows["tyche"]
    assert "difference_ms" not in rows["none"]


def test_the_paper_s_numbers_are_those_of_the_condition(rows: dict[str, dict[str, Any]]) -> None:
    # Tables of the paper: Tyche with Pagurus on one node takes 376 ms in Bursty, with 71 % pre-loaded.
    assert (rows["tyche"]["paper_warming_loading_ms"], rows["tyche"]["paper_preload_rate"]) == (376, 0.71)
    assert (rows["none"]["paper_warming_loading_ms"], rows["none"]["paper_preload_rate"]) == (2382, None)
    assert rows["tyche-np"]["paper_warming_loading_ms"] is None


def test_quantiles_are_of_all_requests_within_a_bin(rows: dict[str, dict[str, Any]]) -> None:
    for policy in SLOWNESS:
        took_ms = sorted(each.took_ms for each in requests_under(policy))
        for percent in (5, 10, 25, 50, 75, 90, 95, 99):
            exact = np.percentile(took_ms, percent, method="inverted_cdf")
            assert rows[policy]["latency_ms"][f"p{percent}"] == pytest.approx(exact, rel=0.0293)


def test_a_table_has_each_value_under_its_heading(rows: dict[str, dict[str, Any]]) -> None:
    def cells(columns: Any) -> dict[str, str]:
        summary = {"axes": ["policy"], "columns": columns, "rows": list(rows.values()), "checks": []}
        headings, lines = grid(summary)
        assert markdown(summary).splitlines()[0] == f"| {' | '.join(headings)} |"
        (own,) = (line for line in lines if line[0] == "tyche")
        return dict(zip(headings[1:], own[1:], strict=True))

    own = requests_under("tyche")
    stages = {stage: mean([ms * (1 + 2 * each.draw) for each in own]) for stage, ms in STAGE_MS.items()}
    assert {name: float(text.replace(",", "")) for name, text in cells(paper.STAGES).items()} == {
        stage: pytest.approx(value, rel=5e-3) for stage, value in stages.items()
    }
    amounts = cells(paper.MEMORY)
    assert amounts == {
        "containers GB s": "0.5",
        "idle GB s": "10.5",
        "pre-loaded GB s": "20.5",
        "GPU GB s": "30.5",
        "loads": "40.5",
        "wasted": "50.5",
        "USD": "60.5",
    }
    latency = cells(paper.LATENCY)
    assert list(latency) == [f"p{percent} ms" for percent in (5, 25, 50, 75, 90, 95, 99)]
    for heading, text in latency.items():
        percent = int(heading.removeprefix("p").removesuffix(" ms"))
        exact = np.percentile([each.took_ms for each in own], percent, method="inverted_cdf")
        assert float(text.replace(",", "")) == pytest.approx(exact, rel=0.035)
    row = rows["tyche"]
    summary = {"axes": ["policy"], "columns": paper.LOADING + paper.PAPER, "rows": list(rows.values()), "checks": []}
    headings, lines = grid(summary)
    (line,) = (line for line in lines if line[0] == "tyche")
    assert headings == [
        *("policy", "warming+loading ms", "95 %", "pre-loaded", "against none, ms", "95 %"),
        *("paper: ms", "paper: pre-loaded"),
    ]
    assert float(line[1]) == pytest.approx(row["warming_loading_ms_mean"], rel=5e-3)
    assert [float(each) for each in line[2].split(" to ")] == pytest.approx(row["ci95"], rel=5e-3)
    assert line[3] == f"{100 * row['preload_rate']:.0f} %"
    assert float(line[4]) == pytest.approx(row["difference_ms"], rel=5e-3)
    assert [float(each) for each in line[5].split(" to ")] == pytest.approx(row["difference_ci95"], rel=5e-3)
    assert line[6:] == ["376", "71 %"]


def test_a_corner_of_the_map_pairs_the_best_of_each_and_counts_the_queue() -> None:
    axes = {"mode": "paper", "class": "Bursty", "functions": 8, "pool_gb": 16}
    faster = {"openwhisk": 1.2, "histogram": 1.0, "pagurus": 0.8, "faascache": 1.1}
    cases, results = [], []
    for draw in range(DRAWS):
        for prewarm, factor in faster.items():
            for policy, like in (("none", "none"), ("lru", "tyche-np"), ("tyche", "tyche")):
                # tyche is at its best where the others are at their worst
                own = 2 - factor if policy == "tyche" else factor
                found = result_of(like, draw)
                table = found["by_function"]
                table["warming_loading_ms"] = [own * each for each in table["warming_loading_ms"]]
                cases.append(case({**axes, "prewarm": prewarm, "policy": policy}, draw))
                results.append(found)
        cases.append(case({**axes, "prewarm": "openwhisk", "policy": "bound"}, draw))
        results.append(bound_of(draw))
    (row,) = regime.rows_of(cases, results)
    queue_ms = mean([each.queued_ms for each in requests_under("none")])

    def delay_ms(policy: str, factor: float) -> float:
        return factor * mean([each.waited_ms for each in requests_under(policy)]) + queue_ms

    tyche_ms, none_ms, lru_ms = delay_ms("tyche", 0.8), delay_ms("none", 0.8), delay_ms("tyche-np", 0.8)
    assert (row["tyche_with"], row["prewarming_with"], row["lru_with"]) == ("openwhisk", "pagurus", "pagurus")
    assert [row["tyche_ms"], row["prewarming_ms"], row["lru_ms"]] == pytest.approx([tyche_ms, none_ms, lru_ms])
    for rival, rival_ms in (("prewarming", none_ms), ("lru", lru_ms)):
        gain = row[f"gain_{rival}_rate"]
        assert gain == pytest.approx(1 - tyche_ms / rival_ms)
        low, high = row[f"gain_{rival}_ci95_rate"]
        assert low < gain < high
    assert row["bound_ms"] == pytest.approx(mean([4.0 + 6 * each.draw for each in requests_under("none")]))
    headings, ((*where, shown_tyche, shown_none, name, gain, ci, shown_lru, lru_gain, lru_ci),) = grid(
        {"axes": [], "columns": regime.COLUMNS, "rows": [row]}
    )
    assert headings == ["tyche ms", "best pre-warming ms", "with", "gain", "95 %", "lru ms", "gain", "95 %"]
    assert (where, name) == ([], "pagurus")
    assert [float(each) for each in (shown_tyche, shown_none, shown_lru)] == pytest.approx(
        [tyche_ms, none_ms, lru_ms], rel=5e-3
    )
    for text, interval_text, rival in ((gain, ci, "prewarming"), (lru_gain, lru_ci, "lru")):
        assert text == f"{100 * row[f'gain_{rival}_rate']:.0f} %"
        assert interval_text == " to ".join(f"{100 * each:.0f} %" for each in row[f"gain_{rival}_ci95_rate"])
