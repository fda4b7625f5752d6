"""Every number and mark of a report, read off the page and held against sums that were planted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from rich.console import Console

from agents.evidence.figures import STAGE_COLOURS, colours, figures
from agents.evidence.rates import BINS_PER_DECADE
from agents.evidence.report import _difference, write_report
from agents.evidence.run_folder import RunFolder
from agents.evidence.tables import COLUMNS, columns_of, evidence, ms, percent, points, show, unserved, usd
from tests.agents.evidence.planted import a_folder, a_row, tables_of
from tyche_env.metrics import STAGES

GROUPS = 8
LEVELS_MS = np.array([100.0, 120.0, 90.0, 110.0, 130.0, 80.0, 105.0, 115.0])
"""What the function of each group waits without pre-loading."""
SHARES = {
    "none": np.ones(GROUPS),
    "half": np.full(GROUPS, 0.5),
    "double": np.full(GROUPS, 2.0),
    "mixed": np.array([0.5, 1.6, 0.7, 1.4, 0.6, 1.3, 0.8, 1.2]),
    "oracle": np.full(GROUPS, 0.1),
}
"""What of it under each policy."""
REQUESTS = np.array([10, 20, 30, 40, 10, 20, 30, 40])
PLANTED: dict[str, dict[str, float]] = {
    "none": {"preload_gb_s": 0, "load_us": 0, "preloaded": 0, "cold": 5, "cost_usd": 1.0},
    "half": {"preload_gb_s": 400, "load_us": 3e6, "preloaded": 4, "cold": 1, "cost_usd": 1.5},
    "double": {"preload_gb_s": 800, "load_us": 9e6, "preloaded": 1, "cold": 9, "cost_usd": 0.5},
    "mixed": {"preload_gb_s": 40, "load_us": 1e6, "preloaded": 2, "cold": 3, "cost_usd": 1.0},
    "oracle": {"preload_gb_s": 200, "load_us": 2e6, "preloaded": 9, "cold": 0, "cost_usd": 0.75},
}
"""The same in each window."""
STAGES_US = {"queue": 1e3, "scheduling": 2e3, "warming": 4e3, "library": 8e3, "model": 16e3, "transfer": 32e3}
"""Sums of the stages in each window."""


def row(policy: str, group: int) -> dict[str, Any]:
    waits = {0: (int(REQUESTS[group]), float(LEVELS_MS[group] * SHARES[policy][group]))}
    stages = {f"{stage}_us": us for stage, us in STAGES_US.items()}
    (requests, waited_ms), *_ = waits.values()
    stages["inference_us"] = 1e3 * requests * (waited_ms + 100) - sum(STAGES_US.values())
    return a_row(policy, f"g{group}", group, waits, **PLANTED[policy], **stages)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    rows = [row(policy, group) for group in range(GROUPS) for policy in SHARES]
    return a_folder(tmp_path_factory.mktemp("planted") / "run", rows)


@pytest.fixture(scope="module")
def page(folder: RunFolder) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def number(text: str) -> float:
    """What a cell says."""
    plain = text.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("+", "")
    return float(plain.removesuffix(" %")) / (100 if plain.endswith("%") else 1)


def per_function(policy: str) -> float:
    return float(np.mean(LEVELS_MS * SHARES[policy]))


def per_request(policy: str) -> float:
    return float((LEVELS_MS * SHARES[policy] * REQUESTS).sum() / REQUESTS.sum())


def planted(policy: str) -> dict[str, float]:
    """The figures of a policy by the heading of their column."""
    sums, requests = PLANTED[policy], REQUESTS.sum()
    slowest = np.repeat(LEVELS_MS * SHARES[policy], REQUESTS) + 100
    return {
        "warming+loading\nms, per function": per_function(policy),
        "warming+loading\nms, per request": per_request(policy),
        "held\nGB s a window": sums["preload_gb_s"],
        "loading ahead\ns a window": sums["load_us"] / 1e6,
        "end to end\nms, mean": per_request(policy) + 100,
        "end to end\nms, p99": float(slowest.max()),
        "pre-loaded\nshare": sums["preloaded"] * GROUPS / requests,
        "cold\nshare": sums["cold"] * GROUPS / requests,
        "cost\nUSD a window": sums["cost_usd"],
    }


def test_every_number_of_the_results_is_what_was_planted(page: str) -> None:
    heading, *table = tables_of(page)[0]
    headings = [cell[0][0] for cell in heading]
    assert headings[0] == "policy"
    assert [line[0][0][0] for line in table] == list(SHARES)
    for name, *cells in table:
        expected = planted(name[0][0])
        assert headings[1:] == list(expected)
        for title, cell in zip(headings[1:], cells, strict=True):
            assert number(cell[0][0]) == pytest.approx(expected[title], rel=0.01, abs=5.1e-4), (name, title)
            spans = [text for text, kind in cell if kind == "span"]
            assert len(spans) == title.startswith("warming")
            for text in spans:
                low, high = map(number, text.split(" to "))
                assert low < expected[title] < high


def test_every_difference_has_its_sign_its_interval_and_its_mark(page: str, folder: RunFolder) -> None:
    heading, *table = tables_of(page)[1]
    assert [cell[0][0] for cell in heading][1:] == [
        "warming + loading, per function, ms",
        "warming + loading, per request, ms",
        "end to end, ms",
        "pre-loaded share, points",
        "cost, USD",
    ]
    assert [line[0][0][0] for line in table] == ["half", "double", "mixed", "oracle"]
    marks = {}
    for name, *cells in table:
        policy = name[0][0]
        expected = [
            per_function(policy) - per_function("none"),
            per_request(policy) - per_request("none"),
            per_request(policy) - per_request("none"),
            100 * (PLANTED[policy]["preloaded"] - 0) * GROUPS / REQUESTS.sum(),
            PLANTED[policy]["cost_usd"] - 1.0,
        ]
        for cell, value in zip(cells, expected, strict=True):
            assert number(cell[0][0]) == pytest.approx(value, rel=0.01, abs=5.1e-4 if value < 1 else 0.051)
        marks[policy] = [cell[0][1] for cell in cells]
        (entry,) = (
            each
            for each in folder.summary["comparisons"]
            if (each["policy"], each["metric"]) == (policy, "warming_loading_ms_function_mean")
        )
        low, high = map(number, next(text for text, kind in cells[0] if kind == "span").split(" to "))
        assert (low, high) == pytest.approx((entry["difference"]["low"], entry["difference"]["high"]), rel=0.01)
    assert marks["half"] == ["better", "better", "better", "better", "worse"]
    assert marks["double"] == ["worse", "worse", "worse", "better", "better"]
    assert marks["mixed"] == ["", "", "", "better", ""], "nothing but hits differs for sure, and cost is equal"
    assert marks["oracle"] == ["better"] * 5


def test_every_number_on_the_terminal_is_what_was_planted(folder: RunFolder) -> None:
    console = Console(record=True, width=400)
    show(console, folder.summary)
    lines = [line for line in console.export_text().splitlines() if line.strip()]
    assert lines[0].strip() == "openwhisk pre-warming, realistic mode"
    assert lines[-1].endswith("* differs from none.")
    first, second, _, *rows = ([cell.strip() for cell in re.split(r"\s{2,}", line.strip())] for line in lines[1:9])
    headings = list(planted("none"))
    assert first == [heading.split("\n")[0] for heading in headings] + ["per function,", "of the gap"]
    assert second == ["policy", *(heading.split("\n")[1] for heading in headings), "against none", "to the oracle"]
    share_of_gap = {"half": "56 %", "double": "-111 %", "oracle": "100 %"}  # of 90 % of none's waiting
    for row, policy in zip(rows, SHARES, strict=True):
        name, *cells = row
        assert name == policy
        for heading, cell in zip(headings, cells, strict=False):
            mean, _, limits = cell.partition(" [")
            value = planted(policy)[heading]
            assert number(mean) == pytest.approx(value, rel=0.01, abs=5.1e-4), (policy, heading)
            assert bool(limits) == heading.startswith("warming")
            if limits:
                low, high = map(number, limits.rstrip("]").split(", "))
                assert low < value < high
        relative = per_function(policy) / per_function("none") - 1
        clear = "*" if policy in ("half", "double", "oracle") else ""
        more = cells[len(headings) :]
        if policy == "none":
            assert more == []
            continue
        assert more[0] == f"{100 * relative:+.0f} %{clear}"
        if policy in share_of_gap:
            assert more[1] == share_of_gap[policy]


@pytest.mark.parametrize(
    ("unserved_rate", "slo_rate", "more"),
    [
        (0.0, None, {}),
        (None, None, {}),
        (0.02, None, {"not served\nshare": "2.0 %", "warming+loading\nms, of those served": "7"}),
        (0.0, 0.9, {"within\nobjective": "90.0 %"}),
    ],
)
def test_a_column_is_shown_where_it_matters(
    unserved_rate: float | None, slo_rate: float | None, more: dict[str, str]
) -> None:
    rates = {"unserved_rate": unserved_rate, "slo_rate": slo_rate}
    entry = {name: None if rate is None else {"mean": rate} for name, rate in rates.items()}
    entry["warming_loading_ms_served_mean"] = {"mean": 7.0}
    found = columns_of([entry])[len(COLUMNS) :]
    assert {column.heading: column.form(entry[column.metric]["mean"]) for column in found} == more  # type: ignore[index]


def test_values_keep_their_digits_whatever_their_size() -> None:
    assert [usd(value) for value in (1234.5, 1.0, 0.5, 0.00123)] == ["1234.50", "1.00", "0.5", "0.0012"]
    assert [ms(value) for value in (12345.6, 100.4, 99.94, 0.01234)] == ["12,346", "100", "99.9", "0.0123"]
    assert (percent(0.1234), points(-0.1234)) == ("12.3 %", "-12.3")


def test_what_stands_around_the_tables_is_right(page: str, folder: RunFolder) -> None:
    assert f"<b>{REQUESTS.sum():,} requests</b>" in page, "once, not once a policy"
    assert "Pooled over 8 windows of 8 groups of functions; brackets: 95 % intervals, by group." in page
    assert "Against none, half saves 50 % of the warming and loading time, averaged over functions" in page
    # from 100 to 10 % of none's waiting; half of it is 50 / 90 of the way
    assert "half 56 % (56 to 56)" in page
    assert "not served" not in page.partition("What the numbers mean")[0]
    few = {"aggregates": [{**folder.summary["aggregates"][0], "groups": 7, "windows": 7}]}
    assert evidence(few).endswith("no intervals and no stars with fewer than 8 groups.")


def test_many_unserved_requests_are_said() -> None:
    entry = {"policy": "p", "prewarm": "openwhisk", "mode": "paper"}
    rates = {"unserved": 0.03, "timed_out": 0.02, "rejected": 0.0, "failed": 0.01}
    entry |= {f"{kind}_rate": {"mean": rate} for kind, rate in rates.items()}  # type: ignore[misc]
    expected = "Requests that were not served: p (openwhisk, paper): 2.0 % timed out, 1.0 % failed."
    assert unserved({"aggregates": [entry]}) == expected
    assert unserved({"aggregates": [entry | {"unserved_rate": {"mean": 0.01}}]}) == ""


def says_its_ticks(axis: Any) -> None:
    """Marks of a share stand where they say."""
    for place, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True):
        assert float(label.get_text().removesuffix(" %")) == pytest.approx(100 * place)


def seen_whole(axis: Any) -> None:
    """Nothing that is drawn lies outside of the axes' limits."""
    (left, right), (low, high) = axis.get_xlim(), sorted(axis.get_ylim())
    for line in axis.lines:
        assert left <= min(line.get_xdata())
        assert max(line.get_xdata()) <= right
        assert low <= min(line.get_ydata())
        assert max(line.get_ydata()) <= high
    for bar in axis.patches:
        assert left <= bar.get_x() <= bar.get_x() + bar.get_width() <= right


