"""What arrives: trace formats, validation, sampling, splits, synthesis.

Times are integer microseconds from the start of the trace.  The names below are loaded on first use, so that importing
this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traces.azure import read_azure2019 as read_azure2019
    from traces.azure2021 import read_azure2021 as read_azure2021
    from traces.azure_llm import read_azure_llm as read_azure_llm
    from traces.counts import Counts as Counts
    from traces.describe import statistics as statistics
    from traces.errors import TraceError as TraceError
    from traces.expansion import expand as expand
    from traces.files import load as load
    from traces.gentd26 import read_gentd26 as read_gentd26
    from traces.huawei2023 import read_huawei2023 as read_huawei2023
    from traces.huawei2025 import read_huawei2025 as read_huawei2025
    from traces.mapped import ColumnMap as ColumnMap
    from traces.mapped import read_mapped as read_mapped
    from traces.parquet import read_parquet as read_parquet
    from traces.parquet import write_parquet as write_parquet
    from traces.repairs import Repair as Repair
    from traces.sampling import sample as sample
    from traces.synthesis import SynthesisConfig as SynthesisConfig
    from traces.synthesis import synthesize as synthesize
    from traces.tokens import TokenCost as TokenCost
    from traces.trace import Trace as Trace
    from traces.trace import TraceMetadata as TraceMetadata
    from traces.windows import Split as Split
    from traces.windows import Window as Window
    from traces.windows import plan_windows as plan_windows
    from traces.windows import split_functions as split_functions

_HOME = {
    "ColumnMap": "mapped",
    "Counts": "counts",
    "Repair": "repairs",
    "Split": "windows",
    "SynthesisConfig": "synthesis",
    "TokenCost": "tokens",
    "Trace": "trace",
    "TraceError": "errors",
    "TraceMetadata": "trace",
    "Window": "windows",
    "expand": "expansion",
    "load": "files",
    "plan_windows": "windows",
    "read_azure2019": "azure",
    "read_azure2021": "azure2021",
    "read_azure_llm": "azure_llm",
    "read_gentd26": "gentd26",
    "read_huawei2023": "huawei2023",
    "read_huawei2025": "huawei2025",
    "read_mapped": "mapped",
    "read_parquet": "parquet",
    "sample": "sampling",
    "split_functions": "windows",
    "statistics": "describe",
    "synthesize": "synthesis",
    "write_parquet": "parquet",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
