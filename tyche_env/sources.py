"""Where a scenario's requests come from: trace files or a synthesis, read once a process.

Reading, expanding counts into arrivals and planning windows are cached, since evaluation asks for many windows of the
same trace.  Trace files lie in the folder that the environment variable TYCHE_TRACES names, or come with the package.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

import traces
from traces import ColumnMap, Counts, Split, Trace, Window
from traces.expansion import Expansion, unknown_run_times
from traces.packing import STANDARD_INPUT
from traces.repairs import BadRows, Repair
from traces.streams import Streams, numpy_streams
from tyche_env.errors import UserError
from tyche_env.part import Part

VARIABLE = "TYCHE_TRACES"
"""Environment variable that names a folder of trace files, which is looked into first."""

SHIPPED = Path(traces.__file__).parent / "shipped"
"""Trace files that come with the package; NOTICE.md there says whose they are."""

FILES: dict[str, tuple[str, ...]] = {
    "azure2019-8h": (
        "azure2019_8h_invocations.csv.gz",
        "azure2019_8h_durations.csv.gz",
        "azure2019_8h_memory.csv.gz",
    ),
    "azure2019-day": ("azure2019_day_unique_A.csv.gz",),
    "alibaba-gentd26": ("alibaba_gentd26_requests_to_1130.csv.gz",),
}
"""Files of each family, in the order in which its reader takes them."""

_DESCRIBED_AT = {
    "azure2019-8h": "github.com/Azure/AzurePublicDataset",
    "azure2019-day": "github.com/Azure/AzurePublicDataset",
    "alibaba-gentd26": "github.com/alibaba/clusterdata",
}

_MINUTE_US = 60_000_000

Count = Annotated[int, Field(ge=1)]


class SourceError(UserError):
    """A trace that is not there; the message names the variable, the file and what to do instead."""


class Synthesis(Part):
    """Size and seed of a synthetic trace."""

    functions: Count
    minutes: Count
    seed: Annotated[int, Field(ge=0)] = 0


class Splits(Part):
    """Which share of the shuffled functions and of the trace's time each split may use."""

    train: Split
    validation: Split
    test: Split


class TraceSettings(Part):
    """Where requests come from and how they are cut into windows.

    Attributes:
        family: the form of the trace.
        file: the file of the family ``parquet``, in the form of ``traces.write_parquet``, or of the family ``file``, in
            any form that ``traces.load`` knows; a relative path is looked for in the working directory, then in
            TYCHE_TRACES.
        columns: which column is what, for a ``file`` of no known form.
        file_family: the form of a public trace that its ``file`` does not tell, such as huawei2023.
        durations_file: the run times that belong to a ``file`` of Azure Functions 2019 counts; looked for where it is.
        memory_file: its memory.
        bad_rows: whether defects of such files, or of one with ``columns``, are refused or mended by the reader's rules
            (``traces``).
        synthesis: size of the family ``synthetic``.
        expansion: how counts per minute become arrival times; without effect on traces that have times.
        min_requests: functions with fewer requests in the whole trace are left out.
        max_rate_per_min: functions with more requests a minute, averaged over the whole trace, are left out.
        durations: inference times from the ``profile`` or from the ``trace``.
        group_size: functions in one window.
        window_min: scored minutes of one window.
        warm_up_min: minutes before them that are simulated but not scored.
        splits: which functions and times belong to which split.
    """

    family: Literal["azure2019-8h", "azure2019-day", "alibaba-gentd26", "synthetic", "parquet", "file"]
    file: str | None = None
    columns: ColumnMap | None = None
    file_family: str | None = None
    durations_file: str | None = None
    memory_file: str | None = None
    bad_rows: BadRows = "fail"
    synthesis: Synthesis | None = None
    expansion: Literal["uniform", "exponential", "equidistant", "timer_phase"] = "uniform"
    min_requests: Annotated[int, Field(ge=0)] = 1
    max_rate_per_min: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    durations: Literal["profile", "trace"] = "profile"
    group_size: Count
    window_min: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    warm_up_min: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60
    splits: Splits

    @model_validator(mode="after")
    def _family_has_what_it_needs(self) -> TraceSettings:
        for key, families in (("file", ("parquet", "file")), ("synthesis", ("synthetic",))):
            if (getattr(self, key) is not None) != (self.family in families):
                named = " or ".join(families)
                raise ValueError(f"{key} belongs to the family {named} and to no other; the family is {self.family}")
        for key in ("columns", "file_family", "durations_file", "memory_file", "bad_rows"):
            default = "fail" if key == "bad_rows" else None
            if getattr(self, key) != default and self.family != "file":
                raise ValueError(f"{key} belongs to the family file and to no other; the family is {self.family}")
        return self


