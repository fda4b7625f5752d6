"""Logs are cut into activations at the sentinels."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_backend.containers.logs import SENTINEL, LogBuffer, Stream

pytestmark = pytest.mark.anyio


def texts(lines: list[str]) -> list[str]:
    """Lines without their times, which are 30 characters wide."""
    return [line[31:] for line in lines]


def end(logs: LogBuffer) -> None:
    for stream in ("stdout", "stderr"):
        logs.feed(stream, f"{SENTINEL}\n".encode())


async def test_lines_of_both_streams_come_in_the_order_they_were_written() -> None:
    logs = LogBuffer()
    logs.begin(1000)
    logs.feed("stdout", b"one\ntw")
    logs.feed("stderr", b"oops\n")
    logs.feed("stdout", b"o\n")
    end(logs)
    assert texts(await logs.collect(1)) == ["stdout: one", "stderr: oops", "stdout: two"]


async def test_an_activation_has_only_its_own_lines() -> None:
    logs = LogBuffer()
    for text in ("first", "second"):
        logs.begin(1000)
        logs.feed("stdout", f"{text}\n".encode())
        end(logs)
        assert texts(await logs.collect(1)) == [f"stdout: {text}"]


async def test_text_without_a_newline_is_kept_before_the_sentinel() -> None:
    logs = LogBuffer()
    logs.begin(1000)
    logs.feed("stdout", b"no newline")
    end(logs)
    assert texts(await logs.collect(1)) == ["stdout: no newline"]


async def test_what_exceeds_the_limit_is_cut_off_with_a_note() -> None:
    logs = LogBuffer()
    logs.begin(10)
    for _ in range(5):
        logs.feed("stdout", b"12345\n")
    end(logs)
    lines = await logs.collect(1)
    assert texts(lines[:-1]) == ["stdout: 12345"] * 2
    assert "exceeds the limit of 10 bytes" in lines[-1]
    assert len(lines) == 3


async def test_a_missing_sentinel_is_said() -> None:
    logs = LogBuffer()
    logs.begin(1000)
    logs.feed("stdout", b"half\n")
    lines = await logs.collect(0.01)
    assert texts(lines[:1]) == ["stdout: half"]
    assert "Data might be missing" in lines[1]


async def test_streams_that_end_complete_the_logs() -> None:
    logs = LogBuffer()
    logs.begin(1000)
    logs.feed("stderr", b"Traceback")
    logs.feed("stdout", b"")
    logs.feed("stderr", b"")
    assert texts(await logs.collect(1)) == ["stderr: Traceback"]
    assert logs.tail() == "Traceback"


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=20)), st.randoms())
def test_how_the_bytes_are_cut_makes_no_difference(lines: list[str], chance: random.Random) -> None:
    async def collected(cuts: bool) -> list[str]:
        logs = LogBuffer()
        logs.begin(10_000)
        raw = "".join(f"{line}\n" for line in [*lines, SENTINEL]).encode()
        step = chance.randrange(1, 9) if cuts else len(raw)
        stream: Stream = "stdout"
        for begin in range(0, len(raw), step):
            logs.feed(stream, raw[begin : begin + step])
        logs.feed("stderr", f"{SENTINEL}\n".encode())
        return texts(await logs.collect(1))

    assert asyncio.run(collected(True)) == asyncio.run(collected(False)) == [f"stdout: {line}" for line in lines]
