"""Our Parquet form: what is written comes back, what was changed is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from traces import Counts, TraceError, expand, read_parquet, write_parquet

Table = Callable[..., Counts]


@pytest.mark.parametrize("durations", [True, False])
def test_round_trip(table: Table, tmp_path: Path, durations: bool) -> None:
    counts = table([[3, 0], [0, 0], [1, 2]], triggers=["timer", "http", ""])
    if not durations:
        counts.duration_ms[:] = np.nan
    trace = expand(counts, seed=5)
    write_parquet(trace, tmp_path / "t.parquet")
    again = read_parquet(tmp_path / "t.parquet")
    assert (again.names, again.owners, again.triggers) == (trace.names, trace.owners, trace.triggers)
    assert (again.end_us, again.metadata) == (trace.end_us, trace.metadata)
    np.testing.assert_array_equal(again.arrival_us, trace.arrival_us)
    np.testing.assert_array_equal(again.arrival_function, trace.arrival_function)
    np.testing.assert_array_equal(again.duration_us, trace.duration_us)


def test_a_trace_without_requests_comes_back(table: Table, tmp_path: Path) -> None:
    trace = expand(table([[0, 0]]))
    write_parquet(trace, tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet").metadata == trace.metadata


def test_a_changed_file_is_refused(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(expand(table([[3, 1]])), path)
    changed = pq.read_table(path)
    arrival_us = changed.column("arrival_us").to_numpy() + 1
    pq.write_table(changed.set_column(1, "arrival_us", pa.array(arrival_us)), path)
    with pytest.raises(TraceError, match=r"t\.parquet: the content was changed: its hash is \w+\.\.\., expected"):
        read_parquet(path)


def test_metadata_that_lack_a_field_are_refused(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(expand(table([[1]])), path)
    changed = pq.read_table(path)
    about = json.loads(changed.schema.metadata[b"trace"])
    del about["licence"]
    pq.write_table(changed.replace_schema_metadata({"trace": json.dumps(about)}), path)
    with pytest.raises(TraceError, match=r"t\.parquet: the schema metadata lack licence"):
        read_parquet(path)


def test_a_file_of_another_tool_is_read_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"function": ["b", "a", "b"], "arrival_us": [70_000_000, 5, 9]}), path)
    trace = read_parquet(path)
    assert trace.names == ("a", "b")
    assert trace.arrival_us.tolist() == [5, 9, 70_000_000]
    assert trace.arrival_function.tolist() == [0, 1, 1]
    assert trace.end_us == 120_000_000
    assert trace.metadata.source == "mine.parquet"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"function": ["f"]}, "column arrival_us: the column is missing"),
        ({"arrival_us": [1]}, "column function: the column is missing"),
        (
            {"function": ["f"], "arrival_us": [1.5]},
            "column arrival_us: the column holds double, expected whole microseconds",
        ),
        ({"function": [3], "arrival_us": [1]}, "column function: the column holds int64, expected strings"),
        ({"function": ["f", "f"], "arrival_us": [1, -1]}, "row 2, column arrival_us: -1 is negative"),
        (
            {"function": ["f", "f"], "arrival_us": [1, 2**62]},
            f"row 2, column arrival_us: {2**62} is too large for microseconds",
        ),
        ({"function": ["f", None], "arrival_us": [1, 2]}, "row 2, column function: the cell is empty"),
        ({"function": ["f"], "arrival_us": [1], "duration_us": [-4]}, "row 1, column duration_us: -4 is negative"),
    ],
)
def test_refuses_bad_tables(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(TraceError) as caught:
        read_parquet(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_refuses_files_that_are_no_parquet_or_cut_or_missing(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(TraceError, match="no such file"):
        read_parquet(path)
    write_parquet(expand(table([[1]])), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TraceError, match="not a whole Parquet file"):
        read_parquet(path)
