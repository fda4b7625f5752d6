"""The Azure Functions 2019 data set: counts per minute, run times, memory.

Shahrad et al., "Serverless in the Wild", USENIX ATC'20; files ``invocations_per_function_md.anon.dNN.csv``,
``function_durations_percentiles.anon.dNN.csv`` and ``app_memory_percentiles.anon.dNN.csv`` of the Azure public data
set, and sub-windows and samples of them with the same columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.errors import FileName, TraceError
from traces.repairs import BadRows, Repairs
from traces.tables import CsvFile, Kind, Progress

SOURCE = "Azure Functions 2019 (Shahrad et al., USENIX ATC'20)"
LICENCE = "CC-BY 4.0"

_KEYS = ("HashOwner", "HashApp", "HashFunction")
_PERCENTILES = tuple(f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100))
_MEMORY_PERCENTILES = tuple(f"AverageAllocatedMb_pct{p}" for p in (1, 5, 25, 50, 75, 95, 99, 100))
_DAY_MS = 86_400_000.0
_DAY_MINUTES = 1440
_COUNT_LIMIT = 2**31 - 1
_OTHER = "others"
_TERABYTE_MB = 1_000_000.0
_SECONDS_ROWS = 50
_SECONDS_LIMIT_MS = 600.0


Files = FileName | Sequence[FileName]
"""A file, or those of several days in their order."""


def read_azure2019(
    invocations: Files,
    durations: Files | None = None,
    memory: Files | None = None,
    *,
    bad_rows: BadRows = "fail",
    progress: Progress | None = None,
) -> Counts:
    """Read days of Azure Functions 2019, or a part of one.

    The published files have defects; with ``bad_rows="repair"`` these rules mend them, and each is counted:

    - a function that stands twice in a day's counts: its counts are added;
    - a function with several triggers: the last one holds that is not ``others``;
    - a function that stands twice in a day's durations: the mean, weighted by Count;
    - an Average below 0: percentile_Average_50, if that is not below 0 as well, else unknown;
    - percentiles that fall: the Average is taken as it is (one of 0 is a run of less than half a ms);
    - an application (or function) that stands twice in a day's memory: the mean, weighted by SampleCount;
    - no duration: the median of the functions with the same trigger, else of all;
    - no memory: the median of the functions that have one.

    Several days are joined: labels 1..1440 are minutes, of which the first begins at 0; durations and memory are means
    over the days, weighted by Count and SampleCount.

    Args:
        invocations: Counts: HashFunction, one column a minute with consecutive numbers as names, and, each optional,
            HashOwner, HashApp, Trigger, SampleWeight.  Plain or gzip, like the others.
        durations: Run times in ms by owner, application and function: Average, and, checked where present, Minimum,
            Maximum and the percentiles; Count.
        memory: Memory in MB by owner and application (the public files) or by function too: AverageAllocatedMb, and,
            checked where present, its percentiles; SampleCount.
        bad_rows: ``fail`` refuses what there is a rule for, and leaves what is unknown unknown.
        progress: Told how far the reading of the counts is.

    Returns:
        The table.  Functions without a row in ``durations`` or ``memory`` have nan there, unless that is repaired.  A
        HashFunction that several applications share is named HashApp/HashFunction, and if owners share that,
        HashOwner/HashApp/HashFunction.

    Raises:
        TraceError: With file, row and column: a missing or unknown column, minutes that are not consecutive, cells
            that are not counts or numbers, a unit that cannot be right, days that do not follow each other, and what
            there is a rule for, unless it is to be repaired.
    """
    repairs = Repairs(bad_rows)
    days = [_read_day(path, repairs, progress) for path in _several(invocations)]
    _refuse_gaps(days)
    first = days[0]
    names = [name for name in _KEYS if name in first.table]
    every = pd.concat([day.table for day in days], ignore_index=True)
    number = every.groupby(names, sort=False).ngroup().to_numpy(dtype=np.int64)
    functions = int(number.max()) + 1
    table = every.drop_duplicates(names, ignore_index=True)
    counts = np.zeros((functions, sum(day.counts.shape[1] for day in days)), np.int32)
    at = minute = 0
    for day in days:
        rows, minutes = day.counts.shape
        own = number[at : at + rows]
        counts[own, minute : minute + minutes] = day.counts
        for function in np.flatnonzero(np.bincount(own, minlength=functions) > 1):
            together = day.counts[own == function].sum(axis=0, dtype=np.int64)
            if together.max() > _COUNT_LIMIT:
                problem = f"counts of function {table['HashFunction'][function]} add up to {together.max()} in a minute"
                raise TraceError.at(day.file.path, problem)
            counts[function, minute : minute + minutes] = together
        at, minute = at + rows, minute + minutes
    unknown = ("",) * functions
    texts = {name: tuple(map(str, table[name])) if name in table else unknown for name in _KEYS}
    triggers = _triggers(every, number, repairs) if "Trigger" in every else unknown
    keys = table[names]
    duration_ms = _join(keys, _merged(durations, _read_durations, repairs), first.file) if durations else None
    memory_mb = _join(keys, _merged(memory, _read_memory, repairs), first.file) if memory else None
    if repairs.wanted:
        duration_ms = _filled_durations(duration_ms, triggers, repairs)
        memory_mb = _filled(memory_mb, "no memory: the median of the functions that have one", repairs)
    paths = [Path(path).name for path in _several(invocations)]
    return Counts(
        names=_unique_names(first.file, texts),
        owners=texts["HashOwner"],
        apps=texts["HashApp"],
        triggers=triggers,
        counts=counts,
        first_minute=first.first_minute,
        start_us=max(0, first.first_minute - 1) * MINUTE_US,  # labels 1..1440: the first minute begins at 0
        duration_ms=_unknown(functions) if duration_ms is None else duration_ms,
        memory_mb=_unknown(functions) if memory_mb is None else memory_mb,
        weights=every["SampleWeight"].groupby(number).max().to_numpy(dtype=np.int64)
        if "SampleWeight" in every
        else np.ones(functions, np.int64),
        source=f"{SOURCE}, {paths[0]}{f' to {paths[-1]}' if len(paths) > 1 else ''}",
        licence=LICENCE,
        repairs=tuple(repairs),
    )


@dataclass(frozen=True, slots=True)
class _Day:
    """One file of counts.

    Attributes:
        file: it.
        table: its keys, and Trigger and SampleWeight where it has them, a row each.
        counts: its counts, (rows, minutes).
        first_minute: label of its first minute.
    """

    file: CsvFile
    table: pd.DataFrame
    counts: NDArray[np.int32]
    first_minute: int


def _several(files: Files) -> list[FileName]:
    return [files] if isinstance(files, (str, PathLike)) else list(files)


def _read_day(path: FileName, repairs: Repairs, progress: Progress | None) -> _Day:
    file = CsvFile(path, progress)
    minutes = _minute_columns(file)
    kinds: dict[str, Kind] = {name: "text" for name in (*_KEYS, "Trigger") if name in file.header}
    if "SampleWeight" in file.header:
        kinds["SampleWeight"] = "count"
    kinds.update(dict.fromkeys(minutes, "count"))
    file.require(["HashFunction"])
    columns = file.read(kinds)
    keys = {name: columns[name] for name in _KEYS if name in columns}
    if repairs.wanted:
        again = pd.DataFrame(keys).duplicated().to_numpy()
        repairs.note("a function that stands twice in a day's counts: its counts are added", again, path)
    else:
        file.refuse_duplicates(keys)
    counts = np.empty((len(columns["HashFunction"]), len(minutes)), dtype=np.int32)
    for position, name in enumerate(minutes):
        counts[:, position] = columns.pop(name)
    return _Day(file, pd.DataFrame(columns), counts, int(minutes[0]))


def _refuse_gaps(days: Sequence[_Day]) -> None:
    """Several files must be whole days with the same columns."""
    for day in days if len(days) > 1 else ():
        labels = (day.first_minute, day.first_minute + day.counts.shape[1] - 1)
        if labels != (1, _DAY_MINUTES):
            problem = (
                f"has minutes {labels[0]} to {labels[1]}, expected 1 to {_DAY_MINUTES}: several files are whole days"
            )
            raise TraceError.at(day.file.path, problem, row=1)
        if set(day.table) != set(days[0].table):
            raise TraceError.at(day.file.path, f"has other columns than {days[0].file.path}", row=1)


def _triggers(every: pd.DataFrame, number: NDArray[np.integer], repairs: Repairs) -> tuple[str, ...]:
    """The trigger of each function: the last one that says something."""
    given = every["Trigger"].astype(str).to_numpy()
    found = np.full(number.max() + 1, "", dtype=object)
    changed = np.zeros(len(found), np.bool_)
    for function, trigger in zip(number.tolist(), given.tolist(), strict=True):
        changed[function] |= found[function] not in ("", trigger)
        if trigger != _OTHER or found[function] == "":
            found[function] = trigger
    repairs.note("a function with several triggers: the last one holds that is not others", changed)
    return tuple(found.tolist())


def _merged(files: Files, read: Callable[[FileName, Repairs], pd.DataFrame], repairs: Repairs) -> pd.DataFrame:
    """Key columns and ``value``: means over all rows of a key, weighted by ``weight``."""
    table = pd.concat([read(path, repairs) for path in _several(files)], ignore_index=True)
    keys = [name for name in table if name not in ("value", "weight")]
    table = table.dropna(subset="value")
    table["weighted"] = table["value"] * table["weight"]
    sums = table.groupby(keys, sort=False, as_index=False)[["weighted", "weight", "value"]].agg(
        {"weighted": "sum", "weight": "sum", "value": "mean"}
    )
    # rows that nothing was counted for count alike
    sums["value"] = np.where(
        sums["weight"] > 0, sums["weighted"] / sums["weight"].where(sums["weight"] > 0, 1), sums["value"]
    )
    return sums[[*keys, "value"]]


def _filled_durations(
    values: NDArray[np.float64] | None, triggers: Sequence[str], repairs: Repairs
) -> NDArray[np.float64] | None:
    if values is None or not np.isfinite(values).any():
        return values
    series = pd.Series(values)
    of_trigger = series.groupby(pd.Series(triggers)).transform("median").to_numpy(dtype=np.float64)
    rule = "no duration: the median of the functions with the same trigger, else of all"
    repairs.note(rule, np.isnan(values))
    filled = np.where(np.isnan(values), of_trigger, values)
    return np.where(np.isnan(filled), np.nanmedian(values), filled)


def _filled(values: NDArray[np.float64] | None, rule: str, repairs: Repairs) -> NDArray[np.float64] | None:
    if values is None or not np.isfinite(values).any():
        return values
    repairs.note(rule, np.isnan(values))
    return np.where(np.isnan(values), np.nanmedian(values), values)


def _minute_columns(file: CsvFile) -> list[str]:
    minutes = [name for name in file.header if name not in (*_KEYS, "Trigger", "SampleWeight")]
    for name in minutes:
        if not (name.isascii() and name.isdigit()):
            problem = (
                "unknown column, expected HashOwner, HashApp, HashFunction, Trigger, SampleWeight or a minute's number"
            )
            raise TraceError.at(file.path, problem, row=1, column=name)
    if not minutes:
        raise TraceError.at(file.path, "the header has no minutes, expected columns such as 1..1440", row=1)
    for before, name in pairwise(minutes):
        if int(name) != int(before) + 1:
            problem = f"minute {name} follows {before}, expected {int(before) + 1}: minutes must be consecutive"
            raise TraceError.at(file.path, problem, row=1, column=name)
    return minutes


def _unique_names(file: CsvFile, texts: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of the functions, with those of their applications, then of their owners, before those that are shared."""
    names = pd.Series(texts["HashFunction"], dtype=object)
    for key in ("HashApp", "HashOwner"):
        shared = names.duplicated(keep=False)
        names = names.where(~shared, pd.Series(texts[key], dtype=object) + "/" + names)
    shared = names.duplicated()
    if shared.any():
        row = int(np.argmax(shared))
        problem = f"{names[row]} is the name of another function, too"
        raise TraceError.at(file.path, problem, row=row + 2, column="HashFunction")
    return tuple(names)


