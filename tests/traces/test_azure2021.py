"""Azure 2021: one row an invocation, end and run time in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from traces import TraceError, read_azure2021

Writer = Callable[[str, str], Path]

INVOCATIONS = """app,func,end_timestamp,duration
a,f,100.5,0.5
b,g,103.0,4.0
a,f,101.0,0.25
b,f,101.0,1.0
"""


def test_a_request_arrives_at_its_end_minus_its_run_time(write: Writer) -> None:
    trace = read_azure2021(write("i.txt", INVOCATIONS))
    assert trace.names == ("a/f", "b/f", "g")
    assert trace.arrival_us.tolist() == [0, 1_000_000, 1_000_000, 1_750_000]
    assert trace.arrival_function.tolist() == [2, 0, 1, 0]
    assert trace.duration_us.tolist() == [4_000_000, 500_000, 1_000_000, 250_000]
    assert [(each.count, each.word) for each in trace.repairs] == [(2, "noted")]  # a/f and b/f


def test_run_times_of_zero_are_kept_and_counted(write: Writer) -> None:
    trace = read_azure2021(write("i.txt", INVOCATIONS.replace("0.25", "0").replace("1.0\n", "0.0\n")))
    assert trace.duration_us.tolist() == [4_000_000, 500_000, 0, 0]
    zero = trace.repairs[0]
    assert (zero.count, zero.first_row, zero.changed) == (2, 4, False)
    assert zero.rule == "a run time of 0, which the authors leave unexplained: kept"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("duration", "runtime", "row 1, column duration: the column is missing"),
        ("4.0", "-4.0", "row 3, column duration: -4.0 is negative"),
        ("4.0", "x", "row 3, column duration: 'x' is not a number"),
        ("103.0", "1610000000000", "row 3, column end_timestamp: 1610000000000.0 is over 100 days after the first"),
    ],
)
def test_refuses_bad_invocations(write: Writer, old: str, new: str, message: str) -> None:
    path = write("i.txt", INVOCATIONS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        read_azure2021(path)
    assert str(caught.value).startswith(f"{path}, {message}")
