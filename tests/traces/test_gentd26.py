"""Alibaba GenTD26: base models as functions, seconds spread to microseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from traces import TraceError, read_gentd26

Writer = Callable[[str, str], Path]

REQUESTS = """gmt_create,predict_type,predict_status,exec_time_seconds,groupId,checkpoint_model_version_id
2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0,M1
2024-11-15 16:57:50,TXT_2_IMG,PENDING,0.0,G0,
2024-11-15 16:57:52,IMG_2_IMG,FAILED,7.5,G1,M0
2024-11-15 16:58:50,TXT_2_IMG,SUCCEED,20.0,G1,M1
"""


def test_reads_requests_that_ran(write: Writer) -> None:
    trace = read_gentd26(write("r.csv.gz", REQUESTS))
    assert trace.names == ("M0", "M1")
    assert trace.arrival_function.tolist() == [1, 0, 1]
    assert (trace.arrival_us // 1_000_000).tolist() == [0, 2, 60]
    assert trace.duration_us.tolist() == [32_000_000, 7_500_000, 20_000_000]
    assert trace.end_us == 61_000_000
    assert trace.metadata.window == "2024-11-15 16:57:50 to 2024-11-15 16:58:50"
    assert "research" in trace.metadata.licence
    (left_out,) = trace.repairs
    assert (left_out.count, left_out.first_row) == (1, 3)
    assert left_out.rule == "a request that is PENDING or PROCESSING: left out, since no run time is known of it"


def test_equal_rows_are_requests_and_what_has_not_ended_is_left_out(write: Writer) -> None:
    """As the published file has them: 19 rows that repeat another, and three that are PROCESSING."""
    row = "2024-11-15 16:57:52,IMG_2_IMG,FAILED,7.5,G1,M0\n"
    trace = read_gentd26(write("r.csv", REQUESTS.replace(row, 2 * row + row.replace("FAILED", "PROCESSING"))))
    assert (trace.arrival_us // 1_000_000).tolist() == [0, 2, 2, 60]
    assert trace.arrival_function.tolist() == [1, 0, 0, 1]
    assert trace.arrival_us[1] != trace.arrival_us[2]
    assert [repair.count for repair in trace.repairs] == [2]


def test_the_place_in_the_second_is_keyed_by_the_seed(write: Writer) -> None:
    path = write("r.csv", REQUESTS)
    assert read_gentd26(path, seed=1).arrival_us.tolist() == read_gentd26(path, seed=1).arrival_us.tolist()
    assert read_gentd26(path, seed=1).arrival_us.tolist() != read_gentd26(path, seed=2).arrival_us.tolist()
    assert read_gentd26(path, seed=1).metadata.seed == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gmt_create", "created", "row 1, column gmt_create: the column is missing"),
        ("2024-11-15 16:57:52", "1731689872", "row 4, column gmt_create: 1731689872 is not a time"),
        (
            "FAILED",
            "LOST",
            "row 4, column predict_status: LOST is unknown, expected one of SUCCEED, FAILED, PENDING, P",
        ),
        ("7.5", "-7.5", "row 4, column exec_time_seconds: -7.5 is negative"),
        ("7.5", "soon", "row 4, column exec_time_seconds: 'soon' is not a number"),
        ("32.0", "32000.0", "row 2, column exec_time_seconds: 32000.0 is above 10800 s: the unit looks wrong"),
        ("G1,M1", "G1,", "row 5, column checkpoint_model_version_id: None is empty"),
    ],
)
def test_refuses_bad_requests(write: Writer, old: str, new: str, message: str) -> None:
    path = write("r.csv", REQUESTS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        read_gentd26(path)
    assert str(caught.value).startswith(f"{path}, row")
    assert message in str(caught.value)


def test_refuses_a_file_in_which_nothing_ran(write: Writer) -> None:
    with pytest.raises(TraceError, match="no request ran"):
        read_gentd26(write("r.csv", "\n".join(REQUESTS.splitlines()[i] for i in (0, 2))))
