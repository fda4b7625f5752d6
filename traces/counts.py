"""Requests counted per minute: what the Azure Functions 2019 data and the synthesiser give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.repairs import Repair

MINUTE_US = 60_000_000
"""Microseconds in a minute."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Requests per function and minute; F functions, M minutes.

    Attributes:
        names: Function names, unique.
        owners: Owner (tenant) of each function, "" where unknown.
        apps: Application of each function, "" where unknown.
        triggers: Trigger of each function ("timer", "http", ...), "" where unknown.
        counts: int32 (F, M), requests in each minute.
        first_minute: Label of the first minute in its day.
        duration_ms: float64 (F,), mean run time, nan where unknown.
        memory_mb: float64 (F,), mean memory, nan where unknown; for the public files that of the whole application.
        weights: int64 (F,), how many functions of the full data set a row stands for.
        source: Where the data come from.
        licence: Their licence.
        repairs: What was mended in the files.
        start_us: Instant of the first minute's begin, as ``Trace.start_us``: a time of the day where the date is
            unknown.

    Raises:
        TraceError: Lengths that do not fit each other, or a name twice.
    """

    names: tuple[str, ...]
    owners: tuple[str, ...]
    apps: tuple[str, ...]
    triggers: tuple[str, ...]
    counts: NDArray[np.int32]
    first_minute: int
    duration_ms: NDArray[np.float64]
    memory_mb: NDArray[np.float64]
    weights: NDArray[np.int64]
    source: str
    licence: str
    repairs: tuple[Repair, ...] = ()
    start_us: int = 0

    def __post_init__(self) -> None:
        functions = len(self.names)
        if self.counts.ndim != 2:
            raise TraceError(f"counts has {self.counts.ndim} dimension(s), expected functions x minutes")
        for field in ("owners", "apps", "triggers", "counts", "duration_ms", "memory_mb", "weights"):
            if len(getattr(self, field)) != functions:
                raise TraceError(
                    f"{field} has {len(getattr(self, field))} rows, expected one for each of {functions} names"
                )
        if len(set(self.names)) != functions:
            raise TraceError("names must be unique")

    @property
    def minutes(self) -> int:
        """Number of minutes, M."""
        return int(self.counts.shape[1])

    @property
    def end_us(self) -> int:
        """Length of the table in microseconds."""
        return self.minutes * MINUTE_US

    @property
    def window(self) -> str:
        """The minutes covered, in words."""
        return f"minutes {self.first_minute}..{self.first_minute + self.minutes - 1}"

    def select(self, function_indices: Sequence[int] | NDArray[np.integer]) -> Counts:
        """The table of these functions only, in this order."""
        rows = [int(i) for i in function_indices]
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            owners=tuple(self.owners[i] for i in rows),
            apps=tuple(self.apps[i] for i in rows),
            triggers=tuple(self.triggers[i] for i in rows),
            counts=self.counts[rows],
            duration_ms=self.duration_ms[rows],
            memory_mb=self.memory_mb[rows],
            weights=self.weights[rows],
        )
