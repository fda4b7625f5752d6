"""The forms of trace files that are recognised by their content, and those that other packages add.

A further form is an entry point of the group ``traces.formats``: an object with ``recognises`` and ``read``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from traces.blame import blaming, home_of, package_of
from traces.counts import Counts
from traces.errors import FileName, TraceError, UserError, did_you_mean
from traces.families import PRESETS, preset_of
from traces.packing import head as head_of
from traces.packing import refuse_archives
from traces.rows import columns_in
from traces.tables import Progress
from traces.trace import Trace

GROUP = "traces.formats"
_SHOWN = 12


@runtime_checkable
class Format(Protocol):
    """A form of trace files."""

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (at most 64 KiB, unpacked) has this form."""

    def read(self, path: FileName, progress: Progress | None = None) -> Counts | Trace:
        """Read a file of this form.

        Raises:
            TraceError: the file is wrong; the message names the place.
        """


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A form that is known by a column of its header, by magic bytes, or by all that its columns are.

    Attributes:
        marks: the columns or bytes, any of which will do; none: files of this form are told by name, or are presets.
        reader: takes file and progress, and as keywords what of ``takes`` is given.
        takes: what its reader has a use for beside the file: durations, memory, bad_rows, cost.
        whole_column: whether the marks are columns.
    """

    marks: tuple[bytes, ...]
    reader: Callable[..., Counts | Trace]
    takes: frozenset[str] = frozenset()
    whole_column: bool = True

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins so has this form."""
        if not self.whole_column:
            return head.startswith(self.marks)
        header = head.partition(b"\n")[0].strip(b"\r\xef\xbb\xbf")
        return any(cell.strip(b'"') in self.marks for cell in header.split(b","))

    def read(self, path: FileName, progress: Progress | None = None, **given: Any) -> Counts | Trace:
        """Read a file of this form."""
        return self.reader(path, progress, **given)


@dataclass(frozen=True, slots=True)
class _Installed:
    """A form of another package, whose errors are called its own; what it refuses it says itself."""

    name: str
    form: Format

    def recognises(self, head: bytes) -> bool:
        with blaming(f"trace format {self.name}", home_of(self.form), passing=(UserError,)):
            return self.form.recognises(head)

    def read(self, path: FileName, progress: Progress | None = None) -> Counts | Trace:
        with blaming(f"trace format {self.name}", home_of(self.form), passing=(UserError,)):
            return self.form.read(path, progress)


def _azure2019(path: FileName, progress: Progress | None, **given: Any) -> Counts:
    from traces.azure import read_azure2019

    return read_azure2019(path, given.pop("durations", None), given.pop("memory", None), progress=progress, **given)


def _azure2021(path: FileName, progress: Progress | None) -> Trace:
    from traces.azure2021 import read_azure2021

    return read_azure2021(path, progress)


def _azure_llm(path: FileName, progress: Progress | None, **given: Any) -> Trace:
    from traces.azure_llm import read_azure_llm

    return read_azure_llm(path, progress=progress, **given)


def _huawei2025(path: FileName, progress: Progress | None) -> Trace:
    from traces.huawei2025 import read_huawei2025

    return read_huawei2025(path, progress)


def _huawei2023(path: FileName, progress: Progress | None, **given: Any) -> Counts:
    from traces.huawei2023 import read_huawei2023

    return read_huawei2023(path, progress, **given)


def _gentd26(path: FileName, progress: Progress | None) -> Trace:
    from traces.gentd26 import read_gentd26

    return read_gentd26(path, progress=progress)


def _parquet(path: FileName, progress: Progress | None) -> Trace:
    from traces.parquet import is_ours, read_parquet

    if not is_ours(path):
        raise _unknown(path)
    return read_parquet(path)


BUILT_IN: dict[str, Format] = {
    "parquet": BuiltIn((b"PAR1",), _parquet, whole_column=False),
    "azure2019": BuiltIn((b"HashFunction",), _azure2019, frozenset({"durations", "memory", "bad_rows"})),
    "gentd26": BuiltIn((b"gmt_create",), _gentd26),
    "azure2021": BuiltIn((b"end_timestamp",), _azure2021),
    "azure-llm": BuiltIn((b"GeneratedTokens",), _azure_llm, frozenset({"cost"})),
    "huawei2025": BuiltIn((b"totalCost_worker", b"totalCost_cold_start"), _huawei2025),
    "huawei2023": BuiltIn((), _huawei2023, frozenset({"bad_rows"})),
    **{name: BuiltIn((), preset.read, frozenset({"bad_rows", "cost"})) for name, preset in PRESETS.items()},
}
"""The forms that come with the package, by name, in the order in which they are tried."""


def formats() -> dict[str, Format]:
    """All forms by name; those of other packages first, so that they may be more particular.

    Raises:
        TraceError: an installed form lacks a method.
        UserCodeError: it cannot be imported.
    """
    found: dict[str, Format] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        with blaming(f"trace format {point.name}: {point.value}", package_of(point.module)):
            loaded = point.load()
            made = loaded() if isinstance(loaded, type) else loaded
        if not isinstance(made, Format):
            raise TraceError(f"trace format {point.name}: {point.value} needs the methods recognises and read")
        found[point.name] = _Installed(point.name, made)
    return found | BUILT_IN


def format_of(path: FileName, head: bytes, family: str | None = None) -> Format:
    """The form of a file.

    Args:
        path: the file.
        head: how it begins.
        family: name of its form, where somebody says so.

    Raises:
        TraceError: none of the known ones.
    """
    known = formats()
    if family is not None:
        if family not in known:
            raise TraceError(f"family {family}: there is no such form of traces; {did_you_mean(family, known)}")
        return known[family]
    for name, form in known.items():
        if name not in BUILT_IN and form.recognises(head):
            return form
    if (preset := preset_of(columns_in(path))) is not None:
        return BUILT_IN[preset]
    for form in BUILT_IN.values():
        if form.recognises(head):
            return form
    raise _unknown(path)


def _unknown(path: FileName) -> TraceError:
    """What to do about a file of no known form."""
    refuse_archives(path)
    columns = columns_in(path)
    if not columns and not head_of(path, 1 << 16).strip():
        return TraceError.at(path, "the file is empty, expected a header and at least one row")
    shown = ", ".join(columns[:_SHOWN]) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")
    problem = f"{Path(path).name} has none of the known forms ({', '.join(formats())})"
    named = f"; its columns are {shown}" if columns else ""
    advice = "--column time=NAME --column function=NAME"
    if columns[:2] == ["day", "time"] and all(name.isdigit() for name in columns[2:]):
        advice += "; or, if it is a table of requests of Huawei 2023: --family huawei2023"
    return TraceError.at(path, f"{problem}{named}; say which column is what: {advice}", row=1)
