"""Any trace file that we can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traces.counts import Counts
from traces.errors import FileName, TraceError
from traces.formats import BUILT_IN, BuiltIn, format_of
from traces.mapped import ColumnMap, read_counted, read_mapped
from traces.packing import refuse_archives, regular
from traces.repairs import BadRows
from traces.tables import Progress, head
from traces.tokens import TokenCost
from traces.trace import Trace

_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
"""How Python's pickles begin, from protocol 2 on."""
_PICKLE_NAMES = (".pickle", ".pkl")


def load(
    path: FileName,
    columns: ColumnMap | None = None,
    progress: Progress | None = None,
    *,
    family: str | None = None,
    durations: FileName | None = None,
    memory: FileName | None = None,
    bad_rows: BadRows = "fail",
    cost: TokenCost | None = None,
) -> Counts | Trace:
    """Read a trace file of any known form.

    Args:
        path: Our Parquet form, or a public trace as its authors publish it (``docs/traces.md``), or a form that an
            installed package adds (``traces.formats``); plain or packed (gzip, bz2, xz, zst, zip); ``-`` is standard
            input, and a pipe will do.
        columns: Which column is what, in a CSV, JSONL or Parquet file of any other form.
        progress: Told how far the reading is.
        family: Name of the form, where the file alone does not tell it.
        durations: The run times that belong to Azure Functions 2019 counts.
        memory: Their memory.
        bad_rows: Whether rows that there is a rule for are refused or mended: of Azure Functions 2019
            (``traces.read_azure2019`` says which), of files with columns and of the families that are presets of such
            (:func:`~traces.mapped.read_mapped`), and of Huawei 2023.
        cost: How tokens become run time, in a trace that has tokens instead.

    Raises:
        TraceError: What the form's own reader refuses, a file that has none of them, or something given that the form
            has no use for.
    """
    if family is not None and columns is not None:
        raise TraceError.at(path, f"family {family} says which column is what; leave the columns out")
    with regular(path) as file:
        _refuse_pickles(file)
        if columns is not None or family in BUILT_IN:
            refuse_archives(file)
        given = {"durations": durations, "memory": memory, "cost": cost, "bad_rows": bad_rows}
        given = {name: value for name, value in given.items() if value not in (None, "fail")}
        if columns is not None:
            return _load_mapped(file, columns, progress, given)
        form = format_of(file, head(file), family)
        takes = form.takes if isinstance(form, BuiltIn) else frozenset()
        for name in given:
            if name not in takes:
                raise TraceError.at(file, _useless(file, name))
        return form.read(file, progress, **given)


def _load_mapped(
    path: FileName, columns: ColumnMap, progress: Progress | None, given: dict[str, Any]
) -> Counts | Trace:
    for name in ("durations", "memory"):
        if name in given:
            raise TraceError.at(path, _useless(path, name))
    if "cost" in given and not columns.has_tokens:
        raise TraceError.at(path, _useless(path, "cost"))
    if columns.count is None:
        return read_mapped(path, columns, progress, **given)
    return read_counted(path, columns, progress, **given)


def _useless(path: FileName, name: str) -> str:
    """That something is given in vain."""
    shown = Path(path).name
    if name == "bad_rows":
        return f"bad_rows: there is no rule for rows of the form that {shown} has; leave it out"
    if name == "cost":
        return f"costs of tokens belong to traces that give numbers of tokens, and {shown} gives none"
    return f"{name} belongs to Azure Functions 2019 counts, and {shown} is of another form"


def _refuse_pickles(path: FileName) -> None:
    """Refuse what runs code when it is read.

    Raises:
        TraceError: It is a pickle.
    """
    if head(path, 2) in _PICKLES or str(path).endswith(_PICKLE_NAMES):
        problem = "is a Python pickle, such as IBM Code Engine's, and reading one runs the code in it: it is not read"
        raise TraceError.at(path, f"{problem}; write its columns as Parquet where that does no harm (docs/traces.md)")