def _unknown(functions: int) -> NDArray[np.float64]:
    return np.full(functions, np.nan)


def _join(table: pd.DataFrame, values: pd.DataFrame, invocations: CsvFile) -> NDArray[np.float64]:
    """Values (key columns and ``value``) in the order of the table's rows, nan where there is none."""
    keys = [name for name in values.columns if name != "value"]
    invocations.require(keys)
    joined = table.merge(values, on=keys, how="left")
    return joined["value"].to_numpy(dtype=np.float64)


def _read_durations(path: FileName, repairs: Repairs) -> pd.DataFrame:
    """Mean run time in ms by owner, application and function; nan where it is unknown."""
    file = CsvFile(path)
    percentiles = [name for name in _PERCENTILES if name in file.header]
    extremes = [name for name in ("Minimum", "Maximum") if name in file.header]
    columns = _read_values(file, _KEYS, ["Average", *extremes, *percentiles], "Count", repairs)
    average = columns["Average"]
    if repairs.wanted:
        below = average < 0
        repairs.note("an Average below 0: percentile_Average_50, if that is not below 0, else unknown", below, path)
        middle = columns.get("percentile_Average_50", np.full(len(average), np.nan))
        average = columns["Average"] = np.where(below, np.where(middle >= 0, middle, np.nan), average)
    _refuse_outside(file, "Average", average, _DAY_MS, "ms", "longer than a day")
    _refuse_falling(file, columns, percentiles, repairs)
    # Run times in ms are whole numbers with a long tail; in seconds nearly all lie below Azure's time-out of 600.
    largest = max(float(np.nanmax(columns[name])) for name in ("Average", *extremes))
    broken = np.isfinite(average) & (average != np.floor(average))
    if len(average) >= _SECONDS_ROWS and largest <= _SECONDS_LIMIT_MS and np.any(broken):
        row = int(np.argmax(broken))
        problem = f"{average[row]:g} looks like seconds, as all {len(average)} rows do; expected ms"
        raise TraceError.at(path, problem, row=row + 2, column="Average")
    return pd.DataFrame({**{name: columns[name] for name in _KEYS}, "value": average, "weight": columns["weight"]})


