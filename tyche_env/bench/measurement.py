"""One figure of a benchmark, how it is timed, and the machine it comes from."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

SPEED = Path(__file__).resolve().parent.parent / "scenarios" / "speed"
"""Folder of the scenarios that speed is measured on."""

_PACKAGES = ("tyche-env", "numba", "llvmlite", "numpy", "gymnasium", "pyarrow")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure.

    Attributes:
        name: what was measured.
        value: median over the repeats.
        unit: of the value.
        reference: what it is compared with, measured in the same run.
        ratio: value / value of the reference.
        goal: the least value that the project promises, or, with ``at_most``, the greatest; None: no promise.
        note: loads and events an invocation, or whatever else the figure depends on.
        at_most: whether less is better.
    """

    name: str
    value: float
    unit: str
    reference: str
    ratio: float
    goal: float | None
    note: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the value is as good as the goal; true without one."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def as_json(self) -> dict[str, Any]:
        """All attributes, and whether the goal is met."""
        return asdict(self) | {"met": self.met}


Benchmark = Callable[[int], Measurement]
"""Takes the number of counted runs."""


def cpu_s_of(run: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    start_s = time.process_time()
    run()
    return time.process_time() - start_s


def median_cpu_s(run: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call, after one that does not count."""
    run()
    return statistics.median(cpu_s_of(run) for _ in range(repeats))


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, memory, versions, and how busy the machine is."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
