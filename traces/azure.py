"""The Azure Functions 2019 data set: counts per minute, run times, memory.

Shahrad et al., "Serverless in the Wild", USENIX ATC'20; files ``invocations_per_function_md.anon.dNN.csv``,
``function_durations_percentiles.anon.dNN.csv`` and ``app_memory_percentiles.anon.dNN.csv`` of the Azure public data
set, and sub-windows and samples of them with the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.counts import Counts
from traces.errors import FileName, TraceError
from traces.tables import CsvFile, Kind, Progress

SOURCE = "Azure Functions 2019 (Shahrad et al., USENIX ATC'20)"
LICENCE = "CC-BY 4.0"

_KEYS = ("HashOwner", "HashApp", "HashFunction")
_PERCENTILES = tuple(f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100))
_MEMORY_PERCENTILES = tuple(f"AverageAllocatedMb_pct{p}" for p in (1, 5, 25, 50, 75, 95, 99, 100))
_DAY_MS = 86_400_000.0
_TERABYTE_MB = 1_000_000.0
_SECONDS_ROWS = 50
_SECONDS_LIMIT_MS = 600.0


def read_azure2019(
    invocations: FileName,
    durations: FileName | None = None,
    memory: FileName | None = None,
    *,
    progress: Progress | None = None,
) -> Counts:
    """Read a day of Azure Functions 2019, or a part of one.

    Args:
        invocations: Counts: HashFunction, one column a minute with consecutive numbers as names, and, each optional,
            HashOwner, HashApp, Trigger, SampleWeight.  Plain or gzip, like the other two.
        durations: Run times in ms by owner, application and function: Average, and, checked where present, Minimum,
            Maximum and the percentiles.
        memory: Memory in MB by owner and application (the public files) or by function too: AverageAllocatedMb, and,
            checked where present, its percentiles.
        progress: Told how far the reading of the counts is.

    Returns:
        The table; functions without a row in ``durations`` or ``memory`` have nan there.  A HashFunction that several
        applications share is named HashApp/HashFunction, and if owners share that, HashOwner/HashApp/HashFunction.

    Raises:
        TraceError: With file, row and column: a missing or unknown column, minutes that are not consecutive, cells
            that are not counts or numbers, two rows with one key, percentiles that fall, a unit that cannot be right.
    """
    file = CsvFile(invocations, progress)
    minutes = _minute_columns(file)
    kinds: dict[str, Kind] = {name: "text" for name in (*_KEYS, "Trigger") if name in file.header}
    if "SampleWeight" in file.header:
        kinds["SampleWeight"] = "count"
    kinds.update(dict.fromkeys(minutes, "count"))
    file.require(["HashFunction"])
    columns = file.read(kinds)
    functions = len(columns["HashFunction"])
    keys = {name: columns[name] for name in _KEYS if name in columns}
    file.refuse_duplicates(keys)

    counts = np.empty((functions, len(minutes)), dtype=np.int32)
    for position, name in enumerate(minutes):
        counts[:, position] = columns.pop(name)
    weights = columns.get("SampleWeight", np.ones(functions, np.int64)).astype(np.int64)
    unknown = ("",) * functions
    texts = {name: tuple(map(str, columns[name])) if name in columns else unknown for name in (*_KEYS, "Trigger")}
    table = pd.DataFrame(keys)
    return Counts(
        names=_unique_names(file, texts),
        owners=texts["HashOwner"],
        apps=texts["HashApp"],
        triggers=texts["Trigger"],
        counts=counts,
        first_minute=int(minutes[0]),
        duration_ms=_join(table, _read_durations(durations), file) if durations is not None else _unknown(functions),
        memory_mb=_join(table, _read_memory(memory), file) if memory is not None else _unknown(functions),
        weights=weights,
        source=f"{SOURCE}, {Path(invocations).name}",
        licence=LICENCE,
    )


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


def _read_durations(path: FileName) -> pd.DataFrame:
    """Mean run time in ms by owner, application and function."""
    file = CsvFile(path)
    percentiles = [name for name in _PERCENTILES if name in file.header]
    extremes = [name for name in ("Minimum", "Maximum") if name in file.header]
    columns = _read_values(file, _KEYS, ["Average", *extremes, *percentiles])
    _refuse_outside(file, "Average", columns["Average"], _DAY_MS, "ms", "longer than a day")
    _refuse_falling(file, columns, percentiles)
    average = columns["Average"]
    # Run times in ms are whole numbers with a long tail; in seconds nearly all lie below Azure's time-out of 600.
    largest = max(float(columns[name].max()) for name in ("Average", *extremes))
    if len(average) >= _SECONDS_ROWS and largest <= _SECONDS_LIMIT_MS and np.any(average != np.floor(average)):
        row = int(np.argmax(average != np.floor(average)))
        problem = f"{average[row]:g} looks like seconds, as all {len(average)} rows do; expected ms"
        raise TraceError.at(path, problem, row=row + 2, column="Average")
    return pd.DataFrame({**{name: columns[name] for name in _KEYS}, "value": average})


def _read_memory(path: FileName) -> pd.DataFrame:
    """Mean memory in MB by owner and application, and by function where the file has that column."""
    file = CsvFile(path)
    keys = [name for name in _KEYS if name in file.header or name != "HashFunction"]
    percentiles = [name for name in _MEMORY_PERCENTILES if name in file.header]
    columns = _read_values(file, keys, ["AverageAllocatedMb", *percentiles])
    _refuse_outside(
        file, "AverageAllocatedMb", columns["AverageAllocatedMb"], _TERABYTE_MB, "MB", "more than a terabyte"
    )
    _refuse_falling(file, columns, percentiles)
    return pd.DataFrame({**{name: columns[name] for name in keys}, "value": columns["AverageAllocatedMb"]})


def _read_values(file: CsvFile, keys: Sequence[str], numbers: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    kinds: dict[str, Kind] = dict.fromkeys(keys, "text")
    kinds.update(dict.fromkeys(numbers, "number"))
    columns = file.read(kinds)
    file.refuse_duplicates({name: columns[name] for name in keys})
    return cast("dict[str, NDArray[np.float64]]", columns)


def _refuse_outside(
    file: CsvFile, name: str, values: NDArray[np.float64], limit: float, unit: str, meaning: str
) -> None:
    if values.min() < 0:
        row = int(np.argmax(values < 0))
        raise TraceError.at(file.path, f"{values[row]:g} is negative, expected {unit} >= 0", row=row + 2, column=name)
    if values.max() > limit:
        row = int(np.argmax(values > limit))
        problem = f"{values[row]:g} {unit} is {meaning}: the unit looks wrong, expected {unit}"
        raise TraceError.at(file.path, problem, row=row + 2, column=name)


def _refuse_falling(file: CsvFile, columns: Mapping[str, NDArray[np.float64]], percentiles: Sequence[str]) -> None:
    for lower, higher in pairwise(percentiles):
        falls = columns[higher] < columns[lower]
        if falls.any():
            row = int(np.argmax(falls))
            problem = (
                f"{columns[higher][row]:g} is below {lower} ({columns[lower][row]:g}), expected rising percentiles"
            )
            raise TraceError.at(file.path, problem, row=row + 2, column=higher)
