"""What reading a large trace file and writing it as Parquet takes: `tyche trace convert` in a process of its own.

The files are made up, in the forms that are read most; docs/bring-your-own.md shows the table.

    python benchmarks/reading.py --out benchmarks/results/reading.json
    python benchmarks/pages.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pyarrow as pa
from pyarrow import csv
from pyarrow import parquet as pq

from tyche_env.bench.measurement import machine, today

FUNCTIONS = 1_000
PIECE = 1_000_000
CONVERT = [sys.executable, "-c", "import sys; from tyche_env.cli import run; sys.exit(run(sys.argv[1:]))", "trace"]
Columns = Callable[[np.random.Generator, int, int], dict[str, pa.Array]]
COLUMNS = ["--column", "time=t", "--column", "function=f", "--column", "duration=d"]


@dataclass(frozen=True, slots=True)
class Read:
    """A file that has been read.

    Attributes:
        form: of the file.
        requests: in it.
        file_mb: its size, MB of 10^6 bytes.
        cpu_s: of the process.
        peak_mb: most memory of the process.
    """

    form: str
    requests: int
    file_mb: float
    cpu_s: float
    peak_mb: float


def pieces(
    requests: int, columns: Callable[[np.random.Generator, int, int], dict[str, pa.Array]]
) -> Iterator[pa.Table]:
    """Rows by pieces, drawn with one seed."""
    draw = np.random.default_rng(0)
    for first in range(0, requests, PIECE):
        yield pa.table(columns(draw, first, min(PIECE, requests - first)))


def azure2021(draw: np.random.Generator, first: int, size: int) -> dict[str, pa.Array]:
    """Hashed names, ends and run times in seconds, as the data set has them."""
    names = pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in range(FUNCTIONS)])
    function = pa.array(draw.integers(0, FUNCTIONS, size))
    end_s = (first + np.arange(size)) * 0.088 + 60
    return {
        "app": names.take(function),
        "func": names.take(pa.array(np.asarray(function)[::-1] % 7)),
        "end_timestamp": pa.array(end_s.round(6)),
        "duration": pa.array(draw.exponential(1.0, size).round(3)),
    }


def short(draw: np.random.Generator, first: int, size: int) -> dict[str, pa.Array]:
    """Three short columns: milliseconds, a number of a function, milliseconds."""
    return {
        "t": pa.array((first + np.arange(size)) * 19),
        "f": pa.array(draw.integers(0, FUNCTIONS, size).astype(np.int16)),
        "d": pa.array(draw.integers(1, 2000, size).astype(np.int32)),
    }


def write_csv(path: Path, rows: Iterator[pa.Table]) -> None:
    """A CSV file."""
    _write(csv.CSVWriter, path, rows)


def write_parquet(path: Path, rows: Iterator[pa.Table]) -> None:
    """A Parquet file that is not ours."""
    _write(pq.ParquetWriter, path, rows)


def _write(writer: Callable[[Path, pa.Schema], Any], path: Path, rows: Iterator[pa.Table]) -> None:
    first = next(rows)
    with writer(path, first.schema) as file:
        for table in chain([first], rows):
            file.write_table(table)


def read(form: str, requests: int, path: Path, options: list[str]) -> Read:
    """Convert a file and say what that took."""
    process = subprocess.Popen(
        [*CONVERT, "convert", str(path), str(path.with_name("out.parquet")), *options], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{form}: tyche trace convert failed")
    return Read(form, requests, path.stat().st_size / 1e6, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the table, too")
    parser.add_argument("--share", type=float, default=1.0, help="of the requests (default: 1)")
    arguments = parser.parse_args()
    found = {"date": today(), "machine": machine()}
    few, many = (round(arguments.share * requests) for requests in (13_600_000, 63_600_000))
    milliseconds = [*COLUMNS, "--column", "time_unit=ms", "--column", "duration_unit=ms"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        for form, requests, columns, write, options in (
            ("Azure 2021 form", few, azure2021, write_csv, []),
            ("three short columns, CSV", many, short, write_csv, milliseconds),
            ("the same, foreign Parquet", many, short, write_parquet, milliseconds),
        ):
            write(path, pieces(requests, columns))
            rows.append(asdict(read(form, requests, path, options)))
    content = found | {"files": rows}
    print(pages.reading({"reading": content}))
    if arguments.out:
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
