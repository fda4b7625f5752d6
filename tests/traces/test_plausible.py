"""What requests ask for is worked by hand, and each wrong unit is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from traces import ColumnMap, Counts, Trace, load
from traces.commands import trace as commands
from traces.plausible import asked, dates, findings, work

Writer = Callable[[str, str], Path]
Table = Callable[..., Counts]

MINUTE_US = 60_000_000
COLUMNS = ColumnMap(time="t", function="f", duration="d")


def made(begin_s: list[float], run_s: list[float], end_s: float = 180) -> Trace:
    return Trace.build(
        names=["a", "b"],
        arrival_us=np.array([round(s * 1e6) for s in begin_s], np.int64),
        arrival_function=np.arange(len(begin_s), dtype=np.int32) % 2,
        duration_us=np.array([round(s * 1e6) for s in run_s], np.int64),
        end_us=round(end_s * 1e6),
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )


def problems(path: Path, columns: ColumnMap) -> list[str]:
    return [str(finding) for finding in findings(load(path, columns), columns)]


def rows(count: int, step: float, run: float) -> str:
    return "t,f,d\n" + "".join(f"{k * step:.9f},f,{run:.9f}\n" for k in range(count))


def test_requests_at_once_are_counted_to_the_end_and_the_busiest_minute_is_found() -> None:
    # 0..30 s, 50..110 s (10 s in the first minute, 50 in the second), 100..400 s: 20 in the second, 60 in the third,
    # and the rest behind the end
    found = work(made([0, 50, 100], [30, 60, 300]))
    assert found is not None
    assert found.concurrency_mean == pytest.approx((30 + 60 + 80) / 180)
    assert found.concurrency_peak == pytest.approx(70 / 60)
    assert (found.run_ms_p50, found.run_ms_p90, found.run_ms_max) == (60_000, 300_000, 300_000)


def test_the_busiest_minute_is_never_less_busy_than_the_mean() -> None:
    # one request that runs for all of 30 s, in a trace of 30 s
    found = work(made([0], [30], 30))
    assert found is not None
    assert (found.concurrency_mean, found.concurrency_peak) == (1, 1)


def test_quantiles_of_counts_weigh_functions_by_their_requests(table: Table) -> None:
    # f0: 1 + 2 requests of 10 ms, f1: 9 + 88 of 40 s, f2 is unknown and takes the median of both, but has none
    counts = replace(table([[1, 2], [9, 88], [0, 0]]), duration_ms=np.array([10.0, 40_000.0, np.nan]))
    found = work(counts)
    assert found is not None
    assert (found.run_ms_p50, found.run_ms_p99, found.run_ms_max) == (40_000, 40_000, 40_000)
    assert found.concurrency_mean == pytest.approx((3 * 0.01 + 97 * 40) / 120)
    assert found.concurrency_peak == pytest.approx((2 * 0.01 + 88 * 40) / 60)
    light = work(replace(counts, counts=np.array([[97, 0], [3, 0], [0, 0]], np.int32)))
    assert light is not None
    assert (light.run_ms_p50, light.run_ms_p90, light.run_ms_p99) == (10, 10, 40_000)


def test_one_function_without_a_run_time_takes_the_median_of_the_others(table: Table) -> None:
    counts = replace(table([[60], [60], [60]]), duration_ms=np.array([1000.0, np.nan, 3000.0]))
    assert asked(counts, 0, MINUTE_US)[1].tolist() == [60e6, 120e6, 180e6]
    found = work(counts)
    assert found is not None
    assert found.concurrency_mean == pytest.approx(6)


def test_nothing_is_said_of_run_times_that_nobody_knows(table: Table) -> None:
    assert work(replace(table([[5]]), duration_ms=np.array([np.nan]))) is None
    assert work(table([[0]])) is None
    assert work(replace(made([0, 1], [1, 1]), duration_us=np.zeros(0, np.int64))) is None


def test_a_part_of_the_time_is_asked_for_what_begins_in_it(table: Table) -> None:
    trace = made([0, 50, 100, 110], [30, 60, 300, 5])
    requests, run_us = asked(trace, 50_000_000, 110_000_000)
    assert (requests.tolist(), run_us.tolist()) == ([1, 1], [300e6, 60e6])
    requests, run_us = asked(table([[1, 2, 4]]), MINUTE_US + 1, 2 * MINUTE_US + 1)
    assert (requests.tolist(), run_us.tolist()) == ([6], [6 * 20e3])


def test_a_file_that_is_right_is_not_suspected(write: Writer, table: Table) -> None:
    assert problems(write("a.csv", rows(100, 1, 0.3)), COLUMNS) == []
    assert problems(write("b.csv", "t,f,d\n7,f,3\n"), COLUMNS) == []
    assert findings(table([[3, 100_000]])) == []


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        ("t,f,d\n7,f,3\n7,g,3\n", {}, "stamps: all 2 requests have the same time; is it the right column?"),
        (
            rows(100, 1, 0.3),
            {"time_unit": "us"},
            "length: the whole trace lasts 0.0001 s; is the time_unit us right?",
        ),
        (
            rows(60, 1, 200),
            {},
            "run times: half of the requests run 3.333 min or longer, the whole trace lasts 59 s; "
            "is the duration_unit s right?",
        ),
        (
            rows(60, 1, 100_000),
            {},
            "run times: half of the requests run 27.78 h or longer, more than a day; is the duration_unit s right?",
        ),
        (
            rows(60, 1, 0.3) + "60,f,61\n",
            {},
            "run times: the longest is 1.017 min, the whole trace lasts 1 min; is the duration_unit s right?",
        ),
        (
            rows(60, 1, 0.3),
            {"duration_unit": "us"},
            "run times: half of the requests run 0 us or less; is the duration_unit us right?",
        ),
        (
            rows(30_000, 0.05, 0.01),
            {"time_unit": "ms"},
            "rate: f has 20,001 requests a second, over 10,000 are implausible; is the time_unit ms right?",
        ),
    ],
    ids=["one-time", "s-as-us", "ms-as-s", "days", "one-long", "s-as-us-runs", "s-as-ms"],
)
def test_each_wrong_unit_is_noticed(write: Writer, text: str, columns: dict[str, str], problem: str) -> None:
    mapping = ColumnMap.model_validate(COLUMNS.model_dump() | columns)
    assert problems(write("a.csv", text), mapping) == [problem]


def test_an_end_that_is_none_is_named(write: Writer) -> None:
    columns = ColumnMap(time="t", end="e")
    path = write("a.csv", "t,e\n" + "".join(f"{k},{k + 500}\n" for k in range(100)))
    assert problems(path, columns) == [
        "run times: half of the requests run 8.333 min or longer, the whole trace lasts 1.65 min; "
        "are t and e what begins and ends a request?"
    ]


def test_inspect_shows_what_is_asked_and_marks_what_is_implausible(write: Writer) -> None:
    path = write("a.csv", rows(61, 1, 200))
    words = ["inspect", str(path), "--column", "time=t", "--column", "function=f", "--column", "duration=d"]
    shown = CliRunner().invoke(commands, words).output
    assert "implausible          run times: half of the requests run 3.333 min or longer" in shown
    about = json.loads(CliRunner().invoke(commands, [*words, "--json"]).output)
    assert [(each["about"], each["grave"]) for each in about["implausible"]] == [("run times", True)]
    # one begins each second: 0, 1, ... 60 of them have begun, and none ends in the trace's minute
    assert about["concurrency_mean"] == pytest.approx(30.5, rel=1e-6)
    assert about["concurrency_peak"] == pytest.approx(30.5, rel=1e-6)
    assert [about[f"run_ms_{at}"] for at in ("p50", "p90", "p99", "max")] == [200_000] * 4
    fine = json.loads(CliRunner().invoke(commands, [*words, "--json", "--column", "duration_unit=ms"]).output)
    assert fine["implausible"] == []
    assert "run_ms_p50" not in json.loads(CliRunner().invoke(commands, [*words[:-2], "--json"]).output)


@pytest.mark.parametrize(
    ("first", "last", "unit", "shown", "problem"),
    [
        (
            "2026-03-02 08:00:00",
            "2026-03-02 09:00:00",
            "iso",
            ("2026-03-02 08:00:00 UTC", "2026-03-02 09:00:00 UTC"),
            "",
        ),
        # as seconds these are 20,384,000 days: 139 cycles of 400 years (146,097 days) and 76,517 days, which lead from
        # 1970-01-01 to 2179-07-01, and that 139 x 400 years later
        (
            "1761177600000",
            "1761177700000",
            "s",
            ("57779-07-01 00:00:00 UTC", "57779-07-02 03:46:40 UTC"),
            "dates: the trace begins in the year 57,779; the time_unit is ms, not s, if they count from 1970",
        ),
        ("1970-01-05", "1970-01-06", "iso", ("1970-01-05 00:00:00 UTC", "1970-01-06 00:00:00 UTC"),
         "dates: the trace begins in the year 1970, before 2000"),
        ("2150-01-05", "2150-01-06", "iso", ("2150-01-05 00:00:00 UTC", "2150-01-06 00:00:00 UTC"),
         "dates: the trace begins in the year 2,150"),
        ("5", "1000", "s", None, ""),
    ],
    ids=["right", "ms-as-s", "1970", "2150", "any-instant"],
)  # fmt: skip
def test_dates_are_shown_and_those_of_no_year_of_ours_are_told(
    write: Writer, first: str, last: str, unit: str, shown: tuple[str, str] | None, problem: str
) -> None:
    columns = ColumnMap.model_validate({"time": "t", "function": "f", "time_unit": unit})
    path = write("a.csv", f"t,f\n{last},f\n{first},g\n")
    assert dates(load(path, columns)) == shown
    assert problems(path, columns) == ([problem] if problem else [])
    if shown is not None:
        words = ["inspect", str(path), "--column=time=t", f"--column=time_unit={unit}", "--json"]
        about = json.loads(CliRunner().invoke(commands, words).output)
        assert (about["first_request"], about["last_request"]) == shown


def test_an_instant_without_a_date_is_a_time_of_the_day(table: Table) -> None:
    counts = replace(table([[0, 1, 0], [0, 0, 2]]), start_us=8 * 3600 * 1_000_000)
    assert dates(counts) == ("day 1, 08:01:00", "day 1, 08:02:00")
    assert findings(counts) == []
    assert dates(replace(made([1, 30], [1, 1]), start_us=86_399_000_000)) == ("day 2, 00:00:00", "day 2, 00:00:29")
    assert dates(table([[0, 0]])) is None
