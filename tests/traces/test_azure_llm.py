"""Azure LLM inference: tokens make the run time; which set a file is of: test_families.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from traces import TokenCost, Trace, TraceError, load, read_azure_llm

Writer = Callable[[str, str], Path]

ROWS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.1805900,100,2\n"
)


def test_tokens_make_the_run_time(write: Writer) -> None:
    trace = read_azure_llm(write("conv.csv.gz", ROWS), TokenCost(10, 0.5, 20))
    assert trace.names == ("conv",)
    assert trace.arrival_us.tolist() == [0, 3_500_000]
    assert trace.duration_us.tolist() == [1_077_000, 100_000]
    assert "run time = 10 ms + 0.5 ms x context tokens + 20 ms x generated tokens" in trace.metadata.source


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("374", "-1", "row 2, column ContextTokens: -1 is negative, expected a whole number, 0 or more"),
        ("2023-11-16 18:15:50.1805900", "later", "row 3, column TIMESTAMP: later is not a time"),
        (",44", ",999999999", "row 2, column GeneratedTokens: 999999999 tokens make a run time above a day"),
    ],
)
def test_refuses_bad_requests(write: Writer, old: str, new: str, message: str) -> None:
    path = write("conv.csv", ROWS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        read_azure_llm(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_a_cost_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(TraceError, match="decode_ms_per_token: needs milliseconds"):
        TokenCost(decode_ms_per_token=-1)


def test_the_real_file(real: Callable[[str], Path]) -> None:
    trace = load(real("azure_llm2023_conv.csv.gz"))
    assert isinstance(trace, Trace)
    assert len(trace.names) == 1
    assert trace.metadata.source.startswith("Azure LLM inference 2023 (Patel et al., ISCA'24), ")
    assert trace.end_us / 60e6 == pytest.approx(58.4, abs=0.1)
