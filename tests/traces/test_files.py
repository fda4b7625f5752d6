"""Any known file is recognised by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from traces import ColumnMap, Counts, Trace, TraceError, expand, load, write_parquet

Writer = Callable[[str, str], Path]


def test_recognises_each_form(write: Writer, table: Callable[..., Counts], tmp_path: Path) -> None:
    assert isinstance(load(write("a.csv.gz", "HashFunction,1\nf,1\n")), Counts)
    assert isinstance(load(write("b.txt", "app,func,end_timestamp,duration\na,f,3,1\n")), Trace)
    gentd26 = (
        "gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id\n2024-11-15 16:57:50,SUCCEED,3,M\n"
    )
    assert isinstance(load(write("c.csv", gentd26)), Trace)
    write_parquet(expand(table([[1]])), tmp_path / "d.parquet")
    assert isinstance(load(tmp_path / "d.parquet"), Trace)


def test_refuses_an_unknown_header_and_a_missing_file(write: Writer, tmp_path: Path) -> None:
    with pytest.raises(
        TraceError, match=r"a\.csv, row 1: a\.csv has none of the known forms .*; say which column is what: --column"
    ):
        load(write("a.csv", "x,y\n1,2\n"))
    with pytest.raises(TraceError, match="no such file"):
        load(tmp_path / "none.csv")


COUNTS = "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,http,1,2\no,a,g,http,3,4\no,a,f,http,10,20\n"
DURATIONS = "HashOwner,HashApp,HashFunction,Average,Count\no,a,f,40,1\n"
MEMORY = "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,1,100\n"


def test_files_beside_counts_and_repairs_reach_the_reader(write: Writer) -> None:
    paths = write("i.csv", COUNTS), write("d.csv", DURATIONS), write("m.csv", MEMORY)
    with pytest.raises(TraceError, match=r"row 4, .*repeats the key of row 2"):
        load(paths[0], durations=paths[1])
    counts = load(paths[0], durations=paths[1], memory=paths[2], bad_rows="repair")
    assert isinstance(counts, Counts)
    assert counts.counts.tolist() == [[11, 22], [3, 4]]
    assert counts.duration_ms.tolist() == [40, 40]
    assert counts.memory_mb.tolist() == [100, 100]
    assert [repair.count for repair in counts.repairs] == [1, 1]


@pytest.mark.parametrize(
    ("given", "name"), [({"durations": "d.csv"}, "durations"), ({"bad_rows": "repair"}, "bad_rows")]
)
def test_what_a_form_has_no_use_for_is_refused(write: Writer, given: dict[str, Any], name: str) -> None:
    path = write("b.txt", "app,func,end_timestamp,duration\na,f,3,1\n")
    message = rf"{name} belongs to Azure Functions 2019 counts, and b\.txt is of another form"
    if name == "bad_rows":
        message = r"bad_rows: there is no rule for rows of the form that b\.txt has; leave it out"
    with pytest.raises(TraceError, match=message):
        load(path, **given)
    if name == "bad_rows":
        return  # files with columns have rules of their own
    with pytest.raises(TraceError, match=message):
        load(path, ColumnMap(time="end_timestamp"), **given)
