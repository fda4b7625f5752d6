"""A trace: which function is asked when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.repairs import Repair


@dataclass(frozen=True)
class TraceMetadata:
    """Where a trace comes from.

    Attributes:
        source: The data set, and the file read.
        licence: Its licence.
        window: The part of the data set that is covered, in words.
        expansion: How times inside a minute or second were made ("none" for exact times).
        seed: Seed of that expansion, None where nothing was drawn.
        content_hash: SHA-256 of names, owners, triggers, arrivals, durations and length.
    """

    source: str
    licence: str
    window: str
    expansion: str
    seed: int | None
    content_hash: str


def content_hash(
    names: Sequence[str],
    owners: Sequence[str],
    triggers: Sequence[str],
    arrival_us: NDArray[np.int64],
    arrival_function: NDArray[np.int32],
    duration_us: NDArray[np.int64],
    end_us: int,
) -> str:
    """SHA-256 of a trace's content, the same on every machine (little-endian integers, UTF-8 names)."""
    digest = hashlib.sha256()
    digest.update("".join(f"{text}\0" for text in (*names, *owners, *triggers)).encode())
    digest.update(f"{len(names)} {len(arrival_us)} {len(duration_us)} {end_us}".encode())
    digest.update(np.ascontiguousarray(arrival_us, dtype="<i8").data)
    digest.update(np.ascontiguousarray(arrival_function, dtype="<i4").data)
    digest.update(np.ascontiguousarray(duration_us, dtype="<i8").data)
    return digest.hexdigest()


def _refuse_other_lengths(
    arrival_us: NDArray[np.int64], arrival_function: NDArray[np.int32], duration_us: NDArray[np.int64]
) -> None:
    requests = len(arrival_us)
    if len(arrival_function) != requests or len(duration_us) not in (0, requests):
        raise TraceError(f"arrival_function and duration_us must have {requests} entries, as arrival_us has")