class Requests(NamedTuple):
    """R requests to some functions, as :func:`requests_of` gives them.

    Attributes:
        names: of the functions.
        arrival_us: int64 (R,), ascending.
        arrival_function: int32 (R,), index into the names.
        duration_us: int64 (R,), or empty where run times are unknown.
    """

    names: tuple[str, ...]
    arrival_us: NDArray[np.int64]
    arrival_function: NDArray[np.int32]
    duration_us: NDArray[np.int64]

    def between(self, start_us: int, end_us: int) -> Requests:
        """Those with start_us <= arrival < end_us, counted from start_us."""
        first, last = np.searchsorted(self.arrival_us, (start_us, end_us))
        duration_us = self.duration_us[first:last] if len(self.duration_us) else self.duration_us
        return Requests(
            self.names, self.arrival_us[first:last] - start_us, self.arrival_function[first:last], duration_us
        )


def trace_files(settings: TraceSettings) -> tuple[Path, ...]:
    """The files to read, none for a synthetic trace.

    Raises:
        SourceError: the variable or a file is missing.
    """
    return _files(settings, os.environ.get(VARIABLE, ""), Path.cwd())


@lru_cache(maxsize=64)
def _files(settings: TraceSettings, folder: str, _: Path) -> tuple[Path, ...]:
    """The files, looked for once in a folder of traces and a working folder; what is missing is looked for again."""
    if settings.file is not None:
        keys = ("file", "durations_file", "memory_file")
        given = {key: getattr(settings, key) for key in keys if getattr(settings, key) is not None}
        return tuple(_found(f"trace.{key}", name, folder) for key, name in given.items())
    if settings.family not in FILES:
        return ()
    names, chosen = FILES[settings.family], folder_of(settings.family)
    if chosen is None:
        state = f"{folder} lacks {names[0]}" if folder else "it is not set"
        raise SourceError(
            f"the environment variable {VARIABLE} must name the folder of {', '.join(names)}, but {state}; "
            f"the public data set is described at {_DESCRIBED_AT[settings.family]}; the scenarios 'small' and "
            "'azure-8h' need no files"
        )
    return tuple((chosen / name).resolve() for name in names)


def _found(key: str, name: str, folder: str) -> Path:
    """A file as it is named, or in the folder of the traces."""
    if name == STANDARD_INPUT:
        raise SourceError(f"{key}: a scenario reads its trace more than once, standard input cannot be; name a file")
    candidates = [Path(name), *([Path(folder) / name] if folder else [])]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    if candidates[0].exists() and not candidates[0].is_dir():
        raise SourceError(f"{key}: a scenario reads its trace more than once, and {name} is a pipe; name a file")
    raise SourceError(f"{key}: no such file: {', '.join(map(str, candidates))}")


def folder_of(family: str) -> Path | None:
    """Where the files of a family are: in the folder that TYCHE_TRACES names, else among those that are shipped.

    All of a family's files come from one folder, so that what belongs together is never mixed.

    Raises:
        SourceError: the variable names no folder, or one that has some of the family's files, but not all.
    """
    names = FILES[family]
    if named := os.environ.get(VARIABLE, ""):
        if not Path(named).is_dir():
            raise SourceError(f"{VARIABLE}: {named} is no folder")
        lacking = [name for name in names if not (Path(named) / name).is_file()]
        if not lacking:
            return Path(named)
        if len(lacking) < len(names):
            raise SourceError(f"{VARIABLE}: {named} has files of {family}, but lacks {', '.join(lacking)}")
    return SHIPPED if all((SHIPPED / name).is_file() for name in names) else None


def read_source(settings: TraceSettings) -> Counts | Trace:
    """The whole trace: counts per minute or arrivals, whichever its form has.

    Raises:
        SourceError: a file is missing.
        TraceError: a file is broken.
    """
    return _read(settings, trace_files(settings))


def repairs_of(settings: TraceSettings) -> tuple[Repair, ...]:
    """What is mended in the trace: in its files, and in run times that are used.

    Raises:
        SourceError: a file is missing.
        TraceError: a file is broken.
    """
    content = read_source(settings)
    if isinstance(content, Counts) and settings.durations == "trace":
        return (*content.repairs, *unknown_run_times(content))
    return content.repairs


def requests_of(
    settings: TraceSettings,
    seed: int,
    functions: tuple[int, ...],
    span_us: tuple[int, int] | None = None,
    streams: Streams = numpy_streams,
) -> Requests:
    """The requests of some functions.

    Args:
        settings: what is read.
        seed: key of the expansion of counts.
        functions: indices in the whole trace; function k of the result is ``functions[k]``.
        span_us: half-open part of the trace's time; the result counts from its start.  None: all of it.
        streams: who makes the draws of an expansion; they are the same, whoever does.
    """
    files = trace_files(settings)
    content = _read(settings, files)
    if isinstance(content, Counts):
        return _drawn(settings, files, seed, functions, span_us or (0, content.end_us), streams)
    requests = _selected(settings, files, functions)
    return requests if span_us is None else requests.between(*span_us)


