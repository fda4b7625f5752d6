"""Run folders: what an evaluation leaves on disk, written so that it can be interrupted and resumed at any instant.

While it runs: ``manifest.json`` (status ``running``), ``scenario.yaml``, ``rows.jsonl`` (one line a finished run, on
disk before the next begins) and ``parts/`` (requests of each run).  When it ends: ``summary.json`` and
``requests.parquet`` besides, and no parts.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.output import is_empty, made_folder, made_parent
from tyche_env.errors import UserError
from tyche_env.metrics import STAGES
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.world import StartType

ROW_GROUP = 1 << 18
"""Rows of a row group of requests.parquet."""

LABELS = ("policy", "prewarm", "mode", "group", "function", "start_type", "activation_id")
"""Columns of requests.parquet that hold few different texts."""

_PACKAGES = ("tyche-env", "numpy", "numba", "scipy", "pyarrow", "pydantic", "gymnasium", "stable-baselines3", "torch")


class RunError(UserError):
    """A run folder that is missing, broken or belongs to another plan."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: Path, plan: Mapping[str, Any], scenario_yaml: str, command: str) -> RunFolder:
        """Begin a run, or go on with one of the same plan; whoever does holds the folder (``traces.output.held``).

        Args:
            path: the folder; made if it does not exist.
            plan: everything that decides the results, as JSON.
            scenario_yaml: the scenario in full.
            command: the command line, for the manifest.

        Raises:
            RunError: the folder holds another plan, or something else altogether.
        """
        folder = cls(path)
        if (path / "manifest.json").exists():
            folder._refuse_other_plan(plan)
            folder._cut_torn_line()
            return folder
        if not is_empty(made_folder(path)):
            raise RunError(f"{path}: is there, but is no run folder; --out needs a new folder or one of an earlier run")
        (path / "scenario.yaml").write_text(scenario_yaml, encoding="utf-8")
        started = {
            "status": "running",
            "plan": dict(plan),
            "command": command,
            "versions": versions(),
            "git": git_revision(),
            "platform": platform.platform(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": 0.0,
            "cpu_s": 0.0,
        }
        folder.write_json("manifest.json", started)
        return folder

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """A folder that a run has left.

        Raises:
            RunError: it is none.
        """
        if not (path / "manifest.json").is_file():
            raise RunError(f"{path}: is no run folder (it has no manifest.json)")
        return cls(path)

    @property
    def manifest(self) -> dict[str, Any]:
        """What was run, with what, and how long it took."""
        return self._json("manifest.json")

    @property
    def summary(self) -> dict[str, Any]:
        """``rows``, ``aggregates``, ``comparisons``.

        Raises:
            RunError: there is none yet, or no run has been finished.
        """
        summary = self._json("summary.json")
        if not summary["rows"]:
            path = self.path / "summary.json"
            raise RunError(f"{path}: no run has been finished; `tyche evaluate ... --out {self.path}` goes on with it")
        return summary

    @property
    def requests(self) -> Path:
        """Path of the recorded requests, which need not exist."""
        return self.path / "requests.parquet"

    def rows(self) -> list[dict[str, Any]]:
        """The rows that are finished, one a run; a row that stands there twice counts once.

        Raises:
            RunError: a line is no JSON, or two rows of one run differ.
        """
        return [row for _, row in self.numbered_rows()]

    def numbered_rows(self) -> list[tuple[int, dict[str, Any]]]:
        """The rows with the numbers of their lines, see :meth:`rows`."""
        path = self.path / "rows.jsonl"
        if not path.exists():
            return []
        found: list[tuple[int, dict[str, Any]]] = []
        at: dict[Hashable, int] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise RunError(
                    f"{path}, line {number}: is no JSON ({error.msg}); remove the line to run it again"
                ) from None
            if not isinstance(row, dict):
                raise RunError(f"{path}, line {number}: is no row of a run; remove the line to run it again")
            first = at.setdefault(key, len(found)) if (key := row_key(row)) is not None else len(found)
            if first == len(found):
                found.append((number, row))
                continue
            earlier, other = found[first]
            if differing := [name for name in dict.fromkeys([*other, *row]) if other.get(name) != row.get(name)]:
                raise RunError(
                    f"{path}, lines {earlier} and {number}: are of one run ({row_label(row)}) and differ in "
                    f"{', '.join(differing[:3])}; remove one of them, or both to run it again"
                )
        return found

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a finished row; it is on disk when this returns."""
        with (self.path / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @property
    def parts(self) -> Path:
        """Where requests of each run, and worlds that processes share, lie until the end."""
        return self.path / "parts"

    def part(self, number: int) -> Path:
        """Where the requests of one run go until the end."""
        return self.parts / f"{number:06d}.parquet"

    def merge_parts(self, numbers: Sequence[int]) -> None:
        """Put the parts together, in this order, as requests.parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = [self.part(number) for number in numbers if self.part(number).exists()]
        if not parts:
            return
        temporary = self.requests.with_suffix(".partial")
        with pq.ParquetWriter(temporary, pq.read_schema(parts[0]), **_parquet_options()) as writer:
            held: list[pa.Table] = []
            for part in parts:
                held.append(pq.read_table(part))
                if sum(table.num_rows for table in held) >= ROW_GROUP:
                    table = pa.concat_tables(held).unify_dictionaries()
                    whole = table.num_rows - table.num_rows % ROW_GROUP
                    writer.write_table(table.slice(0, whole), row_group_size=ROW_GROUP)
                    held = [table.slice(whole)]
            rest = pa.concat_tables(held)
            if rest.num_rows:
                writer.write_table(rest.unify_dictionaries(), row_group_size=ROW_GROUP)
        temporary.replace(self.requests)

    def remove_parts(self) -> None:
        """Drop the parts, once they are merged and the manifest says so."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def update_manifest(self, **changes: Any) -> None:
        """Change entries of the manifest."""
        self.write_json("manifest.json", self.manifest | changes)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file whole or not at all."""
        path = self.path / name
        temporary = path.with_name(f"{name}.partial")
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path}: is missing; `tyche evaluate ... --out {self.path}` finishes the run") from None
        except json.JSONDecodeError as error:
            raise RunError(f"{path}, line {error.lineno}: is no JSON ({error.msg})") from None
        return content

    def _refuse_other_plan(self, plan: Mapping[str, Any]) -> None:
        before = self.manifest.get("plan", {})
        changed = [key for key in dict.fromkeys([*before, *plan]) if before.get(key) != plan.get(key)]
        if changed:
            raise RunError(
                f"{self.path}: holds a run of another plan ({', '.join(changed)} differ); "
                "give the options it was started with, or another --out"
            )

    def _cut_torn_line(self) -> None:
        """A crash can leave half a last line behind: that run is done again."""
        path = self.path / "rows.jsonl"
        if path.exists():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(path, whole)


