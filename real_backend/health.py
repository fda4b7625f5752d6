"""What a run on real containers met beside its requests: faults, lateness, and every invocation it made."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["infer", "load", "transfer", "offload"]


def machine() -> str:
    """Cores and processor."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One order of the core and what became of it; times in us of the run's clock.

    A load that took several calls is one entry; a load or off-load that was overtaken by something else is none.

    Attributes:
        kind: what was ordered.
        function: index of the function.
        container: slot of the container in the core's table.
        order_us: when the core ordered it.
        begin_us: when its turn in the slot came.
        end_us: when the last reply was there.
        warming_us: making and initialising the container.
        clear_us: killing other processes in the container, as the action server measured it, like all that follow.
        library_us: importing the library; of a load the whole, of a run what it waited for.
        model_us: loading the model, likewise.
        transfer_us: moving it to the GPU.
        inference_us: the inference.
        met: index of the start type that a run met, -1 otherwise.
        status: 0 if it went well, else ``real_backend.slots.Status``.
    """

    kind: Kind
    function: int
    container: int
    order_us: int
    begin_us: int
    end_us: int
    warming_us: int
    clear_us: int
    library_us: int
    model_us: int
    transfer_us: int
    inference_us: int
    met: int
    status: int


COLUMNS = tuple(Invocation.__slots__)
"""Names of the values of an invocation in a result row, in their order."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a run met, beside its requests.

    Attributes:
        statuses: requests by how they ended.
        retries: refused or broken calls that were repeated, by reason.
        lost_containers: containers that vanished, or in whose place another one answered.
        silent_containers: those among them that were there, and did not answer for too long.
        run_twice: runs of requests beyond those that were asked for, as the action servers count them.
        perhaps_run_twice: answers of a new container after the platform had tried the old one, which may have begun.
        lost_residents: functions that vanished from a container that lives on, or with it.
        failed_loads: loads that failed.
        failing_loads: those by function, with the last reason.
        postponed_loads: loads that were not tried, so soon after one of the same function had failed.
        keep_warm_calls: calls that only kept containers from being paused.
        keep_warm_ms: what they took, in all.
        late_us: (R,) how late each request was sent.
        decision_us: time of each decision of the core.
        invocations: every order that was carried out, in the order of their ends.
        load_average: the machine's load average (1 min) at the start and now.
        where: what ran it: platform or kind of containers, cores and processor.
    """

    statuses: dict[str, int]
    retries: dict[str, int]
    lost_containers: int
    lost_residents: int
    failed_loads: int
    late_us: NDArray[np.int64]
    decision_us: NDArray[np.float64]
    invocations: Sequence[Invocation]
    load_average: tuple[float, float]
    where: str
    silent_containers: int = 0
    run_twice: int = 0
    perhaps_run_twice: int = 0
    postponed_loads: int = 0
    failing_loads: dict[str, tuple[int, str]] = field(default_factory=dict)
    keep_warm_calls: int = 0
    keep_warm_ms: float = 0.0

    def summary(self) -> dict[str, Any]:
        """As JSON: counts, and percentiles of what there are many of."""
        late_ms = np.percentile(self.late_us, (50, 99, 100)) / 1e3 if len(self.late_us) else np.zeros(3)
        return {
            "statuses": self.statuses,
            "retries": self.retries,
            "lost_containers": self.lost_containers,
            "lost_residents": self.lost_residents,
            "silent_containers": self.silent_containers,
            "run_twice": self.run_twice,
            "perhaps_run_twice": self.perhaps_run_twice,
            "failed_loads": self.failed_loads,
            "failing_loads": {name: list(each) for name, each in self.failing_loads.items()},
            "postponed_loads": self.postponed_loads,
            "keep_warm_calls": self.keep_warm_calls,
            "keep_warm_ms": round(self.keep_warm_ms, 1),
            "late_ms_p50": round(float(late_ms[0]), 3),
            "late_ms_p99": round(float(late_ms[1]), 3),
            "late_ms_max": round(float(late_ms[2]), 3),
            "decision_us_p50": round(float(np.median(self.decision_us)), 1) if len(self.decision_us) else 0.0,
            "load_average": [round(value, 2) for value in self.load_average],
            "where": self.where,
        }

    def table(self) -> dict[str, Any]:
        """Every invocation as JSON: ``columns``, and ``rows`` of values in that order."""
        rows = [[getattr(each, name) for name in COLUMNS] for each in self.invocations]
        return {"columns": list(COLUMNS), "rows": rows}
