"""What pages and commands show, held against planted values: which value stands under which heading, and its unit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jinja2
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from rich.console import Console

from agents.cli.simulate import _metrics
from agents.evidence import board_report, report
from agents.evidence.board_report import _cost, _means, _profiles, finding
from agents.evidence.figures import MEMORY_COLOURS, _memory
from agents.evidence.measure import CEILING, HEURISTICS
from agents.evidence.report import write_report
from agents.evidence.standings import HEADINGS, against_the_known, as_markdown, cells, standings
from agents.evidence.statistics import conclusions
from agents.evidence.tables import HEADLINE, failing_loads, lost_containers, points
from agents.experiments.checks import sensitivity
from agents.experiments.fidelity import TIMES, _against
from agents.experiments.fidelity_report import FIGURES, much_unserved, show, time_rows, write
from agents.experiments.tables import markdown
from agents.playing.timeline import KINDS
from agents.policies.bundle import Bundle
from agents.training.seeds import _described
from tests.agents.evidence import planted
from tests.agents.evidence.test_report_planted import says_its_ticks
from tests.agents.evidence.test_standings import a_row as a_standing
from tests.agents.experiments.test_fidelity import requests
from tyche_env.cli import run
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import StartType


def template(name: str) -> str:
    return (files("agents.evidence") / "templates" / name).read_text(encoding="utf-8")


# -- pages -------------------------------------------------------------------------------------------------------------


def test_the_fidelity_page_has_each_share_and_time_under_its_heading(tmp_path: Path) -> None:
    condition: dict[str, Any] = {"policy": "none", "prewarm": "openwhisk", "mode": "paper", "statuses": {"OK": 4}}
    condition |= _against([requests([100.0] * 4, StartType.COLD)], requests([150.0] * 4, StartType.WARM))
    found = {
        "scenario": "toys",
        "split": "test",
        "windows": 7,
        "repetitions": 3,
        "draws": 20,
        "machine": ["x", "y"],
        "tolerances": {"mean": 0.1, "p95": 0.2, "share": 0.05},
        "conditions": [condition],
    }
    condition["unserved"] = 1
    page = write(found, tmp_path).read_text(encoding="utf-8")
    times, shares = planted.tables_of(page)
    assert "<h1>toys: real containers against the simulator</h1>" in page
    assert "7 test windows, 3 real repetitions, 20 simulated draws; x; y." in page
    assert "4 real requests, 1 of them not served (OK 4, warm-up included)." in page
    assert "start types: up to 100.0 points (!) (allowed 5); or within the spread of the repetitions" in page
    headings, *rows = [[cell[0][0] for cell in line] for line in shares]
    starts = {line[0]: dict(zip(headings, line, strict=True)) for line in rows}
    cold, warm = starts["cold"], starts["warm"]
    assert cold == {"start type": "cold", "real": "100.0 %", "simulated": "0.0 %", "points": "-100.0"}
    assert warm == {"start type": "warm", "real": "0.0 %", "simulated": "100.0 %", "points": "+100.0"}
    headings, *rows = [[cell[0][0] for cell in line] for line in times]
    assert headings[1:4] == ["mean, real", "simulated", "error"]
    assert rows[0][:4] == ["warming + loading", "100", "150", "+50.0 %"]
    console = Console(record=True, width=200)
    show(console, found)
    title, *lines = [line.strip() for line in console.export_text().splitlines() if line.strip()]
    assert title.endswith("4 real requests in 3 repetitions, 1 of them not served")
    assert lines[0].split() == ["mean", "mean", "mean", "p50", "p50", "p50", "p95", "p95", "p95"]
    assert lines[1].split() == ["ms", *("real", "sim", "error") * 3]
    (loading,) = (" ".join(line.split()) for line in lines if line.startswith("warming + loading  "))
    assert loading == " ".join(["warming + loading", *["100 150 +50.0 %"] * 3])
    assert "cold 100.0 % 0.0 % -100.0" in [" ".join(line.split()) for line in lines]


def test_the_times_of_a_study_have_their_names_and_figures() -> None:
    def figures(place: int, factor: float) -> dict[str, float]:
        return {"mean": factor * (100 + place), "p50": factor * (200 + place), "p95": factor * (300 + place)}

    times: dict[str, dict[str, dict[str, Any]]] = {
        name: {"real": figures(place, 1), "simulated": figures(place, 10), "error": dict.fromkeys(FIGURES, place / 10)}
        for place, name in enumerate(TIMES)
    }
    times["queue"]["error"] = {**times["queue"]["error"], "p50": None}
    found = dict(time_rows({"times": times}))
    assert list(found) == [
        *("warming + loading", "end to end", "warming + loading, served"),
        *("queue", "scheduling", "warming", "library", "model", "transfer", "inference", "end to end, served"),
    ]
    assert found["end to end"] == [
        ("101", "1,010", "+10.0 %"),
        ("201", "2,010", "+10.0 %"),
        ("301", "3,010", "+10.0 %"),
    ]
    assert found["warming + loading, served"][0] == ("102", "1,020", "+20.0 %")
    assert found["end to end, served"][2] == ("310", "3,100", "+100.0 %")
    assert found["queue"][1] == ("203", "2,030", "\N{EN DASH}")


def test_the_page_of_trained_agents_counts_their_training_seeds() -> None:
    about = {"recipe": "r", "kind": "k", "members": [1, 2, 3], "data": "d"}
    source = jinja2.Environment().from_string(template("trained.html"))
    page = source.render(agents={"mine": about}, scenarios=["s"], versions={})
    assert "recipe r (k), 3 training seeds; d" in page
    # agents.evidence.statistics.Parts: what an interval rests on
    assert "95 % intervals, by group of functions" in page


def test_the_report_says_what_was_run_with_which_time(tmp_path: Path) -> None:
    folder = planted.a_folder(tmp_path / "run", [planted.a_row("none", "g", 0, {0: (3, 5.0)})])
    folder.update_manifest(wall_s=7.0, cpu_s=3.0, command="tyche evaluate --planted", git="abc", versions={"x": "1.2"})
    text = write_report(folder).read_text(encoding="utf-8")
    listed = dict(re.findall(r"<dt>(.*?)</dt><dd>(?:<code>)?(.*?)(?:</code>)?</dd>", text))
    assert listed == {
        "command": "tyche evaluate --planted",
        "scenario hash": "0" * 16,
        "revision": "abc",
        "time": "7.0 s, of which the runs took 3.0 CPU seconds",
        "versions": "x 1.2",
    }
    facts = re.findall(r"<li>(.*?)</li>", text)
    assert [re.sub("<.*?>", "", fact) for fact in facts] == [
        *("3 requests", "1 test windows", "1 seed", "decisions at events", "real containers")
    ]


def test_the_timeline_s_words_are_in_the_order_of_their_codes() -> None:
    (listed,) = re.findall(r"KINDS = \[([^\]]*)\]", template("timeline.js"))
    # agents.playing.timeline: a stay is 0 held, 1 loading, 2 on the GPU
    assert re.findall('"([^"]+)"', listed) == ["held", "loading", "on the GPU"]


def test_the_timeline_s_starts_are_in_the_order_of_their_codes_and_what_loads_is_drawn_faint() -> None:
    script = template("timeline.js")
    (listed,) = re.findall(r"RUNS = \[(.*)\];", script)
    names = re.findall(r'\["([^"]+)", "#', listed)
    # a run's third number is a StartType
    assert [name.lower() for name in names] == [start.name.lower() for start in sorted(StartType)]
    assert names == ["GPU", "memory", "loading", "warm", "cold"]
    # a stay's is 0 held, 1 loading, 2 on the GPU
    assert "pen.globalAlpha = kind === 1 ? 0.45 : 1;" in script
    assert "${kind === 2 ? 45 : 60}%" in script
    assert "pen.fillStyle = RUNS[type][1];" in script


def test_loads_that_failed_are_added_over_all_runs() -> None:
    rows: list[dict[str, Any]] = [
        {"health": {"failing_loads": {"f": [3, "no weights"], "g": [1, "too large"]}}},
        {"health": {}},
        {"health": {"failing_loads": {"f": [40, "no weights"]}}},
        {},
    ]
    assert failing_loads(rows) == "Loads that failed: f 43 times (no weights); g 1 time (too large)."
    assert failing_loads([{}]) == ""


def test_containers_that_were_lost_are_added_by_condition() -> None:
    where = {"prewarm": "openwhisk", "mode": "paper"}
    rows: list[dict[str, Any]] = [
        {"policy": "none", **where, "health": {"lost_containers": 0}},
        {"policy": "tyche", **where, "health": {"lost_containers": 16}},
        {"policy": "tyche", **where, "health": {"lost_containers": 2}},
        {"policy": "lru", **where},
        {"policy": "tyche", "prewarm": "openwhisk", "mode": "realistic", "health": {"lost_containers": 1}},
    ]
    told = lost_containers(rows)
    assert told.startswith("Containers that were lost: tyche (openwhisk, paper) 18, tyche (openwhisk, realistic) 1. ")
    assert "has the platform memory for all containers, and was nobody else on it?" in told
    assert lost_containers(rows[:1]) == lost_containers([{}]) == ""


def test_a_study_counts_as_unserved_what_of_the_scored_requests_was_not() -> None:
    """Not what its statuses say, which count the warm-up as well."""
    condition = {"policy": "none", "prewarm": "openwhisk", "mode": "paper", "requests": 200, "statuses": {"OK": 500}}
    few, many = condition | {"unserved": 2}, condition | {"unserved": 5, "prewarm": "histogram"}
    warm_up = condition | {"unserved": 0, "statuses": {"OK": 100, "FAILED": 400}}
    assert much_unserved({"conditions": [few, warm_up]}) == ""
    found = much_unserved({"conditions": [few, many, warm_up]})
    assert found == "Requests that were not served: none (histogram, paper): 2.5 %."


def test_a_trained_seed_is_told_with_its_own_figures(bundle: Bundle) -> None:
    told = {"chosen": "horizon 10 s", "validation_cost_of_tyche": 0.25, "cpu_s": 61.7}
    line = _described(replace(bundle, manifest=told))
    assert line.startswith("horizon 10 s, ")
    assert line.endswith(", 0.250 of Tyche's cost on validation windows, 62 CPU s")


# -- figures -----------------------------------------------------------------------------------------------------------


def test_memory_over_time_is_the_mean_of_the_steps_that_a_point_stands_for() -> None:
    memory_gb = np.zeros((600, 4))
    memory_gb[::2, 0], memory_gb[1::2, 0] = 1, 3
    memory_gb[:, 3] = 4 - memory_gb[:, 0]
    seen = cast(Any, SimpleNamespace(time_s=np.arange(1.0, 601), memory_gb=memory_gb))
    axis = Canvas().subplots()
    _memory({"x": seen}).draw(axis, "x")
    assert cast(Any, axis.collections[0].get_paths()[0].vertices)[:, 1].max() == 2


def test_each_kind_of_memory_has_the_colour_that_the_legend_gives_it() -> None:
    planted_gb = {"running": 1.0, "idle, empty": 2.0, "holding functions": 4.0, "free": 8.0}
    memory_gb = np.zeros((600, len(planted_gb)))
    for place, kind in enumerate(KINDS):
        memory_gb[:, place] = planted_gb[kind]
    seen = cast(Any, SimpleNamespace(time_s=np.arange(1.0, 601), memory_gb=memory_gb))
    axis = Canvas().subplots()
    _memory({"x": seen}).draw(axis, "x")
    kind_of = {to_hex(colour): kind for kind, colour in MEMORY_COLOURS.items()}
    drawn = {}
    for area in axis.collections:
        heights = cast(Any, area.get_paths()[0].vertices)[:, 1]
        drawn[kind_of[to_hex(cast(Any, area.get_facecolor())[0])]] = heights.max() - heights.min()
    assert drawn == planted_gb
    assert axis.get_ylim() == (0, 15)
    assert axis.get_xlim() == pytest.approx((2 / 60, 10))


def test_the_lines_of_a_board_are_one_standard_deviation_long() -> None:
    each: Any = SimpleNamespace(
        scenario="s", metric="request_ms", policy="p", mean=100.0, seeds=2, seed_deviation=5.0, besides={}
    )
    axis = Canvas().subplots()
    _means([each], {"p": "red"}).draw(axis, ("s", "request_ms"))
    assert np.asarray(axis.lines[0].get_xdata()).tolist() == [95, 105]


def test_the_figures_of_a_board_show_each_policy_s_cost_in_its_colour_and_order() -> None:
    planted_ms = {"slow": (300.0, 10.0), "fast": (100.0, 40.0), "middle": (200.0, 25.0)}
    entries: list[Any] = [
        SimpleNamespace(
            scenario=scenario,
            metric="request_ms",
            policy=policy,
            mean=mean_ms * factor,
            seeds=1,
            seed_deviation=9.0,
            besides={"preload_gb_s": held},
        )
        for scenario, factor in (("s", 1), ("other", 7))
        for policy, (mean_ms, held) in planted_ms.items()
    ]
    colour = {"slow": "#ff0000", "fast": "#00ff00", "middle": "#0000ff"}
    figure = _means(entries, colour)
    assert [title for title, _ in figure.panels] == ["s, per request", "other, per request"]
    axis = cast(Any, Canvas().subplots())
    figure.draw(axis, figure.panels[0][1])
    order = ["fast", "middle", "slow"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == order
    assert [bar.get_width() for bar in axis.patches] == [100, 200, 300]
    assert [to_hex(bar.get_facecolor()) for bar in axis.patches] == [colour[each] for each in order]
    assert [text.get_text() for text in axis.texts] == ["100", "200", "300"]
    assert not axis.lines, "a single seed has no deviation"
    assert axis.get_xlim()[1] > 300
    axis = cast(Any, Canvas().subplots())
    _cost(entries, colour).draw(axis, ("s", "request_ms"))
    dots = {line.get_color(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines}
    assert dots == {colour[policy]: (held, mean_ms) for policy, (mean_ms, held) in planted_ms.items()}
    assert [(text.get_text(), to_hex(text.get_color())) for text in axis.texts] == [
        (policy, colour[policy]) for policy in order
    ]


def test_a_profile_is_the_share_of_windows_whose_cost_is_at_most_a_multiple_of_tyche_s() -> None:
    rows = [
        {"scenario": "s", "policy": policy, "seed": 0, "group": "g", "window": window, "request_ms": cost_ms}
        for policy, costs in (("tyche", (100.0, 200.0)), ("mine", (50.0, 300.0)))
        for window, cost_ms in enumerate(costs)
    ]
    rows.append(rows[0] | {"scenario": "another", "request_ms": 1.0})
    colour = {"tyche": "#ff0000", "mine": "#00ff00"}
    axis = cast(Any, Canvas().subplots())
    _profiles(rows, colour).draw(axis, ("s", "request_ms"))
    tyche, mine = ({round(x, 2): y for x, y in zip(*line.get_data(), strict=True)} for line in axis.lines)
    assert (tyche[0.99], tyche[1.0]) == (0, 1)
    assert (mine[0.49], mine[0.5], mine[1.49], mine[1.5]) == (0, 0.5, 0.5, 1)
    assert [line.get_color() for line in axis.lines] == list(colour.values())
    assert axis.get_xlim() == (0, 2)
    says_its_ticks(axis)


def test_curves_have_steps_across_and_a_line_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {"hazard/loss": {"seed-0": ([1, 2], [9.0, 8.0]), "seed-1": ([1, 3], [7.0, 6.0])}, "time/fps": {}}
    monkeypatch.setattr(board_report, "curves_of", lambda _: curves)
    (figure,) = board_report._curves([Path("mine")])
    assert [title for title, _ in figure.panels] == ["mine, hazard/loss"]
    axis = cast(Any, Canvas().subplots())
    figure.draw(axis, figure.panels[0][1])
    assert [[list(each) for each in line.get_data()] for line in axis.lines] == [[[1, 2], [9, 8]], [[1, 3], [7, 6]]]
    assert axis.get_ylabel() == "loss"


def test_the_finding_of_a_board_is_the_best_agent_s_over_functions() -> None:
    def standing(policy: str, metric: str, mean_ms: float, relative: float, clear: bool) -> Any:
        return SimpleNamespace(
            scenario="s",
            metric=metric,
            policy=policy,
            mean=mean_ms,
            relative=relative,
            versus="lru",
            clear_of_zero=clear,
        )

    entries = [
        standing("lru", "function_ms", 50.0, 0.0, False),
        standing("worse", "function_ms", 90.0, -0.1, True),
        standing("better", "function_ms", 80.0, -0.25, False),
        standing("worse", "request_ms", 1.0, -0.99, True),
    ]
    said = finding(entries, ["worse", "better"])
    assert said == "Waiting of the average function. s: better -25 % against lru, not clear of 0."
    assert finding(entries, []) == ""


# -- boards ------------------------------------------------------------------------------------------------------------

ROWS = [
    a_standing(name, f"g{window}", window, {0: (10, mean_ms - 10)})
    for name, mean_ms in (*((each, 250.0) for each in HEURISTICS), (CEILING, 50.0), ("mine", 150.0))
    for window in (0, 1)
]
"""Every heuristic costs 250 ms, the ceiling 50, the agent 150; loads are 10 ms a request of it, 0.1 s a request."""


def test_a_board_has_each_figure_under_its_heading() -> None:
    (mine,) = (each for each in standings(ROWS) if (each.policy, each.metric) == ("mine", "request_ms"))
    shown = dict(zip(HEADINGS, cells(mine), strict=True))
    assert shown.pop("against").startswith("-40 % (")
    assert shown == {
        "policy": "mine",
        "ms": "150.0",
        "IQM / Tyche": "0.60",
        "training seeds": "",
        "share of the gap closed": "50 %",
        "better in": "100 %",
        "hits": "0.0 %",
        "load s a request": "0.10",
        "preload GB s": "0",
    }
    lines = [line for line in as_markdown(standings(ROWS)).splitlines() if line.startswith("| mine |")]
    assert [line.split(" | ")[1] for line in lines] == ["150.0", "150.0"]


def test_the_table_against_the_known_shows_ms() -> None:
    lines = [line.split(" | ") for line in against_the_known(ROWS).splitlines() if " | mine | " in line]
    assert [(line[2], line[3], line[4][:6]) for line in lines] == [("150.0", "50 %", "-40 % ")] * 2


def test_the_report_s_first_sentences_by_hand() -> None:
    def rows(groups: int, seeds: int = 1) -> list[dict[str, Any]]:
        means = {"none": (100.0, 300.0), "tyche": (90.0, 200.0), "oracle": (0.0, 0.0)}
        return [
            planted.a_row(policy, f"g{group}", group, {0: (30, often_ms), 1: (10, seldom_ms)}, seed)
            for policy, (often_ms, seldom_ms) in means.items()
            for group in range(groups)
            for seed in range(seeds)
        ]

    few = conclusions(rows(2), "none")
    # per function 200 and 145 ms, per request 150 and 117.5 ms; the oracle is no rival
    assert report.finding(few, "realistic", "openwhisk") == (
        "Against none, tyche saves 28 % of the warming and loading time, averaged over functions: "
        f"{report.MINUS}55 ms. With so few groups of functions no interval can be given. "
        f"Averaged over requests: {report.MINUS}32.5 ms."
    )
    assert report.finding(few, "paper", "openwhisk") == ""
    unpooled = {**few, "comparisons": [each for each in few["comparisons"] if each["metric"] == HEADLINE]}
    assert report.finding(unpooled, "realistic", "openwhisk").endswith("no interval can be given.")
    many = report.finding(conclusions(rows(9), "none"), "realistic", "openwhisk")
    assert f"{report.MINUS}55 ms (95 % interval {report.MINUS}55 to {report.MINUS}55). Averaged" in many
    worse = report.finding(conclusions(rows(2)[:4], "tyche"), "realistic", "openwhisk")
    assert worse.startswith("Against tyche, none adds 38 % of the warming and loading time")
    assert "functions: +55 ms" in worse
    signed = [report._signed(share, points) for share in (0.004, 0, -0.004)]
    assert signed == ["+0.4", "0.0", f"{report.MINUS}0.4"]
    assert report.scored(few) == "80 requests"
    assert report.scored(conclusions(rows(30, seeds=2), "none")) == "2,400 requests, 2 seeds together"


# -- commands ----------------------------------------------------------------------------------------------------------


def test_compare_shows_differences_relations_and_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mean_ms, hits in (("a", 100.0, 4), ("b", 50.0, 5)):
        rows = [
            planted.a_row("none", f"g{window // 2}", window, {0: (10, mean_ms)}, preloaded=hits) for window in range(6)
        ]
        planted.a_folder(tmp_path / name, rows)
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out.splitlines()
    (head,) = (line for line in printed if "pre-warming" in line)
    assert head.split() == ["policy", "pre-warming", "mode", "metric", "difference", "relative", "windows"]
    lines = {line.split()[3]: line.split() for line in printed if " none " in line}
    assert {tuple(words[:3]) for words in lines.values()} == {("none", "openwhisk", "realistic")}
    # words begin where their heading does, numbers end where it does
    (shown,) = (line for line in printed if " preload_rate " in line)
    for heading, word in (("pre-warming", "openwhisk"), ("mode", "realistic"), ("metric", "preload_rate")):
        assert head.index(heading) == shown.index(word)
    for heading, end in (("difference", "points"), ("windows", "6")):
        assert head.index(heading) + len(heading) == shown.rindex(end) + len(end)
    assert lines["warming_loading_ms_mean"][-4:] == ["-50", "-50", "%", "6"]
    # from 40 to 50 % is 10 points, and a quarter of 40 %
    assert lines["preload_rate"][-5:] == ["10.0", "points", "+25", "%", "6"]
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    entries = {entry["metric"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["warming_loading_ms_mean"]["difference"]["mean"] == -50.0


def test_simulate_counts_the_warm_up_in_its_speed() -> None:
    played = simulate(Scenario.load("small").world(kernel="tyche"))
    assert len(played.world.arrival_us) > played.totals["requests"].sum()
    assert _metrics(played)["invocations_per_cpu_s"] == len(played.world.arrival_us) / played.cpu_s


# -- experiments -------------------------------------------------------------------------------------------------------


def test_the_best_setting_is_the_one_of_least_latency() -> None:
    rows = [
        {"functions": 8, "setting": "p_load", "value": value, "end_to_end_ms_mean": mean_ms}
        for value, mean_ms in ((0.02, 110.0), (0.06, 100.0), (0.1, 120.0))
    ]
    (found,) = sensitivity(rows)
    # the paper's figure: from 592 to 684 ms
    assert found["detail"] == "by 20 %, best at 0.06 (paper 16 %, best at 0.06)"
    assert not found["holds"]


def test_an_experiment_s_table_has_each_value_under_its_heading_and_no_bound() -> None:
    rows = [
        {"policy": "tyche", "nodes": 4, "ms": 1234.5, "rate": 0.25, "ci": [1.0, 2.0]},
        {"policy": "bound", "nodes": 4, "bound_ms_mean": 0.0},
        {"policy": "none", "nodes": 4, "ms": 2000.0, "rate": 0.0, "ci": None},
    ]
    columns = [("ms", "ms"), ("95 %", "ci")]
    check = {"check": "it holds", "detail": "by 3", "holds": False, "cause": "planted"}
    summary = {
        "rows": rows,
        "axes": ["policy", "nodes"],
        "columns": columns,
        "checks": [check, {**check, "holds": True}],
    }
    assert markdown(summary).splitlines() == [
        "| policy | ms | 95 % |",
        "|---|---|---|",
        "| tyche | 1,234 | 1 to 2 |",
        "| none | 2,000 | - |",
        "",
        "1 of 2 checks hold. Outside:",
        "- it holds: by 3. Cause: planted.",
    ]
