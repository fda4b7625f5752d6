"""Lines that a container writes, cut into activations at OpenWhisk's sentinels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Literal

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
"""Line that an action server writes to both streams after each activation."""

LISTENING = "listening on "
"""How the line begins that an action server writes to stderr once it listens; nobody else can write there."""

Stream = Literal["stdout", "stderr"]

_LONGEST_LINE = 65_536


class LogBuffer:
    """Collects the two streams of one container and hands them out activation by activation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bytes = 0
        self._limit_bytes = 10 * 1024 * 1024
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self._ended: set[Stream] = set()
        self._complete = asyncio.Event()
        self.listening = asyncio.Event()
        """Set when the container's server has said that it listens (``LISTENING``)."""

    def begin(self, limit_bytes: int) -> None:
        """Start a new activation whose lines are cut off after ``limit_bytes``."""
        self._lines, self._bytes, self._limit_bytes = [], 0, limit_bytes
        self._ended.clear()
        self._complete.clear()

    def feed(self, stream: Stream, chunk: bytes) -> None:
        """Add bytes that the container wrote; an empty chunk says that the stream has ended."""
        *parts, rest = (self._rest[stream] + chunk).split(b"\n")
        if rest and (not chunk or len(rest) > _LONGEST_LINE):
            parts.append(rest)
            rest = b""
        self._rest[stream] = rest
        for part in parts:
            self._add(stream, part)
        if not chunk:
            self._end(stream)

    def _add(self, stream: Stream, raw: bytes) -> None:
        text = raw[:_LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")
        # A program that forgot its newline leaves text in front of the sentinel.
        text, sentinel, _ = text.partition(SENTINEL)
        if stream == "stderr" and text.startswith(LISTENING):
            self.listening.set()
        if text or not sentinel:
            before, self._bytes = self._bytes, self._bytes + len(raw)
            if self._bytes <= self._limit_bytes:
                now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                self._lines.append(f"{now:<30} {stream}: {text}")
            elif before <= self._limit_bytes:
                self._lines.append(
                    f"Logs were truncated because the total bytes size exceeds the limit of {self._limit_bytes} bytes."
                )
        if sentinel:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        self._ended.add(stream)
        if len(self._ended) == 2:
            self._complete.set()

    async def collect(self, timeout_s: float) -> list[str]:
        """Lines since ``begin``; waits up to ``timeout_s`` for both sentinels (or for both streams to end)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._complete.wait()
        except TimeoutError:
            self._lines.append("There was an issue while collecting your logs. Data might be missing.")
        return list(self._lines)

    def tail(self) -> str:
        """The last line written, without its time; empty if there is none.  Says why a server did not start."""
        return self._lines[-1].partition(": ")[2] if self._lines else ""
