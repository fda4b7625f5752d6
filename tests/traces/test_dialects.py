"""Forty dialects of CSV, Parquet and JSONL: what each is read as, or refused with which line.

Right values are worked by hand: times are microseconds after the first.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from traces import ColumnMap, Counts, Trace, TraceError, load, read_mapped
from traces.repairs import BadRows

CSV = b"t,f\n1,a\n3.5,b\n"
AS_CSV = [(0, "a"), (2_500_000, "b")]
T = {"time": "t"}
T_F = T | {"function": "f"}
MS = {"time": "t", "time_unit": "ms"}
NS = {"time": "t", "time_unit": "ns"}
ISO = {"time": "t", "time_unit": "iso"}
RUN = {"time": "t", "duration": "d"}
EPOCH_NS = 1_700_000_000_123_456_000  # beyond 2^53, where floats are 256 apart


def packed_zip(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, CSV)
    return out.getvalue()


def packed_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    return out.getvalue()


def table(**columns: pa.Array) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def stamps(*values: int, unit: str = "ns", zone: str | None = None) -> pa.Array:
    return pa.array(values, pa.timestamp(unit, zone))


READ: list[tuple[str, bytes, dict[str, Any], list[Any]]] = [
    ("plain CSV", CSV, T_F, AS_CSV),
    ("lines that end in CR LF", CSV.replace(b"\n", b"\r\n"), T_F, AS_CSV),
    ("no newline at the end", CSV[:-1], T_F, AS_CSV),
    ("blank lines at the end", CSV + b"\n\r\n\n", T_F, AS_CSV),
    ("a byte order mark", b"\xef\xbb\xbf" + CSV, T_F, AS_CSV),
    ("quoted cells", b'"t","f"\n"1","a"\n"3.5","b"\n', T_F, AS_CSV),
    ("spaces before numbers", b"t,f\n 1,a\n 3.5 ,b\n", T_F, AS_CSV),
    ("semicolons", CSV.replace(b",", b";"), T_F, AS_CSV),
    ("tabs", CSV.replace(b",", b"\t"), T_F, AS_CSV),
    ("bars", CSV.replace(b",", b"|"), T_F, AS_CSV),
    ("a delimiter that is given", CSV.replace(b",", b"~"), T_F | {"delimiter": "~"}, AS_CSV),
    ("decimal commas", b"t;f\n1;a\n3,5;b\n", T_F | {"decimal": ","}, AS_CSV),
    ("decimal commas in quotes", b't,f\n1,a\n"3,5",b\n', T_F | {"decimal": ","}, AS_CSV),
    ("exponents", b"t,f\n1e0,a\n0.35e1,b\n", T_F, AS_CSV),
    ("signs", b"t,f\n-1,a\n+1.5,b\n", T_F, AS_CSV),
    ("gzip", gzip.compress(CSV), T_F, AS_CSV),
    ("bz2", bz2.compress(CSV), T_F, AS_CSV),
    ("xz", lzma.compress(CSV), T_F, AS_CSV),
    ("zst", pa.compress(CSV, codec="zstd", asbytes=True), T_F, AS_CSV),
    ("zip", packed_zip("folder/a.csv", "__MACOSX/folder/._a.csv"), T_F, AS_CSV),
    ("epoch ns in CSV", b"t\n%d\n%d\n" % (EPOCH_NS, EPOCH_NS + 1_000), NS, [0, 1]),
    ("epoch s with a fraction", b"t\n1700000000.123456\n1700000000.123457\n", T, [0, 1]),
    ("minutes", b"t\n1\n2.5\n", {"time": "t", "time_unit": "min"}, [0, 90_000_000]),
    ("dates", b"t\n2026-01-31 12:00:00.5\n2026-01-31T12:00:01Z\n", ISO, [0, 500_000]),
    ("dates that end in UTC", b"t\n2026-01-31 12:00:00 UTC\n2026-01-31 12:00:01 +0000 UTC\n", ISO, [0, 1_000_000]),
    ("dates with an offset", b"t\n2026-01-31 12:00:00+01:00\n2026-01-31 11:00:00Z\n", ISO, [0, 0]),
    (
        "local dates over a change of clocks",  # two hours by the clock, one hour that passes
        b"t\n2026-03-29 01:30:00\n2026-03-29 03:30:00\n",
        ISO | {"time_zone": "Europe/Berlin"},
        [0, 3_600_000_000],
    ),
    ("begin and end", b"t,e\n1,3\n2,2.5\n", {"time": "t", "end": "e"}, [(0, 2_000_000), (1_000_000, 500_000)]),
    ("JSONL", b'{"t": 1, "f": "a"}\n{"f": "b", "t": 3.5, "more": {}}\n', T_F, AS_CSV),
    ("JSONL with blank lines at the end", b'{"t": "1", "f": "a"}\n{"t": 3.5, "f": "b"}\n\n\n', T_F, AS_CSV),
    ("JSONL, epoch ns", b'{"t": %d}\n{"t": %d}\n' % (EPOCH_NS, EPOCH_NS + 1_000), NS, [0, 1]),
    ("JSONL in xz", lzma.compress(b'{"t": 1, "f": "a"}\n{"t": 3.5, "f": "b"}\n'), T_F, AS_CSV),
    ("Parquet, int64 ns", table(t=pa.array([EPOCH_NS, EPOCH_NS + 1_000])), NS, [0, 1]),
    ("Parquet, uint64 ns", table(t=pa.array([2**63, 2**63 + 3_000], pa.uint64())), NS, [0, 3]),
    ("Parquet, int64 us", table(t=pa.array([2**60, 2**60 + 1])), {"time": "t", "time_unit": "us"}, [0, 1]),
    ("Parquet, timestamps", table(t=stamps(EPOCH_NS, EPOCH_NS + 1_000)), ISO, [0, 1]),
    (
        "Parquet, timestamps of a zone",
        table(t=stamps(EPOCH_NS, EPOCH_NS + 1_000, zone="Asia/Tokyo")),
        ISO,
        [0, 1],
    ),
    ("Parquet, days", table(t=pa.array([0, 1], pa.date32())), ISO, [0, 86_400_000_000]),
    ("Parquet, texts as dictionary", table(t=[1.0, 3.5], f=pa.array(["a", "b"]).dictionary_encode()), T_F, AS_CSV),
    (
        "Parquet, durations",
        table(t=[1, 2], d=pa.array([1_500, 2], pa.duration("ms"))),
        RUN,
        [(0, 1_500_000), (1_000_000, 2_000)],
    ),
    ("Parquet, decimals", table(t=pa.array([Decimal(1), Decimal(2)], pa.decimal128(20, 3))), MS, [0, 1_000]),
    ("commas in dates", b't,f\n"2026-01-31 12:00:00,250",a\n"2026-01-31 12:00:01,5",b\n', ISO, [0, 1_250_000]),
    ("Parquet in gzip", gzip.compress(table(t=[1.0, 3.5], f=["a", "b"])), T_F, AS_CSV),
]
"""What, the file, its columns, and its requests: times, or pairs with the name or the run time."""

REFUSED: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("no columns given", CSV, {}, "row 1: a.bin has none of the known forms (parquet, "),
    ("no columns given, CSV", CSV, {}, "; its columns are t, f; say which column is what: --column time=NAME"),
    ("no columns given, tabs", CSV.replace(b",", b"\t"), {}, "; its columns are t, f; say which"),
    ("no columns given, JSONL", b'{"t": 1, "f": 2}\n', {}, "; its columns are t, f; say which"),
    ("no columns given, Parquet", table(t=[1], f=["a"]), {}, "; its columns are t, f; say which"),
    ("a blank line inside", b"t,f\n1,a\n\n2,b\n", T_F, "row 3, column t: the cell is empty, expected a time"),
    (
        "a decimal comma that is not said",
        b"t;f\n1;a\n3,5;b\n",
        T_F,
        "row 3, column t: 3,5 is not a number; give decimal=,",
    ),
    ("a point for thousands", b"t;f\n1.000;a\n", T_F | {"decimal": ","}, "row 2, column t: 1.000 has a point, though"),
    ("no number", b"t,f\nsoon,a\n", T_F, "row 2, column t: 'soon' is not a number"),
    ("hexadecimal", b"t,f\n0x10,a\n", T_F, "row 2, column t: '0x10' is not a number"),
    ("infinite", b"t,f\n1,a\ninf,a\n", T_F, "row 3, column t: 'inf' is not a finite number"),
    ("an empty time", b"t,f\n,a\n", T_F, "row 2, column t: the cell is empty, expected a time"),
    (
        "an empty name",
        b"t,f\n1,\n",
        T_F,
        "row 2, column f: the cell is empty, expected a text; bad_rows repair calls it unknown",
    ),
    ("no text, JSONL", b'{"t": 1, "f": ""}\n', T_F, "row 1, column f: the cell is empty, expected a text"),
    ("no text, Parquet", table(t=[1, 2], f=["a", ""]), T_F, "row 2, column f: the cell is empty, expected a text"),
    ("too large", b"t\n1e30\n", T, "row 2, column t: '1e30' is too large for a time in s: is the unit right?"),
    (
        "nanoseconds as seconds",
        b"t\n1700000000000000000\n",
        T,
        "row 2, column t: 1700000000000000000 is too large for a time in s: is the unit right?",
    ),
    (
        "separators of thousands",
        b't,f\n"1,700,000",a\n',
        T_F,
        "row 2, column t: 1,700,000 is not a number; leave separators of thousands out",
    ),
    (
        "a word for no number",
        b"t,d\n1,2\n2,NULL\n",
        RUN,
        "row 3, column d: 'NULL' is not a number; leave the cell empty where there is none",
    ),
    (
        "no number by a word",
        b"t,d\n1,2\n2,NaN\n",
        RUN,
        "row 3, column d: 'NaN' is not a finite number; leave the cell empty where there is none",
    ),
    ("blanks in a header", b"t, f\n1,a\n", T_F, "column f: the column is missing from the header; did you mean ' f'?"),
    ("no UTF-8", b"t,f\n1,a\n2,\xe4\n", T_F, "row 3: is no text in UTF-8, expected one (iconv -f latin1 -t utf-8 m"),
    ("rar", b"Rar!\x1a\x07\x01\x00", T_F, "is a rar archive, which is not read; unpack it and name one of its files"),
    ("7z, no columns given", b"7z\xbc\xaf\x27\x1c", {}, "is a 7z archive, which is not read; unpack it and name one"),
    ("tar", packed_tar(), T_F, "is a tar archive, which is not read; unpack it and name one of its files"),
    ("tar in gzip, no columns given", gzip.compress(packed_tar()), {}, "is a tar archive, which is not read"),
    ("Feather", b"ARROW1\x00\x00", T_F, "is an Arrow (Feather) file, which is not read; write it as Parquet"),
    ("nothing, no columns given", b"\n", {}, "the file is empty, expected a header and at least one row"),
    ("UTF-16", "t,f\n1,a\n".encode("utf-16"), T_F, "row 1: is a text in UTF-16, expected UTF-8"),
    (
        "a date as a number",
        b"t\n2026-01-31\n",
        {"time": "t"},
        "row 2, column t: 2026-01-31 is a date: give time_unit iso",
    ),
    ("a number as a date", table(t=[1, 2]), ISO, "column t: the column holds int64, expected dates"),
    ("dates as numbers", table(t=stamps(1)), NS, "column t: the column holds timestamp[ns]: give time_unit iso"),
    (
        "a day that is none",
        b"t\n2026-02-30\n",
        ISO,
        "row 2, column t: 2026-02-30 is not a date, expected 2026-01-31 12",
    ),
    (
        "an offset beside a zone",
        b"t\n2026-01-31T12:00:00Z\n",
        ISO | {"time_zone": "Europe/Berlin"},
        "row 2, column t: 2026-01-31T12:00:00Z has an offset of its own: leave out the time zone Europe/Berlin",
    ),
    (
        "a local time that is left out",
        b"t\n2026-03-29 02:30:00\n",
        ISO | {"time_zone": "Europe/Berlin"},
        "row 2, column t: 2026-03-29 02:30:00 is left out in Europe/Berlin, where clocks are put forward; bad_rows",
    ),
    (
        "a local time that is there twice",
        b"t\n2026-10-25 02:30:00\n",
        ISO | {"time_zone": "Europe/Berlin"},
        "row 2, column t: 2026-10-25 02:30:00 is there twice in Europe/Berlin, where clocks are put back; bad_rows",
    ),
    (
        "an end before its begin",
        b"t,e\n1,3\n2,1\n",
        {"time": "t", "end": "e"},
        "row 3, column e: 1 is before the arrival",
    ),
    ("no run time", b"t,d\n1,3\n2,\n", RUN, "row 3, column d: the cell is empty, expected a run time; bad_rows repair"),
    ("no run time, Parquet", table(t=[1, 2], d=[None, 2.0]), RUN, "row 1, column d: the cell is empty, expected a run"),
    ("a run time below 0", b"t,d\n1,-3\n", RUN, "row 2, column d: -3 is negative, expected s >= 0"),
    (
        "durations with another unit",
        table(t=[1], d=pa.array([1], pa.duration("ms"))),
        RUN | {"duration_unit": "min"},
        "column d: the column holds duration[ms], which has its unit: leave duration_unit out",
    ),
    ("lists", table(t=[[1], [2]]), T, "column t: the column holds list<element: int64>, expected single"),
    ("truth values", table(t=[True]), T, "column t: the column holds bool, expected numbers"),
    ("a JSON array", b'[{"t": 1}]', T, "row 1: is one JSON array, expected CSV, Parquet or one JSON"),
    (
        "no JSON",
        b'{"t": 1}\n{"t": \n',
        {"time": "t"},
        "row 2: is no JSON (Expecting value), expected one object a line",
    ),
    ("no object", b'{"t": 1}\n3\n', T, "row 2: is no JSON object, expected one a line"),
    (
        "a key that is missing",
        b'{"ts": 1}\n',
        {"time": "t"},
        "row 1, column t: the first object lacks the key; did you mean ts?",
    ),
    (
        "a key that is missing later",
        b'{"t": 1}\n{}\n',
        {"time": "t"},
        "row 2, column t: the cell is empty, expected a time",
    ),
    (
        "a blank line in JSONL",
        b'{"t": 1}\n\n{"t": 2}\n',
        {"time": "t"},
        "row 2: the line is blank, expected a JSON object",
    ),
    ("half a character", b'{"t": 1, "f": "\\ud800"}\n', T_F, "has a text that is no Unicode"),
    (
        "two files in a zip",
        packed_zip("a.csv", "b.csv"),
        T_F,
        "the zip file holds 2 files (a.csv, b.csv), expected one",
    ),
    ("xz, cut", lzma.compress(CSV)[:-9], T_F, "the xz data end too early, expected a whole file"),
    (
        "zst, cut",
        pa.compress(CSV, codec="zstd", asbytes=True)[:-4],
        T_F,
        "the zst data end too early, expected a whole",
    ),
    ("bz2, damaged", bz2.compress(CSV)[:9] + b"?" * 40, T_F, "the bz2 data are damaged (Invalid data stream)"),
    (
        "two thousand million in a minute",
        b"t,n\n0,2000000000\n",
        {"time": "t", "count": "n"},
        "column n: a has 2000000000 requests in a minute, expected at most 100000000",
    ),
    (
        "a count with a fraction",
        b"t,n\n0,1.5\n",
        {"time": "t", "count": "n"},
        "row 2, column n: 1.5 is not a whole number of requests, 0 or more",
    ),
]
"""What, the file, its columns, and what the line says."""


def requests_of(found: Trace, right: list[Any]) -> list[Any]:
    if not isinstance(right[0], tuple):
        return list(found.arrival_us)
    if isinstance(right[0][1], str):
        names = [found.names[function] for function in found.arrival_function]
        return list(zip(found.arrival_us.tolist(), names, strict=True))
    return list(zip(found.arrival_us.tolist(), found.duration_us.tolist(), strict=True))


def test_there_are_forty() -> None:
    assert len(READ) >= 40


@pytest.mark.parametrize(("content", "columns", "right"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_it_is_read(content: bytes, columns: dict[str, Any], right: list[Any], tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    found = load(tmp_path / "a.bin", ColumnMap.model_validate(columns))
    assert isinstance(found, Trace)
    assert requests_of(found, right) == right
    assert found.repairs == ()


@pytest.mark.parametrize(
    ("content", "columns", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_it_is_refused(content: bytes, columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        load(path, ColumnMap.model_validate(columns) if columns else None)
    said = str(caught.value)
    assert said.startswith(f"{path}")
    assert message in said
    assert "\n" not in said


def repaired(content: bytes, columns: dict[str, Any], path: Path, bad_rows: BadRows = "repair") -> Counts | Trace:
    path.write_bytes(content)
    return load(path, ColumnMap.model_validate(columns), bad_rows=bad_rows)


def test_run_times_that_are_missing_are_medians_and_counted(tmp_path: Path) -> None:
    # a: 1, 2 and 9 s, so 2; b has none: of 1, 2, 9 and 4 the median is 3
    content = b"t,f,d\n0,a,1\n1,a,\n2,a,2\n3,a,9\n4,b,\n5,c,4\n"
    found = repaired(content, T_F | {"duration": "d"}, tmp_path / "a.csv")
    assert isinstance(found, Trace)
    assert found.duration_us.tolist() == [1_000_000, 2_000_000, 2_000_000, 9_000_000, 3_000_000, 4_000_000]
    assert [(repair.count, repair.first_row) for repair in found.repairs] == [(2, 3)]
    assert found.select([0]).between(0, 100).repairs == found.repairs
    with pytest.raises(TraceError, match="no row has a run time; leave the column out"):
        repaired(b"t,d\n1,\n", RUN, tmp_path / "b.csv")


def test_local_times_that_clocks_double_or_leave_out_are_mended_and_counted(tmp_path: Path) -> None:
    # UTC: 00:30 (the first 02:30), 01:30 (after the change); and in March 01:00, the instant of the change
    content = b"t\n2026-10-25 02:30:00\n2026-10-25 02:59:00\n2026-10-25 03:30:00\n"
    found = repaired(content, ISO | {"time_zone": "Europe/Berlin"}, tmp_path / "a.csv")
    assert isinstance(found, Trace)
    assert found.arrival_us.tolist() == [0, 29 * 60_000_000, 120 * 60_000_000]
    assert [(repair.count, repair.first_row) for repair in found.repairs] == [(2, 2)]
    content = b"t\n2026-03-29 01:59:00\n2026-03-29 02:30:00\n2026-03-29 03:00:00\n"
    found = repaired(content, ISO | {"time_zone": "Europe/Berlin"}, tmp_path / "b.csv")
    assert isinstance(found, Trace)
    assert found.arrival_us.tolist() == [0, 60_000_000, 60_000_000]
    assert [(repair.count, repair.first_row) for repair in found.repairs] == [(1, 3)]


def test_rows_that_count_requests_become_counts_per_minute(tmp_path: Path) -> None:
    content = b"t,f,n,d\n2026-01-31 12:00:30,a,3,1\n2026-01-31 12:01:59,a,1,5\n2026-01-31 12:00:00,b,0,7\n"
    columns = ISO | {"function": "f", "count": "n", "duration": "d"}
    found = repaired(content, columns, tmp_path / "a.csv", "fail")
    assert isinstance(found, Counts)
    assert found.counts.tolist() == [[3, 1], [0, 0]]
    assert found.first_minute == 720
    assert found.duration_ms[0] == 2_000  # three of 1 s, one of 5 s
    assert np.isnan(found.duration_ms[1])
    spread = repaired(b"t,n\n0,5\n120,1\n", {"time": "t", "count": "n", "count_minutes": 2}, tmp_path / "b.csv")
    assert isinstance(spread, Counts)
    assert spread.counts.tolist() == [[2, 3, 0, 1]]


def test_a_pipe_and_standard_input_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress(CSV)))
    writing.start()
    found = load(pipe, ColumnMap.model_validate(T_F))
    writing.join()
    assert isinstance(found, Trace)
    assert requests_of(found, AS_CSV) == AS_CSV

    class Standard:
        buffer = io.BytesIO(b"t\n1\nx\n")

    monkeypatch.setattr("sys.stdin", Standard)
    with pytest.raises(TraceError) as caught:
        load("-", ColumnMap(time="t"))
    assert str(caught.value) == "standard input, row 3, column t: 'x' is not a number"


def test_columns_that_do_not_fit_together_are_refused() -> None:
    for content, message in (
        ({"time": "t", "end": "e", "duration": "d"}, "end and duration both give the run time"),
        ({"time": "t", "count": "n", "end": "e"}, "count is of rows that count requests"),
        ({"time": "t", "count_minutes": 5}, "count_minutes belongs to count, which is not given"),
        ({"time": "t", "time_zone": "Europe/Berlin"}, "time_zone is of dates"),
        (ISO | {"time_zone": "Europe/Berlni"}, "'Europe/Berlni' is no time zone; did you mean Europe/Berlin"),
        ({"time": "t", "delimiter": ",", "decimal": ","}, "delimiter and decimal are both ','"),
        ({"time": "t", "delimiter": "ab"}, "'ab' separates no cells"),
    ):
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            ColumnMap.model_validate(content)


def test_counts_are_not_read_as_requests_nor_into_a_table_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    columns = ColumnMap(time="t", function="f", count="n")
    path.write_bytes(b"t,f,n\n0,0,1\n" + b"".join(b"%d,%d,1\n" % (3 * 10**8, k) for k in range(300)))
    with pytest.raises(TraceError, match="holds counts, which read_counted reads"):
        read_mapped(path, columns)
    with pytest.raises(TraceError, match=r"300 functions and 5000001 minutes make a table .*; give fewer of either"):
        load(path, columns)
