"""Any known file is recognised by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from traces import Counts, Trace, TraceError, expand, load, write_parquet

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
