"""Draws of functions and time, by the trace's own statistics and nothing else.

The paper replays eight random four-hour function traces a class, one for each model.  A draw here is a set of such
pieces: a function and a start of its window, in which its requests are of the class and its mean gap lies in a band.
The pieces of a draw are replayed side by side, whatever their time of day; their order decides the models.  Pieces of
different draws can come from one function, so intervals are over functions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.playing.runs import shareable
from agents.playing.scene import digest_of
from agents.policies.history import History, Minutes, minutes_of
from traces import Counts, Window
from traces.describe import cov_of_gaps
from traces.expansion import function_arrivals
from tyche_env.errors import UserError
from tyche_env.fourier import with_forecast
from tyche_env.scenario import PREWARM, Conditions, Mode, PrewarmName, Scenario
from tyche_env.sources import TraceSettings, read_source
from tyche_env.world import FUNCTION_FIELDS, FunctionTable, World

CLASSES = ("Predictable", "Normal", "Bursty")
"""By the CoV of the gaps: below 1, 1 to 4, above 4."""

EXPANSION_SEED = 0
"""One expansion of the trace for all draws: classes are those of the arrivals that are replayed."""

_MINUTE_US = 60_000_000
_STEP_MIN = 10


class DrawError(UserError):
    """Draws that the trace cannot give; the message says what it has."""


@dataclass(frozen=True, slots=True)
class Band:
    """Which functions count: by their requests in the scored window.

    Attributes:
        shortest_gap_min: least mean gap between requests, window length / requests, minutes.
        longest_gap_min: greatest mean gap.
        least_requests: fewest requests in the window.
    """

    shortest_gap_min: float = 3.0
    longest_gap_min: float = 30.0
    least_requests: int = 5


PAPER_BAND = Band()
"""Mean gaps of 3 to 30 minutes, at least five requests."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Pieces of the trace that are replayed together.

    Attributes:
        name: class, size and number.
        index: its number; paired across policies.
        functions: (F,) rows of the trace.
        starts_us: (F,) start of the scored time of each piece, in the trace.
    """

    name: str
    index: int
    functions: tuple[int, ...]
    starts_us: tuple[int, ...]


def draws(settings: TraceSettings, cov_class: str, count: int, size: int, band: Band = PAPER_BAND) -> list[Draw]:
    """Draw pieces of one class: a function by lot, then one of its windows.

    Args:
        settings: the trace, its window and warm-up lengths; counts per minute only.
        cov_class: one of :data:`CLASSES`, or ``all``.
        count: number of draws.
        size: pieces in each, of different functions as long as there are enough, else of each function equally often.
        band: which functions qualify.

    Raises:
        DrawError: no function qualifies.
    """
    found = candidates(settings, cov_class, band)
    if not found:
        raise DrawError(f"class {cov_class}: no function of the trace qualifies")
    pool = np.array(sorted(found), dtype=np.int64)
    result = []
    for index in range(count):
        # Keyed by the draw, so that asking for more draws adds to the same ones.
        random = np.random.default_rng((*cov_class.encode(), size, index))
        rounds = -(-size // len(pool))
        chosen = np.concatenate([random.permutation(pool) for _ in range(rounds)])[:size].tolist()
        starts = tuple(int(random.choice(found[function])) for function in chosen)
        result.append(Draw(f"{cov_class}-{size}-{index}", index, tuple(chosen), starts))
    return result


def merged(parts: Sequence[Draw]) -> Draw:
    """The pieces of several draws, side by side."""
    return Draw(
        name="+".join(part.name for part in parts),
        index=parts[0].index,
        functions=sum((part.functions for part in parts), ()),
        starts_us=sum((part.starts_us for part in parts), ()),
    )


def world_of(scenario: Scenario, draw: Draw, mode: Mode | None = None) -> World:
    """The world of a draw: every piece begins at time 0 with its warm-up.

    Args:
        scenario: cluster, profiles (assigned by position) and settings.
        draw: the pieces.
        mode: the mode, if not the scenario's.
    """
    settings = scenario.trace
    warm_up_us = round(settings.warm_up_min * _MINUTE_US)
    length_us = warm_up_us + round(settings.window_min * _MINUTE_US)
    # Pieces may come from one function, and profiles go by position: one round of them gives all rows.
    profiles = len(scenario.functions.selected())
    window = Window("draw", draw.index, draw.name, draw.functions[:profiles], 0, warm_up_us, length_us)
    pieces = []
    for function, start_us in zip(draw.functions, draw.starts_us, strict=True):
        arrival_us = arrivals_of(settings, function)
        low, high = np.searchsorted(arrival_us, (start_us - warm_up_us, start_us - warm_up_us + length_us))
        pieces.append(arrival_us[low:high] - (start_us - warm_up_us))
    arrival_us = np.concatenate(pieces)
    arrival_function = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(piece) for piece in pieces])
    order = np.lexsort((arrival_function, arrival_us))
    base = scenario.world_of(window, draw.index, conditions=Conditions(mode=mode))
    columns = {name: np.resize(getattr(base.functions, name), len(pieces)) for name in FUNCTION_FIELDS}
    return replace(
        base,
        functions=FunctionTable(**columns),
        arrival_us=arrival_us[order],
        arrival_function=arrival_function[order],
        names=tuple(f"{function}-{place}" for place, function in enumerate(draw.functions)),
        profiles=tuple(base.profiles[place % profiles] for place in range(len(pieces))),
    ).validate()


@lru_cache(maxsize=64)
def candidates(settings: TraceSettings, cov_class: str, band: Band = PAPER_BAND) -> dict[int, NDArray[np.int64]]:
    """Starts of the windows in which each function is of the class and in the band.

    Raises:
        DrawError: the trace gives no counts.
    """
    counts = _counts(settings)
    window_us = round(settings.window_min * _MINUTE_US)
    first_us = round(settings.warm_up_min * _MINUTE_US)
    starts_us = np.arange(first_us, counts.end_us - window_us + 1, _STEP_MIN * _MINUTE_US, dtype=np.int64)
    most = window_us / (band.shortest_gap_min * _MINUTE_US)
    least = max(band.least_requests, window_us / (band.longest_gap_min * _MINUTE_US))
    found = {}
    cumulative = np.cumsum(counts.counts.astype(np.int64), axis=1)
    for function in range(len(counts.names)):
        # Hot functions never qualify, and expanding them would take most of the time.
        if cumulative[function, -1] < least or _least_in_window(cumulative[function], window_us) > most:
            continue
        arrival_us = arrivals_of(settings, function)
        low = np.searchsorted(arrival_us, starts_us)
        high = np.searchsorted(arrival_us, starts_us + window_us)
        rows = [
            int(row)
            for row in np.flatnonzero((high - low >= least) & (high - low <= most))
            if cov_class == "all" or class_of(arrival_us[low[row] : high[row]]) == cov_class
        ]
        if rows:
            found[function] = starts_us[rows]
    return found


@lru_cache(maxsize=512)
def arrivals_of(settings: TraceSettings, function: int) -> NDArray[np.int64]:
    """Arrivals of one function over the whole trace, ascending."""
    return function_arrivals(_counts(settings), settings.expansion, EXPANSION_SEED, function)


def class_of(arrival_us: NDArray[np.int64]) -> str | None:
    """The class of ascending arrivals; None without two gaps."""
    cov = cov_of_gaps(arrival_us)
    if np.isnan(cov):
        return None
    return "Predictable" if cov < 1 else "Normal" if cov <= 4 else "Bursty"


def _least_in_window(cumulative: NDArray[np.int64], window_us: int) -> int:
    minutes = window_us // _MINUTE_US
    before = np.concatenate(([0], cumulative))
    return int((before[minutes:] - before[:-minutes]).min())


def _counts(settings: TraceSettings) -> Counts:
    content = read_source(settings)
    if not isinstance(content, Counts):
        raise DrawError(f"trace family {settings.family}: draws need counts per minute, azure2019-day has them")
    return content


@dataclass(frozen=True, slots=True)
class DrawScene:
    """A draw under the conditions of a case.

    Attributes:
        scenario: cluster, profiles, trace.
        draw: the requests.
        prewarm: the platform's policy.
        mode: what becomes of processes.
        settings: changes of :class:`~tyche_env.world.Settings`, before the policy's own.
    """

    scenario: Scenario
    draw: Draw
    prewarm: PrewarmName
    mode: Mode = "paper"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """Scenario, draw and mode."""
        return (digest_of(self.scenario), self.draw.name, self.mode)

    def requests(self) -> World:
        """See :class:`agents.playing.scene.Scene`."""
        return shareable(world_of(self.scenario, self.draw, self.mode))

    def world(self, requests: World) -> World:
        """See :class:`agents.playing.scene.Scene`."""
        world = requests.with_settings(prewarm=PREWARM[self.prewarm], **self.settings)
        return with_forecast(world) if self.prewarm == "icebreaker" else world

    def history(self, world: World) -> History:
        """Minutes are cut so that each piece, warm-up included, begins with one."""
        settings = self.scenario.trace

        def minutes() -> list[Minutes]:
            count = round(settings.warm_up_min + settings.window_min)
            warm_up_us = round(settings.warm_up_min * _MINUTE_US)
            return [
                minutes_of(arrivals_of(settings, function), start_us - warm_up_us, count)
                for function, start_us in zip(self.draw.functions, self.draw.starts_us, strict=True)
            ]

        return History(world.functions, world.function_count, minutes)
