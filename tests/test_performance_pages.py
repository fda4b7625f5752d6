"""The measured tables of README.md and of pages in docs are what benchmarks/results holds."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agents.experiments import beside
from tests.agents.evidence.planted import a_folder, a_row
from tests.test_docs import ROOT, script
from tyche_env.metrics import TOTALS_DTYPE


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return script(ROOT / "benchmarks" / "pages.py")


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md", "docs/carries.md", "docs/bring-your-own.md"])
def test_tables_show_the_results(page: str, pages: ModuleType) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- end -->" in text
    assert pages.filled(text, pages.results()) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12_345_678, "12,300,000"), (1234, "1,234"), (12.34, "12.3"), (0.001234, "0.00123"), (0, "0")],
)
def test_numbers_have_three_digits(value: float, shown: str, pages: ModuleType) -> None:
    assert pages.number(value) == shown


# -- planted results ---------------------------------------------------------------------------------------------------

MACHINE = {
    "processor": "Abacus",
    "cores": 3,
    "memory_gib": 7.6,
    "python": "3.1",
    "numba": "0.2",
    "load_average": [1.25],
}


def planted(pages: ModuleType, name: str, **content: Any) -> list[dict[str, str]]:
    """The rows of a table that is made of planted results, by heading; under ``""`` what stands below the table."""
    about = {"date": "2001-02-03", "machine": MACHINE}
    text = pages.TABLES[name]({file: about | found for file, found in content.items()})
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    headings, rule, *rows = lines
    assert rule == ["---"] * len(headings)
    if name != "plan":
        assert text.endswith(
            "\n\n*Measured on 2001-02-03: Abacus, 3 cores, 8 GiB, Python 3.1, numba 0.2; load average of the machine "
            "before the run 1.2.*"
        )
    return [dict(zip(headings, row, strict=True)) for row in rows]


def figure(name: str, **changed: Any) -> dict[str, Any]:
    row = {"name": name, "value": 1234567.0, "unit": "1/s", "goal": 1e6, "at_most": False, "met": True}
    return row | {"ratio": 2.5, "reference": "a loop", "note": "planted"} | changed


def test_speed_has_each_figure_with_its_promise_and_what_stands_beside_it(pages: ModuleType) -> None:
    results = [
        figure("fast"),
        figure("small", value=12.34, unit="MB", goal=10.0, at_most=True, met=False),
        figure("free", goal=None),
    ]
    fast, small, free = planted(pages, "speed", speed={"results": results})
    assert fast == {
        "figure": "`fast`",
        "value": "1,230,000 1/s",
        "promise": ">= 1,000,000",
        "beside it": "2.5 x a loop",
        "of what": "planted",
    }
    assert (small["value"], small["promise"]) == ("12.3 MB", "<= 10 **missed**")
    assert free["promise"] == "-"


def test_the_headline_shows_the_figures_that_it_names(pages: ModuleType) -> None:
    results = [figure(name, value=100.0 + place) for place, name in enumerate(pages.HEADLINE)]
    rows = planted(pages, "headline", speed={"results": list(reversed(results))})
    assert [row["figure"] for row in rows] == [f"{100 + place} 1/s" for place in range(len(pages.HEADLINE))]
    assert [row["what"] for row in rows] == list(pages.HEADLINE.values())


def test_a_profile_is_sorted_by_the_share_of_all_cases(pages: ModuleType) -> None:
    shares = {"one": {"a": 0.25, "b": 0.7, "c": 0.004}, "two": {"a": 0.6, "b": 0.1, "d": 0.3}}
    rows = planted(pages, "profile", profile={"shares": shares})
    assert [list(row.values()) for row in rows] == [
        ["a", "25 %", "60 %"],
        ["b", "70 %", "10 %"],
        ["d", "-", "30 %"],
        ["c", "-", "-"],
    ]
    assert list(rows[0]) == ["", "one", "two"]


def test_steps_peers_and_exponents_stand_under_their_headings(pages: ModuleType) -> None:
    assert planted(pages, "limits", limits={"steps": [{"step": "a load", "ns": 12.6}]}) == [
        {"step": "a load", "ns": "13"}
    ]
    peer = {"name": "p", "requests": 100, "requests_per_cpu_s": 2e4, "engine_requests_per_cpu_s": 3e6}
    peer |= {"ratio": 150.0, "cold_starts": 7, "engine_cold_starts": 8}
    assert planted(pages, "peers", peers={"results": [peer]}) == [
        {
            "simulator": "p",
            "requests": "100",
            "requests a CPU-second": "20,000",
            "the engine": "3,000,000",
            "ratio": "150 x",
            "cold starts, theirs and ours": "7, 8",
        }
    ]
    slopes = {"axis": "nodes", "policy": "p", "ns_an_invocation": 0.5, "ns_an_event": 0.25, "state_mb": 1.0}
    assert planted(pages, "growth", growth={"exponents": [slopes]}) == [
        {
            "grows": "nodes",
            "policy": "p",
            "cost of an invocation": "n^0.50",
            "cost of an event": "n^0.25",
            "memory": "n^1.00",
        }
    ]


def test_the_large_day_and_what_follows_of_it(pages: ModuleType) -> None:
    cpu_s = {"make": 20.0, "tables": 15.0, "the day": 500.0}
    day = {"policy": "p", "invocations": 14_000_000, "invocations_per_cpu_s": 1e6, "functions": 100_000}
    day |= {"cpu_s": cpu_s, "state_mb": 800.0, "peak_mb": 2500.0}
    (row,) = planted(pages, "day", day={"days": [day]})
    assert row == {
        "policy": "p",
        "requests": "14,000,000",
        "the day, CPU s": "500",
        "a second": "1,000,000",
        "before it, CPU s": "35",
        "tables": "800 MB",
        "peak": "2.5 GB",
    }
    # 10^10 invocations at 10^6 a second are 10,000 s; of 10 shards each has 100,000 functions, as the day has, and
    # 10^9 arrivals of 12 bytes (a time of 8 and a function of 4)
    (row,) = planted(pages, "plan", day={"days": [day]})
    assert row == {
        "policy": "p",
        "CPU hours in all": "2.8",
        "hours on ten cores": "0.3",
        "tables of a shard": "800 MB",
        "arrivals of a shard, on disk": "12 GB",
    }


def test_files_that_were_read_stand_under_their_headings(pages: ModuleType) -> None:
    row = {"form": "a form", "requests": 13_600_000, "file_mb": 2046.0, "cpu_s": 19.6, "peak_mb": 1374.0}
    assert planted(pages, "reading", reading={"files": [row]}) == [
        {
            "file": "a form, 2.05 GB",
            "requests": "13.6 million",
            "CPU time": "20 s",
            "most memory of the process": "1.37 GB",
        }
    ]


def test_shards_stand_under_their_headings(pages: ModuleType) -> None:
    row = {"policy": "p", "by": "tenant", "shards": 4, "warming_loading_ms_mean": 12.0, "loads": 5000, "cpu_s": 3.0}
    row |= {"warming_loading_ms_function_mean": 340.0, "cold_rate": 0.0123, "longest_cpu_s": 0.75}
    assert planted(pages, "sharding", sharding={"rows": [row]}) == [
        {
            "policy": "p",
            "cut by": "tenant",
            "shards": "4",
            "ms a request": "12",
            "ms a function": "340",
            "cold starts": "1.23 %",
            "loads": "5,000",
            "CPU s, sum": "3.00",
            "the longest": "0.75",
        }
    ]


# -- planted measurements ----------------------------------------------------------------------------------------------


def test_exponents_are_those_of_the_power_that_a_cost_follows() -> None:
    growth = script(ROOT / "benchmarks" / "growth.py")
    rows = [
        {"axis": "nodes", "policy": policy, "value": n, "ns_an_event": 7.0, "ns_an_invocation": 3 * n**power}
        | {"state_mb": 0.5 * n}
        for policy, power in zip(growth.POLICIES, (0.5, 2.0), strict=True)
        for n in (1, 3, 10, 100)
    ]
    one, two = growth.exponents(rows)
    assert [one["ns_an_invocation"], one["ns_an_event"], one["state_mb"]] == pytest.approx([0.5, 0.0, 1.0], abs=1e-9)
    assert two["ns_an_invocation"] == pytest.approx(2.0)
    assert (one["policy"], two["policy"]) == tuple(growth.POLICIES)


def test_a_made_up_world_has_the_requests_and_rates_of_its_shape() -> None:
    growth = script(ROOT / "benchmarks" / "growth.py")
    shape = growth.Shape(functions=200, nodes=7, node_mb=4096, gap_s=50.0, requests=20_000)
    world = growth.world_of(shape)
    assert (world.function_count, world.node_count, len(world.arrival_us)) == (200, 7, 20_000)
    assert world.node_memory_mb.tolist() == [4096] * 7
    # 200 functions with 50 s between requests make 4 requests a second
    assert world.end_us == pytest.approx(20_000 / 4 * 1e6)
    counts = np.bincount(world.arrival_function, minlength=200)
    assert 20 < counts.max() / max(1, counts.min()) < 400, "rates are spread over a factor of 100"


def test_shards_hold_the_functions_and_nodes_of_the_whole_and_their_figures_are_pooled() -> None:
    sharding = script(ROOT / "benchmarks" / "sharding.py")
    functions = np.zeros(6, TOTALS_DTYPE)
    functions["requests"] = [10, 0, 30, 40, 20, 0]
    functions["warming_loading_us"] = [1e4, 0, 9e4, 4e4, 0, 0]
    functions["cold"], functions["gpu"], functions["memory"] = (
        [1, 0, 2, 3, 4, 0],
        [0, 0, 5, 0, 5, 0],
        [2, 0, 0, 8, 0, 0],
    )
    parts = [
        SimpleNamespace(totals=functions[:3], counters={"loads": 3}, cpu_s=2.0),
        SimpleNamespace(totals=functions[3:], counters={"loads": 4}, cpu_s=5.0),
    ]
    assert sharding.figures(parts) == {
        "requests": 100,
        "warming_loading_ms_mean": pytest.approx(140 / 100),
        "warming_loading_ms_function_mean": pytest.approx((1 + 3 + 1 + 0) / 4),
        "cold_rate": 0.10,
        "preload_rate": 0.20,
        "loads": 7,
        "cpu_s": 7.0,
        "longest_cpu_s": 5.0,
    }
    tenants = np.array([0, 0, 1, 2, 3, 3])
    world = SimpleNamespace(
        arrival_function=np.repeat(np.arange(6), [10, 20, 25, 15, 4, 6]),
        function_count=6,
        functions=SimpleNamespace(tenant=tenants),
    )
    # owners have 30, 25, 15 and 10 requests: the first and the last go together, and so do the two between
    assert sharding.by_tenant(cast(Any, world), 2).tolist() == [0, 0, 1, 1, 0, 0]
    ring = SimpleNamespace(home_position=lambda: np.array([0, 3, 4, 7]), node_count=8)
    assert sharding.by_routing_group(cast(Any, ring), 2).tolist() == [0, 0, 1, 1]


def test_a_row_of_the_readme_s_table_has_its_cells_in_the_order_that_the_page_says() -> None:
    made = script(ROOT / "benchmarks" / "scenario_table.py")
    entries = [
        {
            "windows": 12,
            "groups": 4,
            "warming_loading_ms_function_mean": {"mean": 100.0 + place},
            "warming_loading_ms_mean": {"mean": 10.0 + place},
            "preload_gb_s": {"mean": 1000.0 + place},
        }
        for place in range(2)
    ]
    assert made.row("small", entries) == "| small | 12 of 4 | 100 / 10 / 1,000 | 101 / 11 / 1,001 |"
    seven = [entries[0]] * len(made.POLICIES)
    marked = made.row("small", seven, 0.512).split(" | ")
    told = [cell.endswith("(knows 51% of the functions)") for cell in marked[2:]]
    assert told == [name == "learned" for name in made.POLICIES]
    page = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Each cell: ms per function / ms per request / what it costs, memory held in idle containers, GB s" in page
    assert "second column says how many groups" in page


def test_functions_that_an_agent_was_trained_on_are_told() -> None:
    made = script(ROOT / "benchmarks" / "scenario_table.py")
    day = made.Scenario.load("azure-day")
    # the test windows are of the second half of the functions; the one made here trained on the first three quarters
    assert made.seen_share(day, {"scenarios": ["azure-8h"]}) == 0.0
    assert made.seen_share(made.Scenario.load("small"), {"scenarios": ["small"]}) == 0.0  # each split draws its own
    windows = {split: day.windows(split) for split in ("train", "validation", "test")}
    known = {f for split in ("train", "validation") for window in windows[split] for f in window.functions}
    tested = {f for window in windows["test"][:12] for f in window.functions}
    assert made.seen_share(day, {"choice": {"scenarios": ["azure-day"]}}) == len(tested & known) / len(tested) == 0.0
    share = made.seen_share(day, {"scenarios": ["train-10"]})
    train = made.Scenario.load("train-10")
    first = {f for split in ("train", "validation") for window in train.windows(split) for f in window.functions}
    assert share == sum(f in first for f in tested) / len(tested) > 0.5


def test_decision_modes_are_set_beside_event_mode_in_the_right_order(tmp_path: Path) -> None:
    made = script(ROOT / "benchmarks" / "decision_modes.py")

    def run_of(decision: Any, shares: dict[str, float]) -> Any:
        rows = [
            a_row(policy, f"g{group}", group, {0: (10, share * (100.0 + group)), 1: (30, share * 20.0)})
            | {"decision": decision, "cpu_s": 0.002}
            for group in range(8)
            for policy, share in shares.items()
        ]
        for row in rows:
            row["sums"] |= {"preloaded": 10, "warm": 4}
        return a_folder(tmp_path / str(decision), rows)

    runs = {
        "event": run_of("event", {"tyche": 1.0, "censored": 0.5}),
        10.0: run_of(10.0, {"tyche": 3.0, "censored": 0.5}),
    }
    lines = made.markdown(runs).splitlines()
    headings, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:6]]
    assert headings == [
        *("policy", "asked", "per function, ms", "difference", "per request, ms", "difference"),
        *("pre-loaded", "warm", "CPU ms"),
    ]
    # per function: 103.5 and 20 ms, so 61.75; per request: a quarter of 103.5 and three quarters of 20 ms, so 40.875
    assert rows[0] == ["tyche", "at events", "61.8", "", "40.9", "", "25.0 %", "10.0 %", "16"]
    policy, asked, per_function, gap, per_request, request_gap, *rest = rows[1]
    assert (policy, asked, per_function, per_request) == ("tyche", "every 10 s", "185", "123")
    assert rest == ["25.0 %", "10.0 %", "16"]
    for text, mean_ms in ((gap, 2 * 61.75), (request_gap, 2 * 40.875)):
        found = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]\*", text)
        assert found
        middle, low, high = map(float, found.groups())
        assert middle == pytest.approx(mean_ms, rel=5e-3)
        assert low < middle < high
    assert [row[1] for row in rows[2:]] == ["at events", "every 10 s"]
    assert not rows[3][3].endswith("*"), "nothing differs"
    assert "8 windows of 8 groups" in lines[-1]


def test_predictions_stand_beside_what_was_measured() -> None:
    def figures(loading: float, function: float, stage_ms: float, starts: dict[str, float]) -> Any:
        stages = {stage: stage_ms + place for place, stage in enumerate(beside.STAGES)}
        return beside.Figures(40, loading, function, stages, starts)

    near = beside.Row(
        "paper, window 0",
        "tyche",
        figures(200, 300, 1.0, {"gpu": 0.25, "memory": 0.5, "warm": 0.25}),
        figures(190, 330, 10.0, {"memory": 0.75, "cold": 0.25}),
        3,
    )
    far = beside.Row(
        "realistic, window 0",
        "none",
        figures(100, 100, 1.0, {"cold": 0.5, "warm": 0.25, "loading": 0.25}),
        figures(150, 100, 10.0, {"cold": 0.125, "warm": 0.75, "memory": 0.125}),
        0,
    )

    def rows(text: str) -> list[dict[str, str]]:
        headings, _, *lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
        return [
            {f"{place} {name}": cell for place, (name, cell) in enumerate(zip(headings, line, strict=True))}
            for line in lines
        ]

    shown, missed = rows(beside.table([near, far]))
    assert list(shown.items()) == [
        ("0 mode, window", "paper, window 0"),
        ("1 policy", "tyche"),
        ("2 requests", "40"),
        ("3 measured, ms", "200 / 300"),
        ("4 simulated, ms", "190 / 330"),
        ("5 error, per request / per function", "-5 % / +10 %"),
        ("6 pre-loaded, measured", "75.0 %"),
        ("7 simulated", "75.0 %"),
        ("8 scheduling, ms", "2"),
        ("9 lost containers", "3"),
    ]
    assert missed["5 error, per request / per function"] == "+50 % / +0 % **outside**"
    (only,) = rows(beside.misses([near, far]))
    assert only == {
        "0 mode, window": "realistic, window 0",
        "1 policy": "none",
        "2 warming": "3 (12)",
        "3 library": "4 (13)",
        "4 model": "5 (14)",
        "5 cold": "50.0 % (12.5 %)",
        "6 warm": "25.0 % (75.0 %)",
        "7 loading": "25.0 % (0.0 %)",
    }
    (alone,) = rows(script(ROOT / "benchmarks" / "genuine.py").plain([near]))
    assert list(alone.values()) == ["paper, window 0", "tyche", "40", "200 / 300", "2", "3"]
