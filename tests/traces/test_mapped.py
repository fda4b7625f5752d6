"""Any CSV or Parquet file, given which column is what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from traces import ColumnMap, TraceError, read_mapped

Writer = Callable[[str, str], Path]

ROWS = "t,f,d,who\n2500,b,250,ann\n500,a,100,bob\n1000,b,50,cid\n"


def test_a_csv_file_in_any_order_and_unit(write: Writer) -> None:
    columns = ColumnMap(time="t", time_unit="ms", function="f", duration="d", duration_unit="ms", owner="who")
    told: list[tuple[int, int]] = []
    trace = read_mapped(write("a.csv.gz", ROWS), columns, lambda done, size: told.append((done, size)))
    assert (trace.names, trace.owners) == (("b", "a"), ("ann", "bob"))
    assert trace.arrival_us.tolist() == [0, 500_000, 2_000_000]
    assert trace.arrival_function.tolist() == [1, 0, 0]
    assert trace.duration_us.tolist() == [100_000, 50_000, 250_000]
    assert told[-1][0] == told[-1][1] > 0


def test_an_end_leads_back_to_the_arrival_and_dates_are_read(write: Writer) -> None:
    path = write("mine.csv", "end,run\n2026-03-02 08:00:01.5,1\n2026-03-02T08:00:03Z,0.25\n")
    trace = read_mapped(path, ColumnMap(time="end", time_unit="iso", time_is="end", duration="run"))
    assert trace.names == ("mine",)
    assert trace.arrival_us.tolist() == [0, 2_250_000]


def test_a_parquet_file_with_timestamps(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([3_000, 1_000], pa.timestamp("ms")), "f": pa.array(["x", "y"])})
    pq.write_table(table, tmp_path / "a.parquet")
    trace = read_mapped(tmp_path / "a.parquet", ColumnMap(time="at", time_unit="iso", function="f"))
    assert trace.arrival_us.tolist() == [0, 2_000_000]
    assert trace.names == ("x", "y")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("t,f", "time,f", "row 1, column t: the column is missing"),
        ("500,a", "soon,a", "row 3, column t: 'soon' is not a number"),
        ("50,cid", "-50,cid", "row 4, column d: -50 is negative, expected ms >= 0"),
        ("500,a", "5e14,a", "row 3, column t: is over ten years after the first time: is the unit ms right?"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(write: Writer, old: str, new: str, message: str) -> None:
    path = write("a.csv", ROWS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        read_mapped(path, ColumnMap(time="t", time_unit="ms", function="f", duration="d", duration_unit="ms"))
    assert str(caught.value).startswith(f"{path}, {message}")


def test_a_mapping_that_makes_no_sense_is_refused() -> None:
    for content, message in (
        ({"tiem": "t"}, "unknown key 'tiem'; did you mean time"),
        ({"time": "t", "time_is": "end"}, "time_is end needs a duration"),
        ({"time": "t", "duration_unit": "ms"}, "duration_unit belongs to duration, which is not given"),
        ({"time": "t", "function": "t"}, "time, end, duration, tokens and count need a column each"),
    ):
        with pytest.raises(ValueError, match=message):
            ColumnMap.model_validate(content)


@pytest.mark.slow
def test_memory_goes_with_the_requests_and_not_with_the_text(tmp_path: Path) -> None:
    path, wide = tmp_path / "wide.csv", "x" * 1000
    block = "".join(f"{second},{wide}{second % 7}\n" for second in range(16_000))
    with path.open("w", encoding="utf-8") as out:
        out.write("t,f\n")
        for _ in range(40):
            out.write(block)
    code = (
        "import sys, traces\n"
        "trace = traces.read_mapped(sys.argv[1], traces.ColumnMap(time='t', function='f'))\n"
        "from agents.bench.memory import peak_mb\n"
        "print(len(trace.arrival_us), round(peak_mb() * 1e6))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    requests, peak_bytes = map(int, done.stdout.split())
    assert requests == 640_000
    assert path.stat().st_size > 640_000_000 > peak_bytes
