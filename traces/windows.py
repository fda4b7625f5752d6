"""Splits by function and time, and the windows that training and evaluation draw from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

from traces.errors import TraceError


def _fractions(span: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 <= span[0] < span[1] <= 1.0:
        raise ValueError(f"{span} must be two ascending fractions in 0..1")
    return span


Fractions = Annotated[tuple[float, float], AfterValidator(_fractions)]
"""A half-open span of fractions, 0 <= low < high <= 1."""


class Split(BaseModel):
    """The part of the functions and of the time that a split may use.

    Attributes:
        functions: Span of the shuffled eligible functions, as fractions.
        time: Span of the trace's time, as fractions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functions: Fractions
    time: Fractions


@dataclass(frozen=True)
class Window:
    """One episode: some functions over some time.

    Attributes:
        split: Name of its split.
        index: Number within the split, in the order of use.
        group: Name of its group of functions; windows of one group are not independent samples.
        functions: Function indices, ascending.
        start_us: Start of the warm-up, which is not scored.
        score_from_us: Start of the scored time.
        end_us: End of the window.
    """

    split: str
    index: int
    group: str
    functions: tuple[int, ...]
    start_us: int
    score_from_us: int
    end_us: int


def split_functions(eligible: Sequence[int], splits: Mapping[str, Split], seed: int) -> dict[str, tuple[int, ...]]:
    """Shuffle the functions once and give each split its span of them.

    Args:
        eligible: Function indices to use; their order does not matter.
        splits: Name to span; no two may overlap both in functions and in time.
        seed: Seed of the shuffle.

    Returns:
        The functions of each split, in the order drawn.

    Raises:
        TraceError: Splits that share functions at the same time.
    """
    _refuse_shared_samples(splits)
    shuffled = np.random.default_rng(seed).permutation(np.array(sorted(set(eligible)), dtype=np.int64))
    parts: dict[str, tuple[int, ...]] = {}
    for name, split in splits.items():
        low, high = (round(fraction * len(shuffled)) for fraction in split.functions)
        parts[name] = tuple(int(i) for i in shuffled[low:high])
    return parts


def plan_windows(
    eligible: Sequence[int],
    end_us: int,
    splits: Mapping[str, Split],
    group_size: int,
    window_us: int,
    warm_up_us: int,
    seed: int,
) -> dict[str, tuple[Window, ...]]:
    """Cut functions and time into the windows of each split.

    Each split takes its functions as :func:`split_functions` deals them, in groups of ``group_size`` that share none (a
    last, smaller group only if it has at least half the size).  Scored times follow each other without overlap inside
    the split's time; the warm-up before them may reach back over the split's start, but not before the trace's.
    The order visits all groups in turn and new times before old ones, so that the first few windows already cover many
    of both; the whole list covers every pair once.

    Args:
        eligible: Function indices to use; their order does not matter.
        end_us: Length of the trace.
        splits: Name to span; no two may overlap both in functions and in time.
        group_size: Functions in a group.
        window_us: Length of the scored time.
        warm_up_us: Length of the warm-up.
        seed: Seed of both shuffles.

    Returns:
        The windows of each split, in the order of ``splits``.

    Raises:
        TraceError: Splits that share functions at the same time, sizes that are not positive, or a split without room
            for one window.
    """
    if group_size < 1 or window_us < 1 or warm_up_us < 0:
        raise TraceError(
            f"group_size {group_size} and window_us {window_us} must be positive, warm_up_us {warm_up_us} >= 0"
        )
    parts = split_functions(eligible, splits, seed)
    plan: dict[str, tuple[Window, ...]] = {}
    for name, split in splits.items():
        groups = _groups(parts[name], group_size)
        if not groups:
            problem = f"has {len(parts[name])} functions, not enough for a group of {group_size} nor half of one"
            raise TraceError(f"split {name!r}: {problem}; widen its functions or lower the group size")
        starts = _scored_starts(split, end_us, window_us, warm_up_us)
        if not starts:
            low, high = split.time
            wanted = f"a warm-up of {spoken(warm_up_us)} and a window of {spoken(window_us)}"
            room = f"{spoken((high - low) * end_us)} of a trace of {spoken(end_us)}"
            problem = f"has no room for {wanted} in its {room}"
            raise TraceError(f"split {name!r}: {problem}; widen its time or shorten the window")
        # Keyed by the name, so that one split's times do not hang on which others there are.
        generator = np.random.default_rng((seed, *name.encode()))
        order = generator.permutation(np.array(starts, dtype=np.int64))
        plan[name] = tuple(
            Window(
                split=name,
                index=index,
                group=f"{name}-{group}",
                functions=groups[group],
                start_us=int(order[time]) - warm_up_us,
                score_from_us=int(order[time]),
                end_us=int(order[time]) + window_us,
            )
            for index, (group, time) in enumerate(_interleaved(len(groups), len(starts)))
        )
    return plan


def spoken(span_us: float) -> str:
    """A length of time in the unit that scenarios have."""
    minutes = span_us / 60e6
    return f"{minutes:,.0f} min" if minutes >= 1000 else f"{minutes:.4g} min"


def _refuse_shared_samples(splits: Mapping[str, Split]) -> None:
    for (first, one), (second, other) in combinations(splits.items(), 2):
        if _overlap(one.functions, other.functions) and _overlap(one.time, other.time):
            raise TraceError(
                f"splits {first!r} and {second!r} share functions ({one.functions} and {other.functions}) "
                f"at the same time ({one.time} and {other.time}), expected disjoint spans of one or the other"
            )


def _overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] < second[1] and second[0] < first[1]


def _groups(functions: tuple[int, ...], group_size: int) -> list[tuple[int, ...]]:
    chunks = [functions[start : start + group_size] for start in range(0, len(functions), group_size)]
    return [tuple(sorted(chunk)) for chunk in chunks if 2 * len(chunk) >= group_size]


def _scored_starts(split: Split, end_us: int, window_us: int, warm_up_us: int) -> list[int]:
    low, high = math.ceil(split.time[0] * end_us), math.floor(split.time[1] * end_us)
    return list(range(max(low, warm_up_us), high - window_us + 1, window_us))


def _interleaved(groups: int, times: int) -> list[tuple[int, int]]:
    """Every (group, time) pair once: round r pairs group g with time g + r * stride.

    The stride is the first number from ``groups`` on without a common divisor with ``times``: each round goes on with
    times that the rounds before did not use, and every group meets every time.
    """
    stride = groups
    while math.gcd(stride, times) != 1:
        stride += 1
    return [(group, (group + turn * stride) % times) for turn in range(times) for group in range(groups)]
