"""What arrives: trace formats, validation, sampling, splits, synthesis.

Times are integer microseconds from the start of the trace.  The names below are loaded on first use, so that importing
this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traces.azure import read_azure2019 as read_azure2019
    from traces.counts import Counts as Counts
    from traces.errors import TraceError as TraceError
    from traces.expansion import expand as expand
    from traces.trace import Trace as Trace
    from traces.trace import TraceMetadata as TraceMetadata
    from traces.windows import Split as Split
    from traces.windows import Window as Window
    from traces.windows import plan_windows as plan_windows

_HOME = {
    "Counts": "counts",
    "Split": "windows",
    "Trace": "trace",
    "TraceError": "errors",
    "TraceMetadata": "trace",
    "Window": "windows",
    "expand": "expansion",
    "plan_windows": "windows",
    "read_azure2019": "azure",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