class RequestsWriter:
    """Writes the requests of one run to a Parquet file, in as many pieces as they come; a context manager.

    The file is there when all of it is written; what an error leaves behind is removed.

    Args:
        path: the file.
        names: (F,) names of the functions.
        labels: ``policy``, ``prewarm``, ``mode``, ``group`` (text), ``window`` and ``seed`` (integers).
    """

    def __init__(self, path: Path, names: Sequence[str], labels: Mapping[str, Any]) -> None:
        self._path, self._names, self._labels = path, names, labels
        self._temporary = path.with_suffix(".partial")
        self._writer: Any = None

    def __enter__(self) -> RequestsWriter:
        import pyarrow.parquet as pq

        made_parent(self._path)
        schema = _requests_table(np.zeros(0, LOG_DTYPE), self._names, self._labels).schema
        self._writer = pq.ParquetWriter(self._temporary, schema, **_parquet_options())
        return self

    def write(self, log: NDArray[Any]) -> None:
        """Add records of ``LOG_DTYPE``, as row groups of at most :data:`ROW_GROUP`."""
        self._writer.write_table(_requests_table(log, self._names, self._labels), row_group_size=ROW_GROUP)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()


def write_requests(
    path: Path,
    log: NDArray[Any],
    names: Sequence[str],
    labels: Mapping[str, Any],
) -> None:
    """Write the requests of one run as a part, see :class:`RequestsWriter`."""
    with RequestsWriter(path, names, labels) as writer:
        writer.write(log)


def _requests_table(log: NDArray[Any], names: Sequence[str], labels: Mapping[str, Any]) -> Any:
    """The columns of requests.parquet for records of ``LOG_DTYPE``."""
    import pyarrow as pa

    def coded(codes: NDArray[Any], texts: Sequence[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(texts), pa.string()))

    def constant(text: str) -> pa.DictionaryArray:
        return coded(np.zeros(len(log), dtype=np.int32), [text])

    columns: dict[str, Any] = {
        name: constant(str(value)) if isinstance(value, str) else pa.array(np.full(len(log), value, dtype=np.int32))
        for name, value in labels.items()
    }
    columns |= {
        "function": coded(log["function"], names),
        "node": pa.array(log["node"].astype(np.int32)),
        "container": pa.array(log["container"].astype(np.int32)),
        "start_type": coded(log["start_type"], [start.name.lower() for start in StartType]),
        "kept": pa.array(log["kept"].astype(bool)),
        "on_gpu": pa.array(log["on_gpu"].astype(bool)),
        "arrival_us": pa.array(log["arrival_us"]),
    }
    columns |= {f"{stage}_us": pa.array(log[f"{stage}_us"]) for stage in STAGES}
    columns |= {
        "end_us": pa.array(log["end_us"]),
        "status": pa.array(log["status"].astype(np.int8)),
        "activation_id": pa.DictionaryArray.from_arrays(pa.nulls(len(log), pa.int32()), pa.array([], pa.string())),
    }
    return pa.table(columns)


def batches(requests: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Record batches of a requests.parquet, a row group at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(requests) as file:
        yield from file.iter_batches(batch_size=ROW_GROUP, columns=list(columns))


_KEY = ("scenario", "window", "seed", "prewarm", "mode", "policy", "backend")
"""What tells the row of one run from that of another."""


def row_key(row: Mapping[str, Any]) -> Hashable | None:
    """What identifies a row among those of a folder; None if nothing does.

    A run of an evaluation is known by scenario, window, seed, pre-warming, mode, policy and backend, a case of an
    experiment by its axes and its draw.
    """
    if "axes" in row:
        return (*row["axes"].items(), row.get("draw"))
    return tuple(row.get(name) for name in _KEY) if {"policy", "window", "seed"} <= row.keys() else None


def row_label(row: Mapping[str, Any]) -> str:
    """A row's key in words."""
    if "axes" in row:
        return ", ".join(f"{name} {value}" for name, value in {**row["axes"], "draw": row.get("draw")}.items())
    return ", ".join(f"{name} {row[name]}" for name in ("policy", "prewarm", "mode", "window", "seed") if name in row)


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result, where installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Revision of the checkout that this code runs from, marked ``+changes`` if it has any; None outside of one."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return result.stdout.strip()

    try:
        # An installed copy may lie inside somebody else's checkout.
        git("ls-files", "--error-unmatch", here.name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _parquet_options() -> dict[str, Any]:
    times = ["arrival_us", "end_us", *(f"{stage}_us" for stage in STAGES)]
    return {
        "compression": "zstd",
        "use_dictionary": [*LABELS, "window", "seed", "node", "status"],
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    }