def windows_of(settings: TraceSettings, split: str) -> tuple[Window, ...]:
    """The windows of a split, over the functions that pass the filters.

    Raises:
        TraceError: the split has no room for a window (others are not asked), or two splits share functions at the same
            time.
    """
    return _windows(settings, trace_files(settings), split)


def durations_are_known(settings: TraceSettings) -> bool:
    """Whether the trace says how long requests run.

    Raises:
        SourceError: a file is missing.
        TraceError: a file is broken.
    """
    content = read_source(settings)
    if isinstance(content, Counts):
        return not np.isnan(content.duration_ms).all()
    return len(content.duration_us) > 0 or len(content.arrival_us) == 0


@lru_cache(maxsize=4)
def _read(settings: TraceSettings, files: tuple[Path, ...]) -> Counts | Trace:
    if settings.synthesis is not None:
        return traces.synthesize(traces.SynthesisConfig(**settings.synthesis.model_dump()))
    if settings.family == "parquet":
        return traces.read_parquet(files[0])
    if settings.family == "file":
        beside = iter(files[1:])
        durations = next(beside) if settings.durations_file is not None else None
        memory = next(beside) if settings.memory_file is not None else None
        return traces.load(
            files[0],
            settings.columns,
            family=settings.file_family,
            durations=durations,
            memory=memory,
            bad_rows=settings.bad_rows,
        )
    if settings.family == "alibaba-gentd26":
        return traces.read_gentd26(files[0])
    return traces.read_azure2019(*files)


@lru_cache(maxsize=16)
def _drawn(
    settings: TraceSettings,
    files: tuple[Path, ...],
    seed: int,
    functions: tuple[int, ...],
    span_us: tuple[int, int],
    streams: Streams,
) -> Requests:
    """Requests of a trace of counts: only the minutes that the span touches are expanded."""
    first, last = span_us[0] // _MINUTE_US, -(-span_us[1] // _MINUTE_US)
    found = _expansion(settings, files, functions, (first, last), streams)
    arrival_us, arrival_function = found.place(seed)
    duration_us = found.durations_us(arrival_function)
    requests = Requests(
        found.names, arrival_us, arrival_function, np.zeros(0, np.int64) if duration_us is None else duration_us
    )
    start_us, end_us = (t_us - first * _MINUTE_US for t_us in span_us)
    return requests if (start_us, end_us) == (0, (last - first) * _MINUTE_US) else requests.between(start_us, end_us)


@lru_cache(maxsize=512)
def _expansion(
    settings: TraceSettings,
    files: tuple[Path, ...],
    functions: tuple[int, ...],
    minutes: tuple[int, int],
    streams: Streams,
) -> Expansion:
    """What is the same for every seed."""
    counts = _read(settings, files)
    assert isinstance(counts, Counts)
    return Expansion(counts, settings.expansion, functions, minutes, streams)


@lru_cache(maxsize=16)
def _selected(settings: TraceSettings, files: tuple[Path, ...], functions: tuple[int, ...]) -> Requests:
    """Requests of a trace of arrivals, over its whole time: the same for every seed."""
    trace = _read(settings, files)
    assert isinstance(trace, Trace)
    chosen = trace.select(functions)
    return Requests(chosen.names, chosen.arrival_us, chosen.arrival_function, chosen.duration_us)


@lru_cache(maxsize=12)
def _windows(settings: TraceSettings, files: tuple[Path, ...], split: str) -> tuple[Window, ...]:
    content = _read(settings, files)
    if isinstance(content, Counts):
        requests = content.counts.sum(axis=1, dtype=np.int64)
    else:
        requests = np.bincount(content.arrival_function, minlength=len(content.names))
    fits = requests >= settings.min_requests
    if settings.max_rate_per_min is not None:
        fits &= requests <= settings.max_rate_per_min * content.end_us / _MINUTE_US
    eligible = np.flatnonzero(fits).tolist()
    every = dict(settings.splits)
    traces.split_functions(eligible, every, seed=0)  # refuses those that share functions at the same time
    planned = traces.plan_windows(
        eligible,
        content.end_us,
        {split: every[split]},
        settings.group_size,
        round(settings.window_min * _MINUTE_US),
        round(settings.warm_up_min * _MINUTE_US),
        seed=0,
    )
    return planned[split]
