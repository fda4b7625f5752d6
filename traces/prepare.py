"""The files of our scenarios, made from what their authors publish: rows and columns are chosen, cells are kept.

Each rule stands in ``traces/shipped/NOTICE.md``; a digest of the text tells whether it is the sample that the tables of
the documentation were measured on.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from traces.azure import read_azure2019
from traces.errors import TraceError
from traces.output import held
from traces.repairs import Repair

KEY: Final = ("HashOwner", "HashApp", "HashFunction")
GENTD26_END: Final = "2024-12-01"
"""Requests of GenTD26 from this day on are left out."""
MINUTES_A_DAY: Final = 1440
DAYS: Final = 14
"""Days of Azure Functions 2019."""
OFFICIAL: Final = {
    "invocations": "invocations_per_function_md",
    "durations": "function_durations_percentiles",
    "memory": "app_memory_percentiles",
}
"""How the names of the published files of each day begin."""

KNOWN: Final = {
    "azure2019_day_unique_A.csv": "b53c3527b0f89cd220473dad649453986a2b0153fbd107987ff0e8d712d22037",
    "azure2019_8h_invocations.csv": "871674100fc6add0f8b7afb0e9f0c88d44d43c1dba44a25429a9642439536617",
    "azure2019_8h_durations.csv": "c3f88bd5c27453c4009742466774d413b513fea8de73576c4dd404ec0fcf3e41",
    "azure2019_8h_memory.csv": "cfc8e9ff4507c2ed0a5b4412e3a741648589ec946470e6fb4ed7540c4bb4d5d9",
    "alibaba_gentd26_requests_to_1130.csv": "3b6c61095d2b30688eba9d0721a6606cc896247f22d837ef00531680e856f846",
}
"""SHA-256 of the CSV texts that the documentation's tables were measured on."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file of a scenario.

    Attributes:
        name: of the file, without ``.gz``.
        text: its CSV text.
        rows: how many rows it has, without the heading.
        of: how many rows it was chosen from.
    """

    name: str
    text: str
    rows: int
    of: int

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_known(self) -> bool:
        """Whether it is the sample that the documentation's tables were measured on."""
        return KNOWN.get(self.name) == self.digest


def prepare_gentd26(path: Path) -> list[Prepared]:
    """The requests of GenTD26 up to November 2024, from ``lora_request_trace.csv`` (alibaba/clusterdata).

    Raises:
        TraceError: it is no such file.
    """
    with _table(path) as (header, rows):
        at = _columns(path, header, ("gmt_create", "predict_status", "checkpoint_model_version_id"))[0]
        found = list(rows)
    kept = [row for row in found if row[at] < GENTD26_END]
    return [_made("alibaba_gentd26_requests_to_1130.csv", header, kept, len(found))]


def prepare_azure2019_day(path: Path) -> list[Prepared]:
    """The distinct rate vectors of a day, from ``data/traces/1350_inv.csv`` (vhive-serverless/invitro, b12de00).

    Rows stand in the order in which their vectors first occur; SampleWeight counts how often each does; functions are
    numbered anew.

    Raises:
        TraceError: it is no such file.
    """
    minutes = [f"{minute}_minute" for minute in range(1, MINUTES_A_DAY + 1)]
    with _table(path) as (header, rows):
        places = _columns(path, header, minutes)
        weights: dict[tuple[str, ...], int] = {}
        count = 0
        for row in rows:
            vector = tuple(row[place] for place in places)
            weights[vector] = weights.get(vector, 0) + 1
            count += 1
    made = [[f"A{number:04}", str(weight), *vector] for number, (vector, weight) in enumerate(weights.items())]
    names = ["HashFunction", "SampleWeight", *(name.removesuffix("_minute") for name in minutes)]
    return [_made("azure2019_day_unique_A.csv", names, made, count)]


def prepare_azure2019_8h(folder: Path, keys: Path) -> list[Prepared]:
    """The eight hours of 250 functions: counts, durations and memory.

    Args:
        folder: with ``invocations.csv``, ``durations.csv`` and ``memory.csv``: ``data/traces/500`` of
            vhive-serverless/invitro (163911a).
        keys: a table of the functions that are kept: ``scripts/invitro_traces/samples/250/invocations.csv`` of
            eth-easl/dirigent (de98aff).

    Returns:
        Three files whose rows are in the order of ``invocations.csv``, the key's columns first.

    Raises:
        TraceError: a file is missing, lacks a column, or has a function twice or not at all.
    """
    with _table(keys) as (header, rows):
        places = _columns(keys, header, KEY)
        wanted = {tuple(row[place] for place in places) for row in rows}
    order: list[tuple[str, ...]] = []
    found = []
    for part in ("invocations", "durations", "memory"):
        path = folder / f"{part}.csv"
        with _table(path) as (header, rows):
            places = _columns(path, header, KEY)
            others = [place for place in range(len(header)) if place not in places]
            chosen: dict[tuple[str, ...], list[str]] = {}
            count = 0
            for row in rows:
                count += 1
                key = tuple(row[place] for place in places)
                if key in wanted:
                    if key in chosen:
                        raise TraceError.at(path, f"function {key[2]} stands there a second time", row=count + 1)
                    chosen[key] = [*key, *(row[place] for place in others)]
        order = order or list(chosen)
        missing = [key for key in order if key not in chosen]
        if missing or not order:
            what = f"function {missing[0][2]} of invocations.csv" if missing else f"any function of {keys}"
            raise TraceError.at(path, f"lacks {what}")
        names = [*KEY, *(header[place] for place in others)]
        found.append(_made(f"azure2019_8h_{part}.csv", names, [chosen[key] for key in order], count))
    return found


