"""What happens to containers, in order, for callers that follow it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

_KEPT = 10_000


@dataclass(frozen=True)
class ContainerEvent:
    """One change.

    Attributes:
        number: Position in the order of all events of this run of the platform, from 1.
        time: s since 1970.
        kind: created, busy, idle, paused, removed.
        container: Its id.
        node: Name of its node.
        action: Path of its action; None for a stem cell.
        reason: Why it was removed: expired, evicted, lost, failed, outdated, asked; else empty.
    """

    number: int
    time: float
    kind: str
    container: str
    node: str
    action: str | None
    reason: str = ""


class Events:
    """The latest events, and a bell."""

    def __init__(self) -> None:
        self._kept: deque[ContainerEvent] = deque(maxlen=_KEPT)
        self._count = 0
        self._bell = asyncio.Event()

    def add(self, kind: str, container: str, node: str, action: str | None, reason: str = "") -> None:
        """Note an event and wake whoever waits for one."""
        self._count += 1
        self._kept.append(ContainerEvent(self._count, time.time(), kind, container, node, action, reason))
        self._bell.set()
        self._bell = asyncio.Event()

    @property
    def oldest(self) -> int:
        """Number of the oldest event that is kept; the next one's if there is none."""
        return self._kept[0].number if self._kept else self._count + 1

    async def after(self, number: int, timeout_s: float) -> list[ContainerEvent]:
        """Events after ``number``; waits up to ``timeout_s`` for one if there is none."""
        if number >= self._count:
            bell = self._bell
            try:
                async with asyncio.timeout(timeout_s):
                    await bell.wait()
            except TimeoutError:
                return []
        return [event for event in self._kept if event.number > number]