def _in_order(
    arrival_us: NDArray[np.int64], arrival_function: NDArray[np.int32], duration_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """The columns sorted by (time, function, place); what is in order already is neither sorted nor copied."""
    if np.any(arrival_us[1:] < arrival_us[:-1]):
        order = np.argsort(arrival_us, kind="stable")
        arrival_us, arrival_function = arrival_us[order], arrival_function[order]
        duration_us = duration_us[order] if len(duration_us) else duration_us
        del order
    same = arrival_us[1:] == arrival_us[:-1]
    if not np.any(same & (arrival_function[1:] < arrival_function[:-1])):
        return arrival_us, arrival_function, duration_us
    # only requests of one instant change places, and only among themselves
    tied = np.zeros(len(arrival_us), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    rows = np.flatnonzero(tied)
    order = rows[np.lexsort((arrival_function[rows], arrival_us[rows]))]
    arrival_function = arrival_function.copy()
    arrival_function[rows] = arrival_function[order]
    if len(duration_us):
        duration_us = duration_us.copy()
        duration_us[rows] = duration_us[order]
    return arrival_us, arrival_function, duration_us


@dataclass(frozen=True, eq=False)
class Trace:
    """R requests to F functions, in order of time; build one with :meth:`build`.

    Attributes:
        names: Function names, unique.
        owners: Owner (tenant) of each function, "" where unknown.
        arrival_us: int64 (R,), ascending, microseconds from the start of the trace.
        arrival_function: int32 (R,), index into ``names``.
        duration_us: int64 (R,), run time, or an empty array where unknown.
        end_us: Length of the trace; every arrival lies before it.
        metadata: Where it comes from.
        triggers: Trigger of each function, "" where unknown.
        repairs: What was mended in the file; no part of the content.
        start_us: Instant of time 0, in microseconds since 1970-01-01 UTC.  Below one day it is a time of the day, and
            the date is unknown.  None: neither is known.  No part of the content.

    Raises:
        TraceError: Lengths, indices or times that do not fit each other.
    """

    names: tuple[str, ...]
    owners: tuple[str, ...]
    arrival_us: NDArray[np.int64]
    arrival_function: NDArray[np.int32]
    duration_us: NDArray[np.int64]
    end_us: int
    metadata: TraceMetadata
    triggers: tuple[str, ...]
    repairs: tuple[Repair, ...] = ()
    start_us: int | None = None

    def __post_init__(self) -> None:
        functions, requests = len(self.names), len(self.arrival_us)
        if len(set(self.names)) != functions:
            raise TraceError("names must be unique")
        if len(self.owners) != functions or len(self.triggers) != functions:
            raise TraceError(f"owners and triggers must have one entry for each of the {functions} names")
        _refuse_other_lengths(self.arrival_us, self.arrival_function, self.duration_us)
        if requests == 0:
            return
        if np.any(self.arrival_us[1:] < self.arrival_us[:-1]):
            raise TraceError("arrival_us must be ascending")
        if self.arrival_us[0] < 0 or self.arrival_us[-1] >= self.end_us:
            raise TraceError(f"arrival_us must lie in 0..{self.end_us - 1}")
        if self.arrival_function.min() < 0 or self.arrival_function.max() >= functions:
            raise TraceError(f"arrival_function must lie in 0..{functions - 1}")
        if len(self.duration_us) and self.duration_us.min() < 0:
            raise TraceError("duration_us must not be negative")

    @classmethod
    def build(
        cls,
        *,
        names: Sequence[str],
        arrival_us: NDArray[np.int64],
        arrival_function: NDArray[np.int32],
        end_us: int,
        owners: Sequence[str] | None = None,
        triggers: Sequence[str] | None = None,
        duration_us: NDArray[np.int64] | None = None,
        source: str,
        licence: str,
        window: str,
        expansion: str,
        seed: int | None = None,
        repairs: Iterable[Repair] = (),
        start_us: int | None = None,
    ) -> Self:
        """Sort the arrivals by (time, function), check them and hash the content.

        Args are the attributes of the class and of :class:`TraceMetadata`; arrivals may come in any order.
        """
        arrival_us = np.asarray(arrival_us, dtype=np.int64)
        arrival_function = np.asarray(arrival_function, dtype=np.int32)
        duration_us = np.zeros(0, np.int64) if duration_us is None else np.asarray(duration_us, dtype=np.int64)
        _refuse_other_lengths(arrival_us, arrival_function, duration_us)
        arrival_us, arrival_function, duration_us = _in_order(arrival_us, arrival_function, duration_us)
        owners = ("",) * len(names) if owners is None else tuple(owners)
        triggers = ("",) * len(names) if triggers is None else tuple(triggers)
        digest = content_hash(names, owners, triggers, arrival_us, arrival_function, duration_us, end_us)
        return cls(
            names=tuple(names),
            owners=owners,
            arrival_us=arrival_us,
            arrival_function=arrival_function,
            duration_us=duration_us,
            end_us=int(end_us),
            metadata=TraceMetadata(source, licence, window, expansion, seed, digest),
            triggers=triggers,
            repairs=tuple(repairs),
            start_us=None if start_us is None else int(start_us),
        )

    @classmethod
    def from_requests(
        cls,
        seconds: NDArray[np.float64],
        functions: Sequence[str],
        run_s: NDArray[np.float64] | None = None,
        *,
        source: str,
        licence: str = "unknown",
        span_s: tuple[float, float] | None = None,
        start_us: int | None = None,
    ) -> Self:
        """A trace from one row a request: what a reader of another format has at hand.

        Args:
            seconds: (R,) arrival times, from any instant on, in any order.
            functions: (R,) name of the function of each.
            run_s: (R,) run times in seconds; None: unknown.
            source: where they come from.
            licence: of the data.
            span_s: when the recording began and ended, counted as the arrivals are, so that the silence before the
                first request and after the last is kept; None: it has the first and the last as its ends.
            start_us: instant of the trace's begin, see the attribute.

        Raises:
            TraceError: no requests, requests outside of the span, or columns that do not fit each other.
        """
        if len(seconds) == 0:
            raise TraceError(f"{source}: has no requests")
        arrival_us = np.rint(np.asarray(seconds, dtype=np.float64) * 1e6).astype(np.int64)
        begin_us, end_us = int(arrival_us.min()), int(arrival_us.max()) + 1
        if span_s is not None:
            first_us, last_us = begin_us, end_us - 1
            begin_us, end_us = round(span_s[0] * 1e6), round(span_s[1] * 1e6)
            if not begin_us <= first_us <= last_us < end_us:
                requests = f"requests from {first_us / 1e6:g} to {last_us / 1e6:g} s"
                raise TraceError(f"{source}: has {requests}, the span is {span_s[0]:g} to {span_s[1]:g} s")
        arrival_us -= begin_us
        names, function = np.unique(np.asarray(functions, dtype=str), return_inverse=True)
        return cls.build(
            names=[str(name) for name in names],
            arrival_us=arrival_us,
            arrival_function=function.astype(np.int32),
            duration_us=None if run_s is None else np.rint(np.asarray(run_s) * 1e6).astype(np.int64),
            end_us=end_us - begin_us,
            source=source,
            licence=licence,
            window="from the first request to the last" if span_s is None else f"{span_s[0]:g} to {span_s[1]:g} s",
            expansion="none",
            start_us=start_us,
        )

    def select(self, function_indices: Sequence[int] | NDArray[np.integer]) -> Trace:
        """The requests of these functions only; the functions are renumbered in the order given."""
        rows = np.asarray(function_indices, dtype=np.int64)
        renumbered = np.full(len(self.names), -1, np.int32)
        renumbered[rows] = np.arange(len(rows), dtype=np.int32)
        functions = renumbered[self.arrival_function]
        return self._part(functions >= 0, rows, functions, 0, self.end_us, self.metadata.window)

    def between(self, start_us: int, end_us: int) -> Trace:
        """The requests with start_us <= arrival < end_us, counted from start_us; all functions stay.

        Raises:
            TraceError: A span that is empty or leaves the trace.
        """
        if not 0 <= start_us < end_us <= self.end_us:
            raise TraceError(f"span {start_us}..{end_us} us must be ascending and lie in 0..{self.end_us} us")
        first, last = np.searchsorted(self.arrival_us, (start_us, end_us))
        window = f"{start_us}..{end_us} us of {self.metadata.window}"
        every = np.arange(len(self.names))
        return self._part(slice(int(first), int(last)), every, self.arrival_function, start_us, end_us, window)

    def _part(
        self,
        keep: slice | NDArray[np.bool_],
        rows: NDArray[np.int64],
        functions: NDArray[np.int32],
        start_us: int,
        end_us: int,
        window: str,
    ) -> Trace:
        return Trace.build(
            names=[self.names[i] for i in rows],
            owners=[self.owners[i] for i in rows],
            triggers=[self.triggers[i] for i in rows],
            arrival_us=self.arrival_us[keep] - start_us,
            arrival_function=functions[keep],
            duration_us=self.duration_us[keep] if len(self.duration_us) else None,
            end_us=end_us - start_us,
            source=self.metadata.source,
            licence=self.metadata.licence,
            window=window,
            expansion=self.metadata.expansion,
            seed=self.metadata.seed,
            repairs=self.repairs,
            start_us=None if self.start_us is None else self.start_us + start_us,
        )