def prepare_azure2019(
    folder: Path, days: Sequence[int], at_least: int = 1, functions: int | None = None, seed: int = 0
) -> tuple[list[Prepared], tuple[Repair, ...]]:
    """Official days of Azure Functions 2019, joined and mended, as three files for a scenario.

    Functions with fewer than ``at_least`` requests in all days together are left out; of the others ``functions`` are
    drawn without replacement by NumPy's ``default_rng(seed)``, and stand in their order in the published files.

    Args:
        folder: with ``invocations_per_function_md.anon.dNN.csv``, ``function_durations_percentiles.anon.dNN.csv`` and
            ``app_memory_percentiles.anon.dNN.csv``, plain or gzip; days 13 and 14 have no memory.
        days: their numbers, 1 to 14, one after the other.
        at_least: see above.
        functions: how many; None: all.
        seed: of the draw.

    Returns:
        The files, and what was mended.

    Raises:
        TraceError: a file is missing or broken, days do not follow each other, or there are too few functions.
    """
    days = list(days)
    if not days or days != list(range(days[0], days[0] + len(days))) or not 1 <= days[0] <= days[-1] <= DAYS:
        got = ", ".join(map(str, days)) or "none"
        raise TraceError(f"days: expected some of 1 to {DAYS}, one after the other, got {got}")
    parts = {
        part: [path for day in days if (path := _day_of(folder, stem, day, part != "memory")) is not None]
        for part, stem in OFFICIAL.items()
    }
    counts = read_azure2019(parts["invocations"], parts["durations"], parts["memory"] or None, bad_rows="repair")
    kept = np.flatnonzero(counts.counts.sum(axis=1, dtype=np.int64) >= at_least)
    if not len(kept):
        most = int(counts.counts.sum(axis=1, dtype=np.int64).max(initial=0))
        raise TraceError(f"{folder}: no function has {at_least} requests or more, the busiest has {most}")
    if functions is not None:
        if functions > len(kept):
            raise TraceError(f"{folder}: {len(kept)} functions have {at_least} requests or more, asked for {functions}")
        kept = np.sort(np.random.default_rng(seed).choice(kept, functions, replace=False))
    hashes = [name.rpartition("/")[2] for name in counts.names]
    keys = [(counts.owners[row], counts.apps[row], hashes[row]) for row in kept]
    minutes = [str(minute) for minute in range(1, counts.minutes + 1)]
    tables = {
        "invocations": (["Trigger", *minutes], [[counts.triggers[row], *counts.counts[row].tolist()] for row in kept]),
        "durations": (["Average"], [[f"{counts.duration_ms[row]:.3f}"] for row in kept]),
        "memory": (["AverageAllocatedMb"], [[f"{counts.memory_mb[row]:.3f}"] for row in kept]),
    }
    files = [
        _made(
            f"azure2019_{part}.csv",
            [*KEY, *header],
            [[*key, *map(str, row)] for key, row in zip(keys, rows, strict=True)],
            len(counts.names),
        )
        for part, (header, rows) in tables.items()
    ]
    return files, counts.repairs


def _day_of(folder: Path, stem: str, day: int, needed: bool) -> Path | None:
    """The published file of a day, plain or gzip."""
    for suffix in (".csv", ".csv.gz"):
        path = folder / f"{stem}.anon.d{day:02}{suffix}"
        if path.is_file():
            return path
    if needed:
        raise TraceError(f"{folder}: has no {stem}.anon.d{day:02}.csv, plain or gzip")
    return None


def write(files: Sequence[Prepared], folder: Path) -> list[Path]:
    """Write files, compressed, into a folder: all of them or none.

    Returns:
        Their paths.
    """
    with held(folder):
        paths = [folder / f"{file.name}.gz" for file in files]
        partial = [path.with_name(f".{path.name}.partial") for path in paths]
        try:
            for file, path in zip(files, partial, strict=True):
                path.write_bytes(gzip.compress(file.text.encode(), mtime=0))
            for before, after in zip(partial, paths, strict=True):
                before.replace(after)
        finally:
            for path in partial:
                path.unlink(missing_ok=True)
    return paths


@contextmanager
def _table(path: Path) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """Heading and rows of a CSV file, plain or gzip.

    Raises:
        TraceError: it cannot be read, is empty, or a row has another length than the heading.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                raise TraceError.at(path, "the file is empty")
            yield header, _checked(path, len(header), reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError.at(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _checked(path: Path, width: int, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    for number, row in enumerate(rows, start=2):
        if len(row) != width:
            raise TraceError.at(path, f"has {len(row)} cells, the header has {width}", row=number)
        yield row


def _columns(path: Path, header: Sequence[str], names: Sequence[str]) -> list[int]:
    places = {name: place for place, name in enumerate(header)}
    missing = [name for name in names if name not in places]
    if missing:
        raise TraceError.at(path, "there is no such column", column=missing[0])
    return [places[name] for name in names]


def _made(name: str, header: Sequence[str], rows: Sequence[Sequence[str]], of: int) -> Prepared:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return Prepared(name, text.getvalue(), len(rows), of)