def test_figures_draw_what_was_planted(folder: RunFolder) -> None:
    drawn = {figure.name: figure for figure in figures(folder.summary, folder.rows(), {})}

    def axis_of(name: str) -> Any:
        axis = Canvas().subplots()
        drawn[name].draw(axis, ("realistic", "openwhisk"))
        seen_whole(axis)
        return axis

    colour = colours(list(SHARES))
    axis = axis_of("warming-loading")
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([per_function(policy) for policy in SHARES])
    assert [to_hex(bar.get_facecolor()) for bar in axis.patches] == [colour[policy] for policy in SHARES]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(SHARES)
    assert [float(text.get_text()) for text in axis.texts] == pytest.approx(list(map(per_function, SHARES)), rel=0.01)
    assert "ms" in axis.get_xlabel()
    limits = {tuple(line.get_xdata()) for line in axis.lines}
    for entry in folder.summary["aggregates"]:
        low, high = (entry["warming_loading_ms_function_mean"][end] for end in ("low", "high"))
        assert {(low, high), (low, low), (high, high)} <= limits
    stage_of = {to_hex(colour): stage for stage, colour in STAGE_COLOURS.items()}
    lengths: dict[int, dict[str, float]] = {}
    for bar in axis_of("stages").patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        lengths.setdefault(place, {})[stage_of[to_hex(bar.get_facecolor())]] = bar.get_width()
    for place in range(len(SHARES)):
        for stage, us in STAGES_US.items():
            assert lengths[place][stage] == pytest.approx(us * GROUPS / REQUESTS.sum() / 1e3)
    totals = [text for text in axis_of("stages").texts if text.get_text() not in STAGE_COLOURS]
    assert [float(text.get_text()) for text in totals] == pytest.approx(
        [per_request(policy) + 100 for policy in SHARES], rel=0.01
    )
    axis = axis_of("cost")
    assert [to_hex(line.get_color()) for line in axis.lines] == [colour[policy] for policy in SHARES]
    assert [(text.get_text(), text.xy[0]) for text in axis.texts] == [
        (policy, PLANTED[policy]["preload_gb_s"]) for policy in SHARES
    ]
    assert (axis.get_xlabel(), axis.get_ylabel()) == (
        *("memory held ahead of requests, GB s a window", "warming + loading, ms"),
    )
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis_of("cost").lines]
    assert dots == [(PLANTED[policy]["preload_gb_s"], pytest.approx(per_function(policy))) for policy in SHARES]
    for line, policy in zip(axis_of("latency").lines, SHARES, strict=True):
        latency_ms = np.repeat(LEVELS_MS * SHARES[policy], REQUESTS) + 100
        for edge_ms, share in zip(*line.get_data(), strict=True):
            assert share == pytest.approx(np.mean(latency_ms < edge_ms))
        assert to_hex(line.get_color()) == colour[policy]
    # from below: the slowest first, by the median
    axis = axis_of("latency")
    says_its_ticks(axis)
    assert [text.get_text() for text in axis.texts] == ["double", "none", "mixed", "half", "oracle"]
    assert set(STAGES) < set(STAGE_COLOURS)


