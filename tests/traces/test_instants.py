"""A trace knows when it began and how long it is, in every form, however often it is converted.

Instants are written as dates here; Python's own calendar turns them into microseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from traces import ColumnMap, Counts, Trace, TraceError, expand, load, read_mapped, read_parquet
from traces.commands import trace as command
from traces.likeness import synthesize_like
from traces.mapped import read_counted
from traces.shape import as_trace, halves

MINUTE, DAY = 60_000_000, 86_400_000_000
SHIPPED = Path(__file__).parents[2] / "traces" / "shipped"


def at_us(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1_000_000


def csv(path: Path, *times: object) -> Path:
    path.write_text("t,f\n" + "".join(f"{time},f\n" for time in times), encoding="utf-8")
    return path


NOON = at_us("2026-01-31T12:00:00")
DATED: list[tuple[str, dict[str, str], list[object], int | None]] = [
    ("dates", {"time_unit": "iso"}, ["2026-01-31 12:00:05", "2026-01-31 12:00:00"], NOON),
    ("dates of a place", {"time_unit": "iso", "time_zone": "Asia/Tokyo"}, ["2026-01-31 21:00:00"], NOON),
    ("seconds since 1970", {}, [NOON // 1_000_000 + 3, NOON // 1_000_000], NOON),
    ("milliseconds since 1970", {"time_unit": "ms"}, [NOON // 1_000, NOON // 1_000 + 1], NOON),
    ("nanoseconds since 1970", {"time_unit": "ns"}, [f"{NOON}000"], NOON),
    ("seconds from any instant", {}, [3600, 3601], None),
    ("a date before", {"time_unit": "iso", "starts_at": "2026-01-31"}, ["2026-01-31 12:00"], NOON - DAY // 2),
    ("the counter's zero", {"starts_at": "0"}, [3600], None),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "times", "start_us"), [case[1:] for case in DATED], ids=[c[0] for c in DATED])
def test_the_start_of_a_file_of_any_form(
    tmp_path: Path, columns: dict[str, str], times: list[object], start_us: int | None
) -> None:
    path = csv(tmp_path / "a.csv", *times)
    trace = read_mapped(path, ColumnMap.model_validate({"time": "t", "function": "f"} | columns))
    assert trace.start_us == start_us


def test_silence_before_and_after_is_kept_where_it_is_told(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", 90, 30)
    told = read_mapped(path, ColumnMap(time="t", starts_at="10", ends_at="200.5"))
    assert (told.arrival_us.tolist(), told.end_us) == ([20_000_000, 80_000_000], 190_500_000)
    assert told.metadata.window == "from 10 to 200.5"
    plain = read_mapped(path, ColumnMap(time="t"))
    assert (plain.arrival_us.tolist(), plain.end_us) == ([0, 60_000_000], 60_000_001)


def test_counts_keep_their_silence_and_their_day(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("t,n\n2026-01-31 12:02,3\n2026-01-31 12:04,1\n", encoding="utf-8")
    columns = ColumnMap(
        time="t", time_unit="iso", count="n", starts_at="2026-01-31 11:59:30", ends_at="2026-01-31 12:06:30"
    )
    counts = read_counted(path, columns)
    assert counts.counts.tolist() == [[0, 0, 0, 3, 0, 1, 0, 0]]  # 11:59 to 12:06
    assert (counts.first_minute, counts.start_us) == (719, NOON - MINUTE)
    assert expand(counts, minutes=(3, 5)).start_us == NOON + 2 * MINUTE
    plain = read_counted(path, ColumnMap(time="t", time_unit="iso", count="n"))
    assert (plain.counts.tolist(), plain.start_us) == ([[3, 0, 1]], NOON + 2 * MINUTE)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"starts_at": "31"}, r"a\.csv, row 3, column t: is before starts_at 31"),
        ({"ends_at": "90"}, r"a\.csv, row 2, column t: is not before ends_at 90"),
        ({"starts_at": "0", "ends_at": "4e8"}, r"a\.csv, column t: starts_at and ends_at: over ten years lie between"),
    ],
)
def test_a_request_outside_of_the_recording_is_refused(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    path = csv(tmp_path / "a.csv", 90, 30)
    with pytest.raises(TraceError, match=message):
        read_mapped(path, ColumnMap.model_validate({"time": "t"} | columns))


def test_counts_beyond_the_recording_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("t,n\n0,3\n60,8\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"row 3, column t: counts minutes after ends_at 120"):
        read_counted(path, ColumnMap(time="t", count="n", count_minutes=2, ends_at="120"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"starts_at": "soon"}, "starts_at: 'soon' is not a number"),
        ({"starts_at": "2026-01-31"}, "starts_at: 2026-01-31 is a date: give time_unit iso"),
        ({"ends_at": "2026-13-31", "time_unit": "iso"}, "ends_at: 2026-13-31 is not a date, expected"),
        ({"starts_at": "5", "ends_at": "5"}, "ends_at 5 is not after starts_at 5"),
    ],
)
def test_an_end_that_is_no_time_is_refused_at_once(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColumnMap.model_validate({"time": "t"} | columns)


GENTD26 = (
    "gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id\n"
    "2024-11-15 16:57:50,SUCCEED,4,M1\n2024-11-15 17:00:00,SUCCEED,5,M2\n"
)
AZURE2021 = "app,func,end_timestamp,duration\na,f,70,10\na,f,100,0.5\n"
LLM = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,10,5\n2023-11-16 18:16:46.6805900,10,5\n"


def forms(folder: Path) -> list[tuple[str, list[str], int, int]]:
    """Files of every form: name, options, start and length."""
    for name, text in (("gentd26.csv", GENTD26), ("azure2021.csv", AZURE2021), ("llm.csv", LLM)):
        (folder / name).write_text(text, encoding="utf-8")
    csv(folder / "own.csv", "2026-01-31 12:00:30")
    own = [f"--column={each}" for each in ("time=t", "time_unit=iso", "starts_at=2026-01-31", "ends_at=2026-02-01")]
    eight_hours = SHIPPED / "azure2019_8h_invocations.csv.gz"
    return [
        ("gentd26.csv", [], at_us("2024-11-15T16:57:50"), 131_000_000),
        ("azure2021.csv", [], at_us("2021-01-31T00:01:00"), 39_500_001),
        ("llm.csv", [], at_us("2023-11-16T18:15:46") + 680_590, 60_000_001),
        ("own.csv", own, NOON - DAY // 2, DAY),
        (str(eight_hours), [], (8 * 60 - 1) * MINUTE, 480 * MINUTE),
    ]


@pytest.mark.parametrize("number", range(5))
def test_start_and_length_survive_every_conversion(tmp_path: Path, number: int) -> None:
    name, options, start_us, length_us = forms(tmp_path)[number]
    source, target, again = str(tmp_path / name), str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet")
    for words in (["convert", source, target, *options], ["convert", target, again]):
        done = CliRunner().invoke(command, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    for found in (read_parquet(target), read_parquet(again)):
        assert (found.start_us, found.end_us) == (start_us, length_us)


def dated(**changes: Any) -> Trace:
    content: dict[str, Any] = {
        "names": ["a", "b"],
        "arrival_us": np.array([5, 15, 25, 35]) * MINUTE,
        "arrival_function": np.array([0, 1, 0, 1]),
        "end_us": 40 * MINUTE,
        "start_us": NOON,
        **dict.fromkeys(("source", "licence", "window", "expansion"), ""),
    }
    return Trace.build(**content | changes)


def test_a_part_begins_where_it_was_cut() -> None:
    trace = dated()
    assert trace.select([1]).start_us == NOON
    assert trace.between(10 * MINUTE, 30 * MINUTE).start_us == NOON + 10 * MINUTE
    assert dated(start_us=None).between(10 * MINUTE, 30 * MINUTE).start_us is None
    assert [half.start_us for half in halves(trace)] == [NOON, NOON]
    assert synthesize_like(trace).start_us == NOON
    assert as_trace(trace).start_us == NOON
    # the same requests on another day are the same content: only what is derived from the date differs
    assert dated(start_us=NOON + DAY).metadata.content_hash == trace.metadata.content_hash


def test_requests_by_hand_keep_their_span() -> None:
    given: dict[str, Any] = {"functions": ["f", "f"], "source": "made"}
    trace = Trace.from_requests(np.array([7.0, 5.0]), span_s=(4.0, 10.0), start_us=NOON, **given)
    assert (trace.arrival_us.tolist(), trace.end_us, trace.start_us) == ([1_000_000, 3_000_000], 6_000_000, NOON)
    assert trace.metadata.window == "4 to 10 s"
    for span in ((5.5, 10.0), (4.0, 7.0)):
        with pytest.raises(TraceError, match=rf"made: has requests from 5 to 7 s, the span is {span[0]:g} to"):
            Trace.from_requests(np.array([7.0, 5.0]), span_s=span, **given)


def test_the_shipped_samples_have_a_time_of_the_day_and_no_date() -> None:
    day = load(SHIPPED / "azure2019_day_unique_A.csv.gz")
    assert isinstance(day, Counts)
    assert (day.first_minute, day.start_us) == (1, 0)  # labels 1..1440 are minutes that begin at 0