def _read_memory(path: FileName, repairs: Repairs) -> pd.DataFrame:
    """Mean memory in MB by owner and application, and by function where the file has that column."""
    file = CsvFile(path)
    keys = [name for name in _KEYS if name in file.header or name != "HashFunction"]
    percentiles = [name for name in _MEMORY_PERCENTILES if name in file.header]
    columns = _read_values(file, keys, ["AverageAllocatedMb", *percentiles], "SampleCount", repairs)
    values = columns["AverageAllocatedMb"]
    _refuse_outside(file, "AverageAllocatedMb", values, _TERABYTE_MB, "MB", "more than a terabyte")
    _refuse_falling(file, columns, percentiles, repairs)
    return pd.DataFrame({**{name: columns[name] for name in keys}, "value": values, "weight": columns["weight"]})


def _read_values(
    file: CsvFile, keys: Sequence[str], numbers: Sequence[str], weight: str, repairs: Repairs
) -> dict[str, NDArray[np.float64]]:
    """Columns of numbers with their keys, and ``weight``: what each row rests on, 1 where the file does not say."""
    kinds: dict[str, Kind] = dict.fromkeys(keys, "text")
    kinds.update(dict.fromkeys([*numbers, *([weight] if weight in file.header else [])], "number"))
    columns = cast("dict[str, NDArray[np.float64]]", file.read(kinds))
    own = {name: columns[name] for name in keys}
    if repairs.wanted:
        again = pd.DataFrame(own).duplicated().to_numpy()
        repairs.note(f"a key that stands twice, by {weight}: the mean, weighted by it", again, file.path)
    else:
        file.refuse_duplicates(own)
    columns["weight"] = np.maximum(columns[weight], 0) if weight in columns else np.ones(len(columns[numbers[0]]))
    return columns


def _refuse_outside(
    file: CsvFile, name: str, values: NDArray[np.float64], limit: float, unit: str, meaning: str
) -> None:
    if np.any(values < 0):
        row = int(np.argmax(values < 0))
        raise TraceError.at(file.path, f"{values[row]:g} is negative, expected {unit} >= 0", row=row + 2, column=name)
    if np.any(values > limit):
        row = int(np.argmax(values > limit))
        problem = f"{values[row]:g} {unit} is {meaning}: the unit looks wrong, expected {unit}"
        raise TraceError.at(file.path, problem, row=row + 2, column=name)


def _refuse_falling(
    file: CsvFile, columns: Mapping[str, NDArray[np.float64]], percentiles: Sequence[str], repairs: Repairs
) -> None:
    for lower, higher in pairwise(percentiles):
        falls = columns[higher] < columns[lower]
        if repairs.wanted:
            repairs.note("percentiles that fall: the Average is taken as it is", falls, file.path)
        elif falls.any():
            row = int(np.argmax(falls))
            problem = (
                f"{columns[higher][row]:g} is below {lower} ({columns[lower][row]:g}), expected rising percentiles"
            )
            raise TraceError.at(file.path, problem, row=row + 2, column=higher)