def test_what_unserved_requests_waited_is_the_last_stage(folder: RunFolder) -> None:
    (entry,) = (each for each in folder.summary["aggregates"] if each["policy"] == "none")
    stages = {f"{stage}_ms_mean": {"mean": 10.0} for stage in STAGES}
    entry = {**entry, **stages, "end_to_end_ms_mean": {"mean": 100.0}, "unserved_rate": {"mean": 0.1}}
    (figure,) = (each for each in figures({"aggregates": [entry]}, [], {}) if each.name == "stages")
    axis: Any = Canvas().subplots()
    figure.draw(axis, ("realistic", "openwhisk"))
    seen_whole(axis)
    assert [bar.get_x() for bar in axis.patches] == pytest.approx([10.0 * place for place in range(8)])
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([10.0] * 7 + [30.0])
    assert to_hex(axis.patches[-1].get_facecolor()) == STAGE_COLOURS["not served"]
    assert axis.texts[-1].get_text() == "100"


def test_hits_by_rate_are_shares_of_the_requests_of_functions_of_that_rate(folder: RunFolder) -> None:
    # half bins of a decade of requests a minute, from 1 on
    rates = {"none": [[[-1, 10, 0], [1, 30, 3]], [[1, 10, 1]]], "half": [[[-1, 10, 5]], [[1, 40, 30]]]}
    rows = [
        {"policy": policy, "mode": "realistic", "prewarm": "openwhisk", "by_rate": found}
        for policy, runs in rates.items()
        for found in runs
    ]
    (figure,) = (each for each in figures(folder.summary, rows, {}) if each.name == "hits-by-rate")
    axis: Any = Canvas().subplots()
    figure.draw(axis, ("realistic", "openwhisk"))
    seen_whole(axis)
    none, half = axis.lines
    assert BINS_PER_DECADE == 2
    # the middles of the bins, an hour: 60 x 10 ** -0.25 and 60 x 10 ** 0.75
    assert none.get_xdata() == pytest.approx([33.74, 337.4], rel=1e-3)
    assert none.get_ydata() == pytest.approx([0.0, 0.1])
    assert half.get_ydata() == pytest.approx([0.5, 0.75])
    assert [to_hex(line.get_color()) for line in (none, half)] == [colours(list(SHARES))[each] for each in rates]
    assert [text.get_text() for text in axis.texts] == ["none", "half"], "from below, the least share first"
    assert axis.get_xlabel() == "requests an hour of the function"
    says_its_ticks(axis)


def test_what_costs_more_is_marked_as_worse_and_what_is_unclear_is_not_marked() -> None:
    def entry(metric: str, mean: float, clear: bool) -> dict[str, Any]:
        spread = {"mean": mean, "low": mean - 1e-3, "high": mean + 1e-3}
        return {"metric": metric, "difference": spread, "clear_of_zero": clear}

    shown = [
        _difference(entry(*each))["mark"]
        for each in (
            ("cost_usd", 1.0, True),
            ("cost_usd", -1.0, True),
            ("preload_rate", 0.5, True),
            ("preload_rate", -0.5, True),
            ("end_to_end_ms_mean", 5.0, True),
            ("end_to_end_ms_mean", 5.0, False),
        )
    ]
    assert shown == ["worse", "better", "better", "worse", "worse", ""]


def test_a_folder_that_nobody_can_play_again_has_no_timeline(page: str, tmp_path: Path) -> None:
    assert 'id="timeline"' not in page
